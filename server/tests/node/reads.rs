//! Reads of each consistency level, by the loop of a node that is a cluster by itself: one at a time and in batches.

use std::sync::Arc;

use bytes::Bytes;
use engine::Consistency;
use engine::disk::MemoryDisk;
use engine::kv::Revision;
use quorate_server::node::{
    Action, ActionResult, Answers, Batch, BatchedOperation, Get, Mark, Pending, ReadError, ReadResult,
};

use crate::member::{Member, get, in_time, put, soon};

/// More than any bound of the engine's patience, and less than a test waits.
const PATIENT_MS: u64 = 10_000;

/// A level of consistency, a least revision, and what comes of a read with them of a state of revision 2.
type Case = (Consistency, u64, Expected);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    /// It is answered, and told how old the state was.
    Aged,
    /// It is answered.
    Found,
    TooStale,
    Ahead,
}

const CASES: [Case; 8] = [
    (Consistency::Linearizable, 0, Expected::Found),
    (Consistency::Linearizable, 2, Expected::Found),
    (Consistency::Linearizable, 3, Expected::Ahead),
    (Consistency::Quorum, 2, Expected::Found),
    (Consistency::Stale { max_age_ms: Some(1) }, 0, Expected::Aged),
    (Consistency::Stale { max_age_ms: Some(PATIENT_MS) }, 2, Expected::Aged),
    (Consistency::Stale { max_age_ms: Some(PATIENT_MS) }, 3, Expected::TooStale),
    (Consistency::Stale { max_age_ms: None }, 3, Expected::TooStale),
];

fn case(&(consistency, min_revision, _): &Case) -> Get {
    Get { consistency, min_revision: Revision::new(min_revision), ..get("a") }
}

#[track_caller]
fn check((consistency, min_revision, expected): Case, result: Result<ReadResult, ReadError>) {
    let found = match &result {
        Ok(ReadResult { kv: Some(_), revision: 2, age_ms: Some(_), .. }) => Some(Expected::Aged),
        Ok(ReadResult { kv: Some(_), revision: 2, age_ms: None, .. }) => Some(Expected::Found),
        // Who leads alone knows how old its state is.
        Err(ReadError::TooStale { age_ms: Some(_), revision: 2 }) => Some(Expected::TooStale),
        Err(ReadError::RevisionAhead { revision: 2, min_revision: 3 }) => Some(Expected::Ahead),
        _ => None,
    };
    assert_eq!(found, Some(expected), "{consistency:?}, at least {min_revision}: {result:?}");
}

async fn member() -> Member {
    let node = Member::alone(Arc::new(MemoryDisk::new()));
    node.until_leading().await;
    let written = node.handle.write(put("a"), soon()).await.expect("a leader writes");
    assert_eq!(written.revision, 2);
    node
}

#[tokio::test]
async fn each_level_asks_for_what_it_needs() {
    let node = member().await;
    for wanted in CASES {
        check(wanted, node.handle.read(case(&wanted), soon()).await);
    }
}

#[tokio::test]
async fn each_level_asks_for_the_same_in_a_batch() {
    let node = member().await;
    let answers = Answers::new();
    let pending = Arc::new(Pending::new(CASES.len(), &answers));
    let operation = |(tag, wanted)| {
        let (mark, action) = (Mark { tag, sequence: tag }, Action::Read(case(wanted)));
        BatchedOperation { mark, action, deadline: soon().deadline, trace: None }
    };
    let operations = (0..).zip(&CASES).map(operation).collect();
    node.handle.submit_batch(Batch::new(operations, pending)).expect("the node takes it");
    let (mut count, mut answered) = (0, Vec::new());
    while count < CASES.len() {
        in_time("an answer", answers.arrived()).await;
        answers.take(&mut answered);
        for answer in answered.drain(..) {
            let ActionResult::Read { key, result } = answer.result else { panic!("a read was asked for") };
            assert_eq!(key, Bytes::from_static(b"a"));
            let at = usize::try_from(answer.mark.tag).expect("it was given out here");
            check(CASES[at], result);
            count += 1;
        }
    }
}
