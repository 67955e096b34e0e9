//! On small histories the checker says what brute force says.

use lincheck::{Budget, Completion, Model, Operation, Verdict, check};

use crate::{
    brute_force,
    random::Random,
    subjects::{Kv, Performed, Register, Subject, Text},
};

const HISTORIES: u64 = 100_000;

const OPERATIONS_MAX: u64 = 8;

/// Few, so that operations touch and overlap.
const TIMES: u64 = 14;

/// A history of up to eight operations that really ran in an order that fits their times; in every other one, some
/// answers were replaced by any.
fn history<S: Subject>(random: &mut Random) -> Vec<Performed<S>> {
    let mut subject = S::default();
    let count = 1 + random.below(OPERATIONS_MAX);
    // When each operation begins, takes effect and ends.
    let mut times: Vec<[u64; 3]> = (0..count)
        .map(|_| {
            let mut times = [0; 3].map(|_: u64| random.below(TIMES));
            times.sort_unstable();
            times
        })
        .collect();
    times.sort_by_key(|times| times[1]);
    let mut operations: Vec<Performed<S>> = Vec::new();
    for (process, [begin, _, end]) in (0..).zip(times) {
        let call = S::call(random, None);
        let completion = match random.below(10) {
            0 => Completion::Failed,
            1..4 => {
                // It may have happened, perhaps long after its client gave up.
                if random.percent(60) {
                    subject.perform(&call);
                }
                Completion::Unknown
            }
            _ => Completion::Definite(subject.perform(&call)),
        };
        let begin = if completion == Completion::Unknown { random.below(begin + 1) } else { begin };
        operations.push(Operation { process, call, completion, begin, end });
    }
    if random.percent(60) {
        for _ in 0..=random.below(2) {
            let operation = random.index(operations.len());
            let operation = &mut operations[operation];
            if matches!(operation.completion, Completion::Definite(_)) {
                operation.completion = Completion::Definite(S::answer(random, &operation.call));
            }
        }
    }
    operations
}

fn agrees<S: Subject>(seed: u64) {
    let model = S::model();
    let mut random = Random::new(seed);
    let mut legal = 0;
    for number in 0..HISTORIES {
        let mut operations = history::<S>(&mut random);
        // The checker must not rely on the order in which operations are recorded.
        let (a, b) = (random.index(operations.len()), random.index(operations.len()));
        operations.swap(a, b);
        let verdict = check(&model, &operations, Budget::default()).verdict;
        let expected = if brute_force::is_linearizable(&model, &operations) { Verdict::Ok } else { Verdict::Illegal };
        assert_eq!(verdict, expected, "history {number} of seed {seed}: {operations:#?}");
        legal += u64::from(verdict == Verdict::Ok);
    }
    let share = legal * 100 / HISTORIES;
    assert!((20..=90).contains(&share), "{share} % of the histories are legal: they show little");
}

#[test]
fn registers_agree_with_brute_force() {
    agrees::<Register>(1);
}

#[test]
fn keys_agree_with_brute_force() {
    agrees::<Kv>(2);
}

#[test]
fn texts_agree_with_brute_force() {
    agrees::<Text>(3);
}

/// Whoever may have done something more explains no less.
fn an_unknown_operation_harms_nobody<S: Subject>(seed: u64) {
    let model = S::model();
    let mut random = Random::new(seed);
    for _ in 0..HISTORIES / 5 {
        let mut operations = history::<S>(&mut random);
        if check(&model, &operations, Budget::default()).verdict != Verdict::Ok {
            continue;
        }
        for _ in 0..=random.below(3) {
            let call = S::call(&mut random, None);
            let begin = random.below(TIMES);
            operations.push(Operation { process: 99, call, completion: Completion::Unknown, begin, end: 0 });
        }
        assert_eq!(check(&model, &operations, Budget::default()).verdict, Verdict::Ok, "{operations:#?}");
    }
}

#[test]
fn an_unknown_operation_never_makes_a_history_illegal() {
    an_unknown_operation_harms_nobody::<Register>(4);
    an_unknown_operation_harms_nobody::<Kv>(5);
    an_unknown_operation_harms_nobody::<Text>(6);
}

#[test]
fn an_answer_that_becomes_unknown_never_makes_a_history_illegal() {
    fn forget<S: Subject>(seed: u64) {
        let mut random = Random::new(seed);
        for _ in 0..HISTORIES / 10 {
            let mut operations = history::<S>(&mut random);
            if check(&S::model(), &operations, Budget::default()).verdict == Verdict::Ok {
                let number = random.index(operations.len());
                if operations[number].completion != Completion::Failed {
                    operations[number].completion = Completion::Unknown;
                }
                assert_eq!(check(&S::model(), &operations, Budget::default()).verdict, Verdict::Ok, "{operations:#?}");
            }
        }
    }
    forget::<Register>(7);
    forget::<Kv>(8);
    forget::<Text>(9);
}

#[test]
fn a_budget_that_runs_out_is_never_a_verdict() {
    fn starve<M: Model, S: Subject<Model = M>>(seed: u64) {
        let mut random = Random::new(seed);
        for _ in 0..HISTORIES / 50 {
            let operations = history::<S>(&mut random);
            let full = check(&S::model(), &operations, Budget::default());
            for steps in 0..full.steps {
                let verdict = check(&S::model(), &operations, Budget::steps(steps)).verdict;
                assert!(verdict == Verdict::Unknown || verdict == full.verdict, "{steps} steps: {operations:#?}");
            }
            let memory = Budget { memory_bytes: 0, ..Budget::default() };
            let verdict = check(&S::model(), &operations, memory).verdict;
            assert!(verdict == Verdict::Unknown || verdict == full.verdict, "{operations:#?}");
        }
    }
    starve::<_, Register>(10);
    starve::<_, Kv>(11);
}
