//! The cases that every checker has to know, each with its name in the literature.

use lincheck::{Budget, Check, Completion, Explanation, History, Operation, Verdict, check};
use lincheck::{
    kv,
    register::{Call, Output, Register},
};

type Done = Operation<Call<u64>, Output<u64>>;

fn operation(call: Call<u64>, completion: Completion<Output<u64>>, begin: u64, end: u64) -> Done {
    Operation { process: begin, call, completion, begin, end }
}

fn read(value: u64, begin: u64, end: u64) -> Done {
    operation(Call::Read, Completion::Definite(Output::Value(value)), begin, end)
}

fn write(value: u64, begin: u64, end: u64) -> Done {
    operation(Call::Write(value), Completion::Definite(Output::Written), begin, end)
}

fn cas(from: u64, to: u64, output: Output<u64>, begin: u64, end: u64) -> Done {
    operation(Call::Cas { from, to }, Completion::Definite(output), begin, end)
}

fn lost(call: Call<u64>, begin: u64) -> Done {
    operation(call, Completion::Unknown, begin, begin + 1)
}

fn run(operations: &[Done]) -> Check {
    check(&Register::new(0), operations, Budget::default())
}

#[track_caller]
fn legal(operations: &[Done]) {
    let outcome = run(operations);
    assert_eq!(outcome.verdict, Verdict::Ok);
    assert_eq!(outcome.explanation, None);
}

#[track_caller]
fn illegal(operations: &[Done]) -> Explanation {
    let outcome = run(operations);
    assert_eq!(outcome.verdict, Verdict::Illegal);
    outcome.explanation.expect("what is illegal is explained")
}

#[test]
fn nothing_is_legal() {
    legal(&[]);
    legal(&[lost(Call::Write(1), 0)]);
    legal(&[operation(Call::Write(1), Completion::Failed, 0, 1), read(0, 2, 3)]);
}

#[test]
fn a_stale_read_is_illegal() {
    illegal(&[write(1, 0, 1), read(0, 2, 3)]);
    illegal(&[write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)]);
    legal(&[write(1, 0, 1), write(2, 2, 5), read(1, 4, 6)]);
}

#[test]
fn a_read_of_the_future_is_illegal() {
    illegal(&[read(1, 0, 1), write(1, 2, 3)]);
    legal(&[read(1, 0, 2), write(1, 2, 3)]);
}

#[test]
fn reads_that_go_back_are_illegal() {
    let write = write(1, 0, 10);
    legal(&[write.clone(), read(0, 1, 2), read(1, 3, 4)]);
    illegal(&[write, read(1, 1, 2), read(0, 3, 4)]);
}

#[test]
fn a_lost_update_is_illegal() {
    let swapped = |to, begin, end| cas(0, to, Output::Swapped, begin, end);
    illegal(&[swapped(1, 0, 5), swapped(2, 1, 6)]);
    legal(&[swapped(1, 0, 5), cas(0, 2, Output::NotSwapped, 1, 6)]);
    illegal(&[write(1, 0, 5), write(2, 1, 6), read(1, 7, 8), read(2, 9, 10)]);
}

#[test]
fn write_skew_on_a_register_is_illegal() {
    // Each read what the other one was about to replace, and wrote.
    illegal(&[read(0, 0, 1), read(0, 0, 1), cas(0, 1, Output::Swapped, 2, 9), cas(0, 2, Output::Swapped, 3, 8)]);
}

#[test]
fn clients_that_disagree_about_the_order_are_illegal() {
    let writes = [write(1, 0, 20), write(2, 0, 20)];
    let agree = [read(1, 1, 2), read(2, 3, 4), read(1, 1, 2), read(2, 3, 4)];
    legal(&[&writes[..], &agree].concat());
    let disagree = [read(1, 1, 8), read(2, 9, 10), read(2, 1, 8), read(1, 9, 10)];
    illegal(&[&writes[..], &disagree].concat());
}

#[test]
fn a_comparison_that_failed_saw_another_value() {
    illegal(&[write(1, 0, 1), cas(1, 2, Output::NotSwapped, 2, 3)]);
    legal(&[write(1, 0, 1), write(3, 2, 3), cas(1, 2, Output::NotSwapped, 2, 3)]);
}

#[test]
fn a_timeout_may_take_effect_late_or_never_but_only_once() {
    let timeout = lost(Call::Write(1), 0);
    legal(&[timeout.clone(), read(0, 2, 3)]);
    legal(&[timeout.clone(), read(0, 2, 3), read(1, 4, 5)]);
    legal(&[timeout.clone(), write(2, 2, 3), read(2, 4, 5), read(1, 6, 7)]);
    illegal(&[timeout.clone(), read(1, 2, 3), write(2, 4, 5), read(1, 6, 7)]);
    legal(&[timeout.clone(), timeout.clone(), read(1, 2, 3), write(2, 4, 5), read(1, 6, 7)]);
    illegal(&[read(1, 0, 1), lost(Call::Write(1), 2)]);
    illegal(&[timeout.clone(), read(1, 2, 3), read(0, 4, 5)]);
}

#[test]
fn timeouts_can_depend_on_each_other() {
    let chain = [lost(Call::Cas { from: 2, to: 3 }, 0), lost(Call::Cas { from: 1, to: 2 }, 0), lost(Call::Write(1), 0)];
    legal(&[&chain[..], &[read(3, 5, 6)]].concat());
    illegal(&[&chain[..], &[read(3, 5, 6), read(2, 7, 8)]].concat());
    legal(&[&chain[..], &[read(0, 5, 6), read(2, 7, 8), read(3, 9, 10)]].concat());
}

#[test]
fn the_explanation_names_what_cannot_be_placed() {
    let mut history = vec![write(1, 0, 1), write(2, 2, 3)];
    history.extend((0..30).map(|number| read(2, 4 + 2 * number, 5 + 2 * number)));
    history.extend([read(1, 70, 71), read(2, 72, 73)]);
    let explanation = illegal(&history);
    assert_eq!(explanation.placed_before + explanation.placed.len(), 32);
    assert_eq!(explanation.placed.len(), Explanation::PLACED_MAX);
    assert_eq!(explanation.state, "2");
    assert_eq!(explanation.stuck, ["[70..71] process 70: Read -> Value(1)"]);
    assert_eq!(explanation.unplaced, 2);
}

#[test]
fn each_key_is_judged_alone() {
    let mut history = History::new();
    let create = |value| kv::Call::Put { value, mode: kv::Mode::Create };
    let put = kv::Output::Put { version: Some(1), revision: None };
    for key in ["a", "b"] {
        let (one, two) = (history.invoke(1, key, create(1)), history.invoke(2, key, create(2)));
        history.complete(one, Completion::Definite(put.clone()));
        let two_is = if key == "a" { kv::Output::Exists { revision: None } } else { put.clone() };
        history.complete(two, Completion::Definite(two_is));
        // Only the first completion counts.
        history.complete(one, Completion::Failed);
    }
    let report = history.check(&kv::Kv::new(), Budget::default());
    assert_eq!(report.verdict, Verdict::Illegal);
    assert_eq!(report.findings.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["b"]);
    assert_eq!((history.len(), history.definite(), history.overlapping()), (4, 4, 2));
}

#[test]
fn a_key_that_compares_revisions_tells_lost_updates() {
    let mut history = History::new();
    let mut done = |process, call, output| {
        let id = history.invoke(process, "k", call);
        history.complete(id, Completion::Definite(output));
    };
    let compare = |value| kv::Call::Put { value, mode: kv::Mode::Compare { expected: 5 } };
    done(
        1,
        kv::Call::Put { value: "x", mode: kv::Mode::Create },
        kv::Output::Put { version: Some(1), revision: Some(5) },
    );
    done(1, compare("y"), kv::Output::Put { version: Some(2), revision: Some(6) });
    let good = history.clone();
    assert_eq!(good.check(&kv::Kv::new(), Budget::default()).verdict, Verdict::Ok);
    let id = history.invoke(2, "k", compare("z"));
    history.complete(id, Completion::Definite(kv::Output::Put { version: Some(3), revision: Some(7) }));
    assert_eq!(history.check(&kv::Kv::new(), Budget::default()).verdict, Verdict::Illegal);
}
