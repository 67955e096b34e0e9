//! A history that is written down is read back as it was.

use lincheck::{
    Budget, Completion, Operation, Verdict,
    formats::{Format, Histories, Keys, to_jsonl},
    kv::{Call, Mode, Output},
};

type KeyOperation = Operation<Call<String>, Output<String>>;

fn put(value: &str, mode: Mode) -> Call<String> {
    Call::Put { value: value.to_owned(), mode }
}

/// Every call, every answer that belongs to it, and every way not to be answered.
fn one_of_each() -> Vec<(Call<String>, Completion<Output<String>>)> {
    let found = |value: &str, version, revision| Output::Found { value: value.to_owned(), version, revision };
    let compare = Mode::Compare { expected: 7 };
    let definite = [
        (put("x", Mode::Create), Output::Put { version: Some(1), revision: Some(3) }),
        (put("\"\n\u{0}\u{1f}é鍵", Mode::Upsert), Output::Put { version: None, revision: None }),
        (put("", Mode::Update), Output::Missing),
        (put("y", Mode::Create), Output::Exists { revision: Some(u64::MAX) }),
        (put("y", Mode::Create), Output::Exists { revision: None }),
        (put("y", compare), Output::Mismatch { actual: Some(6) }),
        (Call::Get, found("", Some(2), Some(9))),
        (Call::Get, found("error", None, None)),
        (Call::Get, Output::Missing),
        (Call::Delete { expected: None }, Output::Deleted { previous: Some("x".to_owned()) }),
        (Call::Delete { expected: Some(7) }, Output::Deleted { previous: None }),
        (Call::Delete { expected: Some(7) }, Output::Mismatch { actual: None }),
        (Call::Delete { expected: None }, Output::Missing),
    ];
    let calls = definite.clone().map(|(call, _)| call);
    let mut all: Vec<_> = definite.map(|(call, output)| (call, Completion::Definite(output))).into();
    for call in calls {
        all.extend([Completion::Unknown, Completion::Failed].map(|completion| (call.clone(), completion)));
    }
    all
}

fn history(key_count: u64, operations: Vec<(Call<String>, Completion<Output<String>>)>) -> Keys {
    let mut keys = Keys::new();
    for (number, (call, completion)) in (0..).zip(operations) {
        let end = if completion == Completion::Unknown { u64::MAX } else { 10 * number + 5 };
        let operation = Operation { process: number, call, completion, begin: 10 * number, end };
        keys.push(format!("key {}", number % key_count), operation);
    }
    keys
}

fn read_back(keys: &Keys) -> Histories {
    Histories::read(Format::Jsonl, &to_jsonl(keys)).expect("what is written can be read")
}

#[test]
fn every_operation_is_read_as_it_was_written() {
    let keys = history(3, one_of_each());
    let read = read_back(&keys);
    let operations = |keys: &Keys| keys.operations().cloned().collect::<Vec<(String, KeyOperation)>>();
    assert_eq!(operations(&read.keys), operations(&keys));
    assert_eq!(read.len(), keys.len());
}

#[test]
fn an_unknown_delete_and_a_refused_put_keep_their_meaning() {
    let found = || Completion::Definite(Output::Found { value: "x".to_owned(), version: Some(1), revision: Some(1) });
    let missing = || Completion::Definite(Output::Missing);
    let created = Completion::Definite(Output::Put { version: Some(1), revision: Some(1) });
    let create = (put("x", Mode::Create), created);
    let late = |delete| {
        let delete = (Call::Delete { expected: None }, delete);
        history(1, vec![create.clone(), delete, (Call::Get, found()), (Call::Get, missing())])
    };
    let verdict = |keys: Keys| read_back(&keys).check(Budget::default()).verdict;
    assert_eq!(verdict(late(Completion::Unknown)), Verdict::Ok);
    assert_eq!(verdict(late(Completion::Failed)), Verdict::Illegal);
    let refused = vec![(put("x", Mode::Create), Completion::Failed), (Call::Get, found())];
    assert_eq!(verdict(history(1, refused)), Verdict::Illegal);
}

#[test]
fn an_end_before_the_begin_can_be_read_too() {
    let mut keys = Keys::new();
    let completion = Completion::Definite(Output::Missing);
    keys.push("k".to_owned(), Operation { process: 0, call: Call::Get, completion, begin: 5, end: 4 });
    assert_eq!(read_back(&keys).check(Budget::default()).verdict, Verdict::Ok);
}
