//! One real `quorate-server` process: its settings, its data directory, its log, and what can be done to it from
//! outside.

use crate::{binaries, rpc};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    time::Instant,
};
use tonic::transport::Channel;

/// How a process is started: everything that a restart repeats.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The node's name, which names its directory and its log too.
    pub name: String,
    /// Where it serves clients.
    pub address: SocketAddr,
    /// The arguments behind the program's name.
    pub arguments: Vec<String>,
    /// Environment variables beside those inherited.
    pub environment: Vec<(String, String)>,
}

/// A node's process, or the place of one that is down. Killed when dropped.
#[derive(Debug)]
pub struct Node {
    launch: Launch,
    directory: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    paused: bool,
    starts: u32,
}

impl Node {
    /// A node that is not started, whose data lies in `directory` (created by the node itself) and whose log is `log`.
    pub fn new(launch: Launch, directory: PathBuf, log: PathBuf) -> Node {
        Node { launch, directory, log, child: None, paused: false, starts: 0 }
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// Where the node serves clients.
    pub fn address(&self) -> SocketAddr {
        self.launch.address
    }

    /// The node's data directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How the next start is done; a test may change it between two starts.
    pub fn launch_mut(&mut self) -> &mut Launch {
        &mut self.launch
    }

    /// The id of the running process.
    pub fn process_id(&self) -> u32 {
        self.child.as_ref().expect("the node is running").id()
    }

    /// Whether the process was started, and neither killed nor paused by the test.
    pub fn is_reachable(&self) -> bool {
        self.child.is_some() && !self.paused
    }

    /// Starts the process; it appends to the log of its earlier lives.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} is already running", self.launch.name);
        self.starts += 1;
        let mut log = self.open_log();
        writeln!(log, "--- start {} of {}", self.starts, self.launch.name).expect("a log can be written");
        let errors = log.try_clone().expect("a file can be duplicated");
        let mut command = binaries::command(&binaries::server());
        command
            .args(&self.launch.arguments)
            // A node does not outlive a test that is killed: the other end of the pipe closes whatever the test dies
            // of.
            .arg("--exit-with-stdin")
            .envs(self.launch.environment.iter().map(|(name, value)| (name, value)))
            // A default data directory is relative: it must not land in the source tree.
            .current_dir(self.log.parent().expect("a log lies in a directory"))
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors);
        self.child = Some(command.spawn().expect("quorate-server can be started"));
    }

    /// `kill -9`, and waits until the process is gone. Does nothing to a node that is down.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It also ends a paused process. An error means that it has ended by itself.
            child.kill().ok();
            child.wait().expect("a child can be waited for");
        }
        self.paused = false;
    }

    /// SIGTERM, which asks the process to drain and to end; [`Node::exit_status`] waits for that.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP: the process keeps its connections and does nothing any more.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.paused = true;
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
        self.paused = false;
    }

    /// Waits until the process has ended by itself, and says how.
    pub async fn exit_status(&mut self) -> ExitStatus {
        let name = self.launch.name.clone();
        let mut child = self.child.take().expect("the node was running");
        let what = format!("{name} ends");
        crate::wait::wait_for(&what, async || child.try_wait().expect("a child can be waited for")).await
    }

    /// Whether the process ended although no test asked for it; how it did.
    pub fn crashed(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().expect("a child can be waited for"))
    }

    /// Panics if the process ended although no test asked for it, so that nobody waits for it in vain.
    pub fn expect_running(&self) {
        let Some(child) = &self.child else { return };
        // Only looked at, so that the status is still there for whoever waits for the process.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = rustix::process::waitid(WaitId::Pid(Pid::from_child(child)), options);
        let ended = ended.expect("a child can be waited for");
        assert!(ended.is_none(), "{} has ended by itself: {ended:?}", self.launch.name);
    }

    /// Deletes the data directory of a node that is down.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "{} is running", self.launch.name);
        fs::remove_dir_all(&self.directory).expect("a data directory can be removed");
    }

    /// What the process wrote to standard output and standard error, over all its lives.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// What the process wrote since its last start.
    pub fn log_since_start(&self) -> String {
        let mark = format!("--- start {} of {}\n", self.starts, self.launch.name);
        self.log().rsplit_once(&mark).map(|(_, tail)| tail.to_owned()).unwrap_or_default()
    }

    /// A new connection to the node, made when it is first used.
    pub fn channel(&self) -> Channel {
        rpc::channel(self.launch.address)
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the node is running");
        rustix::process::kill_process(Pid::from_child(child), signal).expect("a child can be signalled");
    }

    fn open_log(&self) -> File {
        OpenOptions::new().create(true).append(true).open(&self.log).expect("a log can be opened")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `quorate-server` to its end, for what must be refused at the start; panics if it has not ended in time.
pub async fn run_to_end(arguments: &[&str], environment: &[(&str, &str)]) -> std::process::Output {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut command = tokio::process::Command::from(binaries::command(&binaries::server()));
    command.args(arguments).envs(environment.iter().copied()).current_dir(directory.path());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let started = Instant::now();
    match tokio::time::timeout(crate::wait::BOUND, command.output()).await {
        Ok(output) => output.expect("quorate-server can be started"),
        Err(_) => panic!("quorate-server {arguments:?} still runs after {:?}", started.elapsed()),
    }
}
