//! `quorate-server restore`: the data directories of a new cluster, out of a snapshot of another.
//!
//! All members are written at once, so that they agree: each has the same state, and knows the others by incarnations
//! that are drawn here. To repeat it makes another cluster, and never the same one a second time.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use engine::RestoredState;
use engine::disk::{Disk, RealDisk};
use engine::identity::{Cluster, Identity, Member};
use engine::wal::WalOptions;
use raft::NodeId;
use serde::Serialize;

use super::text::hexadecimal;
use super::{OfflineError, open_directory, shell_word};
use crate::cli::RestoreArgs;
use crate::config::MEMBERS_MAX;

/// The size of the first segment of a log that has nothing in it yet; those behind it have the node's own size.
const SEGMENT_BYTES: u64 = 1 << 20;

/// What a directory is called until all of it is there.
const UNFINISHED: &str = "part";

/// Runs `restore` and returns the process's exit code.
#[must_use]
pub fn main(arguments: &RestoreArgs) -> ExitCode {
    match restore(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.tell(),
    }
}

/// What was made.
#[derive(Serialize)]
struct Report {
    snapshot_index: u64,
    revision: u64,
    key_count: u64,
    state_hash: String,
    cluster_id: String,
    members: Vec<MemberReport>,
}

#[derive(Serialize)]
struct MemberReport {
    name: String,
    incarnation: String,
    directory: PathBuf,
}

fn restore(arguments: &RestoreArgs) -> Result<(), OfflineError> {
    let names: BTreeSet<&str> = arguments.members.iter().map(String::as_str).collect();
    if names.len() < arguments.members.len() {
        return Err(OfflineError::Members("a member is named twice".to_owned()));
    }
    if names.len() > MEMBERS_MAX {
        return Err(OfflineError::Members(format!("{} members are too many: at most {MEMBERS_MAX}", names.len())));
    }
    let state = read(&arguments.file)?;
    let members: Vec<Member> = names.iter().map(|name| draw(name)).collect();
    let cluster = Cluster::new(members.clone());
    for member in &members {
        let directory = arguments.into.join(&member.name);
        for taken in [directory.clone(), directory.with_extension(UNFINISHED)] {
            if taken.exists() {
                return Err(OfflineError::Exists(taken.display().to_string()));
            }
        }
    }
    fs::create_dir_all(&arguments.into).map_err(|source| create_error(&arguments.into, source))?;
    let mut written = Vec::new();
    for member in members {
        let directory = arguments.into.join(&member.name);
        let identity = Identity { member: member.clone(), cluster: Some(cluster.clone()) };
        write(&state, &identity, &directory)?;
        written.push(MemberReport {
            name: member.name,
            incarnation: format!("{:016x}", member.incarnation.get()),
            directory,
        });
    }
    let store = state.store();
    tell(
        &Report {
            snapshot_index: state.index().get(),
            revision: store.revision().get(),
            key_count: store.len() as u64,
            state_hash: format!("{:032x}", store.state_hash()),
            cluster_id: hexadecimal(&cluster.id()),
            members: written,
        },
        arguments.json,
    )
}

/// A member with an incarnation that nobody has had.
fn draw(name: &str) -> Member {
    let incarnation = NodeId::new(rand::random_range(1..=u64::MAX)).expect("the range begins at 1");
    Member { name: name.to_owned(), incarnation }
}

fn read(file: &Path) -> Result<RestoredState, OfflineError> {
    let no_file = || OfflineError::NoFile(file.display().to_string());
    let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(no_file)?;
    if !file.is_file() {
        return Err(no_file());
    }
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(RestoredState::read(&open_directory(directory)?, name)?)
}

/// Writes a member's directory, under another name until all of it is on the disk.
fn write(state: &RestoredState, identity: &Identity, directory: &Path) -> Result<(), OfflineError> {
    let unfinished = directory.with_extension(UNFINISHED);
    {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&unfinished).map_err(OfflineError::Lock)?);
        let options = WalOptions { segment_bytes: SEGMENT_BYTES, salt: rand::random(), ..WalOptions::default() };
        state.write(&disk, options, identity)?;
    }
    let named = || -> io::Result<()> {
        fs::rename(&unfinished, directory)?;
        fs::File::open(directory.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    named().map_err(|source| create_error(directory, source))
}

fn create_error(directory: &Path, source: io::Error) -> OfflineError {
    OfflineError::Create { directory: directory.display().to_string(), source }
}

fn tell(report: &Report, as_json: bool) -> Result<(), OfflineError> {
    let mut output = BufWriter::new(io::stdout().lock());
    if as_json {
        serde_json::to_writer(&mut output, report).map_err(io::Error::from)?;
        writeln!(output)?;
        return Ok(output.flush()?);
    }
    let Report { snapshot_index, revision, key_count, state_hash, cluster_id, members } = report;
    writeln!(output, "restored   the state as of entry {snapshot_index}: revision {revision}, {key_count} keys")?;
    writeln!(output, "state hash {state_hash}")?;
    writeln!(output, "cluster    {cluster_id}, a new one")?;
    for MemberReport { name, incarnation, directory } in members {
        writeln!(output, "member     {name}, incarnation {incarnation}, in {}", directory.display())?;
    }
    let peers: Vec<String> = members.iter().map(|member| format!("{}=HOST:PORT", member.name)).collect();
    writeln!(output, "next: put each directory in its place, and start all nodes:")?;
    for MemberReport { name, directory, .. } in members {
        let directory = shell_word(directory.as_os_str());
        let peers = peers.join(",");
        writeln!(output, "  quorate-server run --name {name} --data-dir {directory} --peers {peers}")?;
    }
    Ok(output.flush()?)
}
