//! What clients ask and are told, recorded as it happens, and judged as one history.
//!
//! The record is honest about what is not known. An operation is unknown from the moment it is sent; what becomes of it
//! is only what the answer says: an error that tells about the key (it exists, it is missing, it has another revision)
//! is an answer like any other, an error that says `NOT_APPLIED` a refusal, and everything else leaves the operation
//! unknown for ever.

use crate::{
    binaries,
    cluster::Cluster,
    rpc::{self, Failure, Outcome},
    wait::wait_for,
};
use lincheck::{
    Budget, Completion, Operation, Verdict,
    formats::{self, Keys},
    kv::{Call, Kv, Mode, Output},
};
use proto::kv::v1::{
    DeleteRequest, DeleteResponse, GetRequest, GetResponse, PutMode, PutRequest, PutResponse,
    kv_service_client::KvServiceClient,
};
use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tonic::{Code, Status, transport::Channel};

/// What a key's search may cost: some seconds. A healthy history takes a few steps an operation.
const STEPS_MAX: u64 = 50_000_000;

/// The number in the record of the first client that reads at the end; far from those of the others.
const READERS_FROM: u64 = 1_000;

/// An operation on one of Quorate's keys.
type KeyOperation = Operation<Call<String>, Output<String>>;

/// The record of one test.
#[derive(Debug)]
pub struct Recorder {
    name: String,
    clock: Instant,
    operations: Mutex<Vec<(String, KeyOperation)>>,
}

/// What a history has to have for its verdict to mean something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Least {
    /// Operations with a definite answer.
    pub definite: usize,
    /// Those of them that began while another one on the same key was open.
    pub overlapping: usize,
}

/// What a call told of its key.
trait Told {
    fn output(&self) -> Output<String>;
}

impl Recorder {
    /// Without operations. The name is that of the file to which a history goes that is not in order.
    pub fn new(name: &str) -> Arc<Recorder> {
        Arc::new(Recorder { name: name.to_owned(), clock: Instant::now(), operations: Mutex::default() })
    }

    /// A put by a client, which its number names in the record.
    pub async fn put(&self, client: u64, channel: &Channel, request: PutRequest) -> Result<PutResponse, Status> {
        let mode = match (request.mode(), request.expected_revision) {
            (PutMode::Unspecified | PutMode::Create, _) => Mode::Create,
            (PutMode::Upsert, _) => Mode::Upsert,
            (PutMode::Update, _) => Mode::Update,
            (PutMode::Compare, expected) => Mode::Compare { expected: expected.expect("a compare has a revision") },
        };
        let call = Call::Put { value: text(&request.value), mode };
        let id = self.begin(client, &request.key, call);
        self.end(id, rpc::bounded(KvServiceClient::new(channel.clone()).put(request)).await)
    }

    /// A linearizable get by a client.
    pub async fn get(&self, client: u64, channel: &Channel, request: GetRequest) -> Result<GetResponse, Status> {
        let id = self.begin(client, &request.key, Call::Get);
        self.end(id, rpc::bounded(KvServiceClient::new(channel.clone()).get(request)).await)
    }

    /// A delete by a client.
    pub async fn delete(
        &self,
        client: u64,
        channel: &Channel,
        request: DeleteRequest,
    ) -> Result<DeleteResponse, Status> {
        let id = self.begin(client, &request.key, Call::Delete { expected: request.expected_revision });
        self.end(id, rpc::bounded(KvServiceClient::new(channel.clone()).delete(request)).await)
    }

    /// Reads every key of the record through every node, each until it is answered: a lost write or a resurrected
    /// delete shows here, if not before.
    pub async fn read_every_key(self: &Arc<Recorder>, cluster: &Cluster) {
        let keys: BTreeSet<String> = self.operations().iter().map(|(key, _)| key.clone()).collect();
        let mut unread: Vec<_> = cluster.nodes.iter().map(|_| keys.clone()).collect();
        wait_for("every key is read through every node", async || {
            let readers: Vec<_> = (READERS_FROM..)
                .zip(cluster.nodes.iter().zip(&unread))
                .map(|(client, (node, keys))| tokio::spawn(read(self.clone(), client, node.channel(), keys.clone())))
                .collect();
            for (unread, reader) in unread.iter_mut().zip(readers) {
                *unread = reader.await.expect("a reader does not panic");
            }
            unread.iter().all(BTreeSet::is_empty).then_some(())
        })
        .await;
    }

    /// Panics unless one order of events explains every answer, and there were enough to mean something.
    #[track_caller]
    pub fn judge(&self, least: Least) {
        let directory = binaries::target_directory().join("tmp");
        let found = self.check(&directory).unwrap_or_else(|finding| panic!("{finding}"));
        eprintln!("{}: {found}", self.name);
        let is_busy = found.definite >= least.definite && found.overlapping >= least.overlapping;
        assert!(is_busy, "{}: only {found}, where {least} are the least", self.name);
    }

    /// What the history has, if it is in order; else why not, and in which file of `directory` it is.
    fn check(&self, directory: &Path) -> Result<Least, Finding> {
        let mut keys = Keys::new();
        for (key, operation) in self.operations().iter() {
            keys.push(key.clone(), operation.clone());
        }
        let report = keys.check(&Kv::new(), Budget::steps(STEPS_MAX));
        if report.verdict == Verdict::Ok {
            return Ok(Least { definite: keys.definite(), overlapping: keys.overlapping() });
        }
        let file = directory.join(format!("history-{}-{}.jsonl", self.name, std::process::id()));
        fs::create_dir_all(directory).expect("a directory can be made in the target directory");
        fs::write(&file, formats::to_jsonl(&keys)).expect("a file can be written in the target directory");
        Err(Finding { verdict: report.verdict, file, explanation: report.to_string() })
    }

    fn begin(&self, client: u64, key: &str, call: Call<String>) -> usize {
        let begin = self.now();
        let completion = Completion::Unknown;
        let mut operations = self.operations();
        operations.push((key.to_owned(), Operation { process: client, call, completion, begin, end: u64::MAX }));
        operations.len() - 1
    }

    fn end<T: Told>(&self, id: usize, answer: Result<T, Status>) -> Result<T, Status> {
        let end = self.now();
        let (_, operation) = &mut self.operations()[id];
        operation.end = end;
        operation.completion = match &answer {
            Ok(response) => Completion::Definite(response.output()),
            Err(status) => refused(&operation.call, &Failure::of(status)),
        };
        answer
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).expect("a test takes less than centuries")
    }

    fn operations(&self) -> MutexGuard<'_, Vec<(String, KeyOperation)>> {
        // A panic leaves an operation unknown at worst, which is true.
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads these keys through one node; those that it did not answer for.
async fn read(recorder: Arc<Recorder>, client: u64, channel: Channel, mut keys: BTreeSet<String>) -> BTreeSet<String> {
    let mut unread = BTreeSet::new();
    while let Some(key) = keys.pop_first() {
        let answer = recorder.get(client, &channel, rpc::get_request(&key)).await;
        if answer.is_err_and(|status| status.code() != Code::NotFound) {
            unread.insert(key);
        }
    }
    unread
}

impl fmt::Display for Least {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} definite operations, {} of them overlapping", self.definite, self.overlapping)
    }
}

/// A history that is not in order, or that was not decided.
#[derive(Debug)]
struct Finding {
    verdict: Verdict,
    file: PathBuf,
    explanation: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { verdict, file, explanation } = self;
        writeln!(formatter, "the history is {verdict}; to judge it again: lincheck --format jsonl {}", file.display())?;
        formatter.write_str(explanation)
    }
}

impl Told for PutResponse {
    fn output(&self) -> Output<String> {
        Output::Put { version: Some(self.version), revision: Some(self.revision) }
    }
}

impl Told for GetResponse {
    fn output(&self) -> Output<String> {
        let kv = self.kv.as_ref().expect("an answer to a get carries the key");
        Output::Found { value: text(&kv.value), version: Some(kv.version), revision: Some(kv.mod_revision) }
    }
}

impl Told for DeleteResponse {
    fn output(&self) -> Output<String> {
        Output::Deleted { previous: self.previous.as_ref().map(|kv| text(&kv.value)) }
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8(value.to_vec()).expect("recorded clients write text only")
}

/// What an error tells: something about the key, that nothing happened, or nothing.
fn refused(call: &Call<String>, failure: &Failure) -> Completion<Output<String>> {
    let revision = |name: &str| failure.metadata.get(name).and_then(|text| text.parse().ok());
    let compares = matches!(call, Call::Put { mode: Mode::Compare { .. }, .. } | Call::Delete { expected: Some(_) });
    let may_miss = !matches!(call, Call::Put { mode: Mode::Create | Mode::Upsert, .. });
    match (failure.reason.as_deref(), call) {
        (Some("KEY_EXISTS"), Call::Put { mode: Mode::Create, .. }) => {
            Completion::Definite(Output::Exists { revision: revision("revision") })
        }
        (Some("KEY_NOT_FOUND"), _) if may_miss => Completion::Definite(Output::Missing),
        (Some("REVISION_MISMATCH"), _) if compares => {
            Completion::Definite(Output::Mismatch { actual: revision("currentRevision") })
        }
        (Some("KEY_EXISTS" | "KEY_NOT_FOUND" | "REVISION_MISMATCH"), _) => {
            panic!("{call:?} cannot be answered with {failure:?}")
        }
        _ if failure.outcome() == Outcome::NotApplied => Completion::Failed,
        _ => Completion::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lincheck::formats::{Format, Histories};

    fn put(recorder: &Recorder, value: &str) -> usize {
        recorder.begin(1, "k", Call::Put { value: value.to_owned(), mode: Mode::Create })
    }

    fn created(revision: u64) -> Result<PutResponse, Status> {
        Ok(PutResponse { revision, version: 1, ..PutResponse::default() })
    }

    fn found(value: &str, revision: u64) -> Result<GetResponse, Status> {
        let value = value.to_owned().into();
        let kv = proto::kv::v1::KeyValue { value, mod_revision: revision, version: 1, ..Default::default() };
        Ok(GetResponse { kv: Some(kv), ..GetResponse::default() })
    }

    #[test]
    fn a_history_in_order_says_how_much_it_has_and_leaves_no_file() {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let recorder = Recorder::new("good");
        let (first, second) = (put(&recorder, "x"), put(&recorder, "y"));
        recorder.end(second, created(1)).expect("it was acknowledged");
        recorder.end::<PutResponse>(first, Err(Status::unavailable("a library's"))).expect_err("it was lost");
        let get = recorder.begin(2, "k", Call::Get);
        recorder.end(get, found("y", 1)).expect("it was answered");
        let found = recorder.check(directory.path()).expect("the first put never happened");
        assert_eq!(found, Least { definite: 2, overlapping: 0 });
        assert_eq!(fs::read_dir(directory.path()).expect("the directory is there").count(), 0);
    }

    #[test]
    fn a_stale_answer_is_found_and_the_file_is_judged_alike() {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let recorder = Recorder::new("bad");
        let write = put(&recorder, "x");
        recorder.end(write, created(1)).expect("it was acknowledged");
        let unfinished = put(&recorder, "never answered");
        let get = recorder.begin(2, "k", Call::Get);
        recorder.end(get, found("other", 1)).expect("it was answered");
        let finding = recorder.check(directory.path()).expect_err("nobody wrote that");
        assert_eq!(recorder.operations()[unfinished].1.completion, Completion::Unknown);
        let said = finding.to_string();
        assert!(
            said.contains(&format!("illegal; to judge it again: lincheck --format jsonl {}", finding.file.display()))
        );
        assert!(said.contains("key k: no order explains all answers"), "{said}");
        let written = fs::read_to_string(&finding.file).expect("the file is there");
        let histories = Histories::read(Format::Jsonl, &written).expect("it can be read");
        assert_eq!((histories.len(), histories.check(Budget::default()).verdict), (3, Verdict::Illegal));
    }

    #[test]
    #[should_panic(expected = "only 1 definite operations, 0 of them overlapping")]
    fn a_quiet_history_fails() {
        let recorder = Recorder::new("quiet");
        let write = put(&recorder, "x");
        recorder.end(write, created(1)).expect("it was acknowledged");
        recorder.judge(Least { definite: 1, overlapping: 1 });
    }

    #[test]
    fn errors_tell_what_they_say_and_no_more() {
        let failure = |reason: Option<&str>, metadata: &[(&str, &str)]| Failure {
            code: Code::Unavailable,
            message: String::new(),
            reason: reason.map(str::to_owned),
            domain: String::new(),
            metadata: metadata.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
            trailer: None,
        };
        let create = Call::Put { value: "x".to_owned(), mode: Mode::Create };
        let delete = Call::Delete { expected: Some(4) };
        let not_applied = ("outcome", "NOT_APPLIED");
        let exists = refused(&create, &failure(Some("KEY_EXISTS"), &[not_applied, ("revision", "7")]));
        assert_eq!(exists, Completion::Definite(Output::Exists { revision: Some(7) }));
        let missing = refused(&Call::Get, &failure(Some("KEY_NOT_FOUND"), &[]));
        assert_eq!(missing, Completion::Definite(Output::Missing));
        let mismatch = refused(&delete, &failure(Some("REVISION_MISMATCH"), &[("currentRevision", "5")]));
        assert_eq!(mismatch, Completion::Definite(Output::Mismatch { actual: Some(5) }));
        assert_eq!(refused(&create, &failure(Some("NO_QUORUM"), &[not_applied])), Completion::Failed);
        for unknown in [failure(Some("OUTCOME_UNKNOWN"), &[("outcome", "UNKNOWN")]), failure(None, &[])] {
            assert_eq!(refused(&delete, &unknown), Completion::Unknown);
        }
    }
}
