//! The crashes and failures at every call of a run that does everything, in more ways, and with a log of how many.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use engine::disk::Operation;

use crate::crash::{calls_of_whole_run, crash_after, fail_at, steps_of_whole_run};
use crate::fault_log::write_section;

/// In how many ways a power cut goes after each change.
const CHOICES: u64 = 100;

/// Tries something at each of so many calls, on several threads. Returns how often it was wrong.
fn at_each(calls: std::ops::RangeInclusive<u64>, threads: usize, try_one: &(dyn Fn(u64) + Sync)) -> usize {
    std::thread::scope(|scope| {
        let run = |thread: usize| {
            let calls = calls.clone().skip(thread).step_by(threads);
            calls.filter(|call| catch_unwind(AssertUnwindSafe(|| try_one(*call))).is_err()).count()
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        running.into_iter().map(|thread| thread.join().expect("what is wrong is caught and counted")).sum()
    })
}

#[test]
#[ignore = "power cuts and failures at every call in many ways, for minutes: cargo faults"]
fn all_crashes_of_a_node_at_length() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (began, mut text, mut wrong_in_all) = (Instant::now(), String::from(HEAD), 0);
    let steps = steps_of_whole_run();
    let wrong = at_each(0..=steps, threads, &|step| crash_after(step, CHOICES));
    let _ = writeln!(text, "| power cut | change | {} | {CHOICES} | {wrong} |", steps + 1);
    wrong_in_all += wrong;
    for operation in [Operation::SyncData, Operation::SyncDirectory] {
        let calls = calls_of_whole_run(operation);
        let wrong = at_each(1..=calls, threads, &|nth| {
            assert!(fail_at(operation, nth, ErrorKind::Other).stopped, "{operation:?} {nth}: it went on");
        });
        let _ = writeln!(
            text,
            "| failure, which stops the node, then a power cut | {operation:?} | {calls} | 1 | {wrong} |"
        );
        wrong_in_all += wrong;
    }
    let full = [Operation::Create, Operation::Write].map(|operation| (operation, ErrorKind::StorageFull, "full disk"));
    let others = [Operation::Create, Operation::Rename, Operation::Remove, Operation::Read, Operation::Open];
    let others = others.map(|operation| (operation, ErrorKind::Other, "failure"));
    for (operation, kind, what) in full.into_iter().chain(others) {
        let calls = calls_of_whole_run(operation);
        let wrong = at_each(1..=calls, threads, &|nth| {
            fail_at(operation, nth, kind);
        });
        let _ = writeln!(text, "| {what}, then a power cut | {operation:?} | {calls} | 1 | {wrong} |");
        wrong_in_all += wrong;
    }
    let _ = writeln!(text, "\nIn {} s on {threads} threads.", began.elapsed().as_secs());
    write_section("Crashes of a node", &text);
    assert_eq!(wrong_in_all, 0);
}

const HEAD: &str = "\
A node appends, rolls, votes, truncates, takes snapshots, cuts its log, and installs a peer's snapshot over a log that
went astray. At each call of its disk that is one of these, one after the other, what is named happens. *Ways*: what
survives of what was not synced is nothing, all, or what luck keeps. *Wrong*: something durable was lost, the node did
not start or took it for damage, or its state did not become that of the others.

| what | at each | calls | ways | wrong |
|---|---|---|---|---|
";
