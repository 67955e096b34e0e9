//! What the fake nodes of a cluster keep: a map, and the results of the writes that have a name.

use super::error;
use proto::{
    admin::v1 as admin,
    kv::v1::{self as kv, get_outcome_response::Outcome},
};
use std::collections::{BTreeMap, HashMap};
use tonic::{Code, Status};

const NOT_APPLIED: (&str, &str) = ("outcome", "NOT_APPLIED");
const UNKNOWN: (&str, &str) = ("outcome", "UNKNOWN");

/// How old the state is of which a stale get is answered.
pub(crate) const STALENESS_MS: u64 = 7;

pub(super) struct Store {
    map: BTreeMap<String, kv::KeyValue>,
    revision: u64,
    sessions: HashMap<Vec<u8>, Session>,
    /// A session that is not known and was opened before this may have been dropped.
    mark_ms: u64,
    pub(super) time_ms: u64,
    pub(super) settings: admin::Settings,
    /// How many writes were run.
    pub(super) runs: usize,
}

#[derive(Default)]
struct Session {
    acknowledged_below: u64,
    results: BTreeMap<u64, Kept>,
}

#[derive(Clone)]
enum Kept {
    Put(Result<kv::PutResponse, Status>),
    Delete(Result<kv::DeleteResponse, Status>),
    Settings(admin::UpdateSettingsResponse),
    Fenced,
}

impl Default for Store {
    fn default() -> Store {
        Store::at(1000)
    }
}

impl Store {
    pub(super) fn at(time_ms: u64) -> Store {
        let (map, sessions) = (BTreeMap::new(), HashMap::new());
        Store { map, revision: 0, sessions, mark_ms: 0, time_ms, settings: admin::Settings::default(), runs: 0 }
    }

    pub(super) fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.map.get(key).map(|found| found.value.to_vec())
    }

    pub(super) fn expire_sessions(&mut self) {
        self.sessions.clear();
        self.time_ms += 1;
        self.mark_ms = self.time_ms;
    }

    pub(super) fn get(&self, request: &kv::GetRequest) -> Result<kv::GetResponse, Status> {
        let is_stale = request.consistency() == kv::Consistency::Stale;
        if self.revision < request.min_revision {
            return Err(if is_stale { too_stale(self.revision) } else { ahead(self.revision, request.min_revision) });
        }
        let found = self.map.get(&request.key).cloned().ok_or_else(|| self.not_found(&request.key))?;
        let (revision, served_by, time_ms) = (self.revision, "fake".to_owned(), self.time_ms);
        let staleness_ms = is_stale.then_some(STALENESS_MS);
        Ok(kv::GetResponse { kv: Some(found), revision, served_by, time_ms, staleness_ms })
    }

    pub(super) fn put(&mut self, request: kv::PutRequest) -> Result<kv::PutResponse, Status> {
        let Some(name) = request.request_id.clone() else { return self.run_put(request) };
        match self.known(&name)? {
            Some(Kept::Put(result)) => result,
            Some(_) => Err(reused()),
            None => {
                let result = self.run_put(request);
                self.keep(&name, Kept::Put(result.clone()));
                result
            }
        }
    }

    pub(super) fn delete(&mut self, request: kv::DeleteRequest) -> Result<kv::DeleteResponse, Status> {
        let Some(name) = request.request_id.clone() else { return self.run_delete(&request) };
        match self.known(&name)? {
            Some(Kept::Delete(result)) => result,
            Some(_) => Err(reused()),
            None => {
                let result = self.run_delete(&request);
                self.keep(&name, Kept::Delete(result.clone()));
                result
            }
        }
    }

    pub(super) fn update_settings(
        &mut self,
        request: admin::UpdateSettingsRequest,
    ) -> Result<admin::UpdateSettingsResponse, Status> {
        let name = request.request_id.ok_or_else(|| Status::invalid_argument("no name"))?;
        match self.known(&name)? {
            Some(Kept::Settings(response)) => Ok(response),
            Some(_) => Err(reused()),
            None => {
                self.runs += 1;
                self.settings.lease_reads = request.lease_reads.expect("the client names it");
                let response = admin::UpdateSettingsResponse { settings: Some(self.settings), time_ms: self.time_ms };
                self.keep(&name, Kept::Settings(response));
                Ok(response)
            }
        }
    }

    pub(super) fn get_outcome(&mut self, request: kv::GetOutcomeRequest) -> Result<kv::GetOutcomeResponse, Status> {
        let name = request.request_id.ok_or_else(|| Status::invalid_argument("no name"))?;
        let session = self.session(&name)?;
        let outcome = if name.sequence < session.acknowledged_below {
            Outcome::Forgotten(kv::Forgotten {})
        } else {
            match session.results.entry(name.sequence).or_insert(Kept::Fenced).clone() {
                Kept::Put(Ok(response)) => Outcome::Put(response),
                Kept::Delete(Ok(response)) => Outcome::Delete(response),
                Kept::Settings(_) => Outcome::Configured(kv::Configured {}),
                // The only rejection of these tests.
                Kept::Put(Err(_)) => Outcome::Rejected(kv::Rejected { reason: "KEY_EXISTS".to_owned(), revision: 1 }),
                Kept::Delete(Err(_)) => {
                    Outcome::Rejected(kv::Rejected { reason: "KEY_NOT_FOUND".to_owned(), revision: 0 })
                }
                Kept::Fenced => Outcome::NeverApplied(kv::NeverApplied {}),
            }
        };
        Ok(kv::GetOutcomeResponse { outcome: Some(outcome), time_ms: self.time_ms })
    }

    /// The session of a name, which is opened if it is new.
    fn session(&mut self, name: &kv::RequestId) -> Result<&mut Session, Status> {
        assert_eq!(name.session.len(), 16, "a session has 16 bytes");
        assert!(name.sequence >= 1 && name.acknowledged_below <= name.sequence, "{name:?}");
        self.time_ms += 1;
        let now = self.time_ms.to_string();
        if !self.sessions.contains_key(name.session.as_ref()) {
            if name.opened_at_ms > self.time_ms {
                let metadata = [NOT_APPLIED, ("timeMs", &now)];
                return Err(error(Code::InvalidArgument, "REQUEST_ID_AHEAD", "opened in the future", &metadata));
            }
            if name.opened_at_ms < self.mark_ms {
                return Err(session_expired(&now));
            }
        }
        let session = self.sessions.entry(name.session.to_vec()).or_default();
        session.acknowledged_below = session.acknowledged_below.max(name.acknowledged_below);
        let below = session.acknowledged_below;
        session.results.retain(|sequence, _| *sequence >= below);
        Ok(session)
    }

    fn known(&mut self, name: &kv::RequestId) -> Result<Option<Kept>, Status> {
        let session = self.session(name)?;
        if name.sequence < session.acknowledged_below {
            return Err(error(Code::FailedPrecondition, "RESULT_FORGOTTEN", "the result is forgotten", &[UNKNOWN]));
        }
        match session.results.get(&name.sequence) {
            Some(Kept::Fenced) => Err(error(Code::Aborted, "REQUEST_FENCED", "it was settled", &[NOT_APPLIED])),
            kept => Ok(kept.cloned()),
        }
    }

    fn keep(&mut self, name: &kv::RequestId, kept: Kept) {
        let session = self.sessions.get_mut(name.session.as_ref()).expect("it was opened");
        session.results.insert(name.sequence, kept);
    }

    fn run_put(&mut self, request: kv::PutRequest) -> Result<kv::PutResponse, Status> {
        self.runs += 1;
        let mode = request.mode();
        let kv::PutRequest { key, value, expected_revision, .. } = request;
        let old = self.map.get(&key).cloned();
        match (&old, mode) {
            (Some(_), kv::PutMode::Create | kv::PutMode::Unspecified) => {
                let message = format!("key already exists: {key}");
                let revision = old.map_or(0, |old| old.mod_revision).to_string();
                let metadata = [NOT_APPLIED, ("revision", revision.as_str())];
                return Err(error(Code::AlreadyExists, "KEY_EXISTS", &message, &metadata));
            }
            (None, kv::PutMode::Update | kv::PutMode::Compare) => return Err(self.not_found(&key)),
            (Some(old), kv::PutMode::Compare) => check_revision(old, expected_revision)?,
            _ => {}
        }
        self.revision += 1;
        let version = old.as_ref().map_or(1, |old| old.version + 1);
        let create_revision = old.map_or(self.revision, |old| old.create_revision);
        let record = kv::KeyValue { key: key.clone(), value, create_revision, mod_revision: self.revision, version };
        self.map.insert(key, record);
        Ok(kv::PutResponse { revision: self.revision, version, time_ms: self.time_ms })
    }

    fn run_delete(&mut self, request: &kv::DeleteRequest) -> Result<kv::DeleteResponse, Status> {
        self.runs += 1;
        let Some(old) = self.map.get(&request.key) else { return Err(self.not_found(&request.key)) };
        if request.expected_revision.is_some() {
            check_revision(old, request.expected_revision)?;
        }
        self.map.remove(&request.key);
        self.revision += 1;
        Ok(kv::DeleteResponse { revision: self.revision, previous: None, time_ms: self.time_ms })
    }

    fn not_found(&self, key: &str) -> Status {
        let (message, revision) = (format!("key not found: {key}"), self.revision.to_string());
        error(Code::NotFound, "KEY_NOT_FOUND", &message, &[NOT_APPLIED, ("storeRevision", revision.as_str())])
    }
}

/// A node says that its state, of this revision, is older than it may be.
pub(crate) fn too_stale(revision: u64) -> Status {
    let (message, revision) = ("this node's own state is not good enough", revision.to_string());
    error(Code::Unavailable, "STALENESS_BOUND_EXCEEDED", message, &[("revision", revision.as_str())])
}

fn ahead(revision: u64, min_revision: u64) -> Status {
    let (revision, min_revision) = (revision.to_string(), min_revision.to_string());
    let metadata = [("revision", revision.as_str()), ("minRevision", min_revision.as_str())];
    error(Code::OutOfRange, "REVISION_AHEAD", "the store never gave out the revision", &metadata)
}

fn session_expired(now_ms: &str) -> Status {
    error(Code::FailedPrecondition, "SESSION_EXPIRED", "the session has expired", &[UNKNOWN, ("timeMs", now_ms)])
}

fn reused() -> Status {
    error(Code::InvalidArgument, "REQUEST_ID_REUSED", "the name was given to another write", &[NOT_APPLIED])
}

fn check_revision(old: &kv::KeyValue, expected: Option<u64>) -> Result<(), Status> {
    if expected == Some(old.mod_revision) {
        return Ok(());
    }
    let actual = old.mod_revision.to_string();
    let metadata = [NOT_APPLIED, ("currentRevision", actual.as_str())];
    Err(error(Code::FailedPrecondition, "REVISION_MISMATCH", "revision mismatch", &metadata))
}
