//! The small suite is exhausted, and nothing is found.

use explorer::{Bounds, BoundsError, Invariant, Search, Suite, explore};

const THREADS: usize = 2;

#[test]
fn the_small_suite_is_exhausted_without_a_violation() {
    let mut states = 0;
    for Search { name, bounds } in Suite::Small.searches() {
        let report = explore(&bounds, THREADS, &|_| {}).expect("the suite's bounds make sense");
        assert_eq!(report.violation, None, "{name}");
        assert!(report.exhausted, "{name}: gave up after {} states", report.states);
        states += report.states;
    }
    assert!(states > 500_000, "only {states} states: much of what can happen is no longer tried");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let search = &Suite::Small.searches()[0];
    let bounds = Bounds { slow_disks: false, ..search.bounds.clone() };
    let of = |threads| {
        let report = explore(&bounds, threads, &|_| {}).expect("the suite's bounds make sense");
        (report.states, report.transitions, report.depth, report.exhausted, report.node_states)
    };
    assert_eq!(of(1), of(3));
}

#[test]
fn a_search_that_gives_up_says_so() {
    let bounds = Bounds { states_max: 1_000, ..Bounds::default() };
    let report = explore(&bounds, THREADS, &|_| {}).expect("the bounds make sense");
    assert!(!report.exhausted && report.violation.is_none() && report.states >= 1_000);
}

#[test]
fn clusters_of_other_sizes_are_explored_too() {
    for nodes in [1, 2, 5] {
        let bounds = Bounds { nodes, timeouts: 1, proposals: 0, crashes: 0, states_max: 50_000, ..Bounds::default() };
        let report = explore(&bounds, THREADS, &|_| {}).expect("the bounds make sense");
        assert_eq!(report.violation, None, "{nodes} nodes");
        assert!(report.states > 1, "{nodes} nodes: {report:?}");
    }
}

#[test]
fn bounds_that_make_no_sense_are_refused() {
    let of = |bounds: Bounds| explore(&bounds, THREADS, &|_| {}).expect_err("they make no sense");
    assert_eq!(of(Bounds { nodes: 0, ..Bounds::default() }), BoundsError::Nodes(0));
    assert_eq!(of(Bounds { terms: 8, ..Bounds::default() }), BoundsError::Terms(8));
    assert_eq!(of(Bounds { proposals: 27, ..Bounds::default() }), BoundsError::Proposals(27));
}

#[test]
fn every_suite_looks_for_everything() {
    for suite in [Suite::Small, Suite::Ci, Suite::Release] {
        assert!(suite.searches().iter().all(|search| search.bounds.invariants == Invariant::ALL));
    }
    assert_eq!(Suite::from_name("ci"), Some(Suite::Ci));
    assert_eq!(Suite::from_name("nonsense"), None);
}
