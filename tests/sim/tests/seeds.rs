//! A sample of seeds with every check on, and a few of them twice.

use sim::{RunOptions, run, run_all};

/// Fewer simulated seconds than the command's default, so that this stays a matter of seconds without optimization.
const OPTIONS: RunOptions = RunOptions { faults_seconds: 30, keeps_story: false };

#[test]
fn a_sample_of_seeds_is_in_order() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let seeds: Vec<u64> = (0..300).collect();
    let totals = run_all(&seeds, threads, 3, OPTIONS, &|_| {});
    assert!(totals.failures.is_empty(), "{:#?}", totals.failures);
    assert_eq!(totals.seeds, 300);
    assert!(totals.acknowledged > 50_000, "only {} operations were acknowledged", totals.acknowledged);
    assert!(totals.overlapping > 10_000, "only {} operations overlapped", totals.overlapping);
}

#[test]
fn a_seed_is_one_run() {
    for seed in 0..10 {
        let first = run(seed, OPTIONS);
        let second = run(seed, RunOptions { keeps_story: true, ..OPTIONS });
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
        assert_eq!((first.steps, first.ended_us), (second.steps, second.ended_us), "seed {seed}");
    }
}
