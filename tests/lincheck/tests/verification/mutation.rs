//! Long histories that are right by construction pass; with one answer changed so that no order can explain it, they do
//! not.

use lincheck::{Budget, Completion, Operation, Verdict, check};

use crate::{
    random::Random,
    subjects::{Kv, Performed, Register, Subject, Text},
};

const HISTORIES: usize = 10_000;

const OPERATIONS_MAX: u64 = 60;

const PROCESSES: u64 = 5;

/// What concurrent processes are told by an object that runs each operation at one moment between its call and its
/// answer. Every written value is unique.
fn good<S: Subject>(random: &mut Random, count: u64, processes: u64, unknown_percent: u64) -> Vec<Performed<S>> {
    let mut subject = S::default();
    let mut operations: Vec<Performed<S>> = Vec::new();
    // Of each process, its open operation, and whether that has taken effect.
    let mut open: Vec<Option<(usize, bool)>> = (0..processes).map(|_| None).collect();
    // Unknown to their clients, and still on their way.
    let mut late: Vec<usize> = Vec::new();
    let mut answers = Vec::new();
    let mut clock = 0;
    while (answers.len() as u64) < count || open.iter().any(Option::is_some) {
        clock += 1;
        let process = random.index(open.len());
        match open[process] {
            None if (answers.len() as u64) < count => {
                let call = S::call(random, Some(1 + answers.len() as u64));
                let operation =
                    Operation { process: process as u64, call, completion: Completion::Unknown, begin: clock, end: 0 };
                open[process] = Some((operations.len(), false));
                operations.push(operation);
                answers.push(None);
            }
            None => {}
            Some((number, false)) if random.percent(unknown_percent) => {
                late.push(number);
                open[process] = None;
            }
            Some((number, false)) => {
                answers[number] = Some(subject.perform(&operations[number].call));
                open[process] = Some((number, true));
            }
            Some((number, true)) => {
                if !random.percent(unknown_percent) {
                    operations[number].completion =
                        Completion::Definite(answers[number].clone().expect("it took effect"));
                    operations[number].end = clock;
                }
                open[process] = None;
            }
        }
        if !late.is_empty() && random.percent(10) {
            let number = late.swap_remove(random.index(late.len()));
            if random.percent(70) {
                subject.perform(&operations[number].call);
            }
        }
    }
    operations
}

/// Changes one answer so that no order explains it.
fn spoil<S: Subject>(random: &mut Random, operations: &mut [Performed<S>]) -> bool {
    let definite = |operation: &Performed<S>| matches!(operation.completion, Completion::Definite(_));
    let number = random.index(operations.len());
    let operation = &operations[number];
    if !definite(operation) {
        return false;
    }
    if !S::is_read(&operation.call) || random.percent(50) {
        let Some(answer) = S::impossible(operation) else { return false };
        operations[number].completion = Completion::Definite(answer);
        return true;
    }
    // A stale read: the value was overwritten by a write that began after it was written and ended before the read.
    let mut stale = operations.iter().filter_map(|write| {
        let overwritten = operations
            .iter()
            .any(|other| S::overwrites(other) && write.end < other.begin && other.end < operation.begin);
        S::reading(write).filter(|_| overwritten)
    });
    let Some(answer) = stale.next() else { return false };
    operations[number].completion = Completion::Definite(answer);
    true
}

fn spoilt_histories_are_rejected<S: Subject>(seed: u64) {
    let model = S::model();
    let mut random = Random::new(seed);
    let mut rejected = 0;
    while rejected < HISTORIES {
        let count = 2 + random.below(OPERATIONS_MAX);
        let processes = 1 + random.below(PROCESSES);
        let unknown_percent = random.below(4) * 4;
        let mut operations = good::<S>(&mut random, count, processes, unknown_percent);
        let verdict = check(&model, &operations, Budget::default()).verdict;
        assert_eq!(verdict, Verdict::Ok, "{operations:#?}");
        if spoil::<S>(&mut random, &mut operations) {
            let verdict = check(&model, &operations, Budget::default()).verdict;
            assert_eq!(verdict, Verdict::Illegal, "{operations:#?}");
            rejected += 1;
        }
    }
}

#[test]
fn spoilt_histories_of_registers_are_rejected() {
    spoilt_histories_are_rejected::<Register>(21);
}

#[test]
fn spoilt_histories_of_keys_are_rejected() {
    spoilt_histories_are_rejected::<Kv>(22);
}

#[test]
fn spoilt_histories_of_texts_are_rejected() {
    spoilt_histories_are_rejected::<Text>(23);
}

/// Long histories: the search must stay close to their length.
#[test]
fn long_good_histories_pass() {
    fn long<S: Subject>(seed: u64, count: u64, unknown_percent: u64) {
        let operations = good::<S>(&mut Random::new(seed), count, 10, unknown_percent);
        let outcome = check(&S::model(), &operations, Budget::steps(count * 1000));
        assert_eq!(outcome.verdict, Verdict::Ok);
    }
    long::<Register>(31, 10_000, 0);
    long::<Register>(32, 10_000, 1);
    long::<Kv>(33, 10_000, 0);
    long::<Kv>(34, 10_000, 1);
    long::<Text>(35, 2_000, 0);
    long::<Text>(36, 2_000, 1);
}

/// One key of a cluster that often fails: many answers are lost, and still every history is decided.
#[test]
fn histories_with_many_lost_answers_are_decided() {
    fn decide<S: Subject>(seed: u64) {
        let mut random = Random::new(seed);
        for _ in 0..100 {
            // In percent of the answers; as many are lost on the way to the object.
            let lost = 1 + random.below(8);
            let mut operations = good::<S>(&mut random, 250, 8, lost);
            let verdict = check(&S::model(), &operations, Budget::default()).verdict;
            assert_eq!(verdict, Verdict::Ok, "{operations:#?}");
            if spoil::<S>(&mut random, &mut operations) {
                let verdict = check(&S::model(), &operations, Budget::default()).verdict;
                assert_eq!(verdict, Verdict::Illegal, "{operations:#?}");
            }
        }
    }
    decide::<Register>(41);
    decide::<Kv>(42);
}
