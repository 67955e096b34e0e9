//! The nodes of a demo: child processes that cannot outlive it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::DemoError;
use super::happening::Scene;
use super::ports;
use super::stage::Teller;
use crate::story::StoryLine;

/// How long the nodes may take to shut down before they are killed. They drain what they have and close their logs.
const STOP_MAX: Duration = Duration::from_secs(10);

/// A demo writes little: segments of 1 MiB spare the disk what the default would fill with zeros.
const SEGMENT_BYTES: u64 = 1 << 20;

/// How many of a node's last log lines an error shows.
const LOG_LINES_SHOWN: usize = 15;

/// The address that nodes listen on.
const HOST: &str = "127.0.0.1";

/// All nodes of a demo.
pub(super) struct Cluster {
    nodes: Vec<Node>,
    program: PathBuf,
    folder: Folder,
    teller: Teller,
}

/// One node and its process.
struct Node {
    name: String,
    port: u16,
    http_port: u16,
    data: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    /// Passes on what the process tells.
    passing_on: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Chooses the ports and makes the folders. Nothing runs yet.
    pub(super) fn prepare(names: Vec<String>, data_dir: Option<&Path>, teller: Teller) -> Result<Self, DemoError> {
        let program = own_program()?;
        let folder = Folder::make(data_dir).map_err(DemoError::io("make a folder for the nodes' data"))?;
        let ports = ports::free(2 * names.len()).map_err(DemoError::io("find ports for the nodes"))?;
        let (grpc_ports, http_ports) = ports.split_at(names.len());
        let node = |(name, (&port, &http_port)): (String, (&u16, &u16))| {
            let (data, log) = (folder.path.join(&name), folder.path.join(format!("{name}.log")));
            Node { name, port, http_port, data, log, child: None, passing_on: None }
        };
        let nodes = names.into_iter().zip(grpc_ports.iter().zip(http_ports)).map(node).collect();
        Ok(Self { nodes, program, folder, teller })
    }

    /// The folder of the nodes' data and logs.
    pub(super) fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// Whether the folder goes away with the cluster.
    pub(super) fn is_temporary(&self) -> bool {
        self.folder.temporary
    }

    /// Keeps the folder, as evidence.
    pub(super) fn keep_folder(&mut self) {
        self.folder.temporary = false;
    }

    /// The names and addresses of all nodes.
    pub(super) fn addresses(&self) -> Vec<(String, String)> {
        self.nodes.iter().map(|node| (node.name.clone(), node.address())).collect()
    }

    /// Where a browser finds the status page of the first node.
    pub(super) fn status_page(&self) -> String {
        self.nodes.first().map_or_else(String::new, |node| format!("http://{HOST}:{}/", node.http_port))
    }

    /// Starts the node's process, and passes on what it tells. Returns its process id.
    pub(super) fn start(&mut self, at: usize) -> Result<u32, DemoError> {
        let peers: Vec<String> = self.nodes.iter().map(|node| format!("{}={}", node.name, node.address())).collect();
        let node = &mut self.nodes[at];
        let log = File::options().create(true).append(true).open(&node.log);
        let log = log.map_err(DemoError::io("open a node's log"))?;
        let mut command = Command::new(&self.program);
        command
            .arg0("quorate-server")
            .arg("run")
            .args(["--name", &node.name])
            .args(["--listen", &node.address()])
            .args(["--peers", &peers.join(",")])
            .args(["--http-listen", &format!("{HOST}:{}", node.http_port)])
            .args(["--segment-bytes", &SEGMENT_BYTES.to_string()])
            .args(["--narrate", "--exit-with-stdin"])
            .arg("--data-dir")
            .arg(&node.data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        // Ctrl-C reaches all processes of a terminal's foreground group: only the demo is to get it, which then stops
        // its nodes in good order.
        command.process_group(0);
        // What configures a node on this machine is not meant for the demo's.
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if name.starts_with("QUORATE_") || name.starts_with("PEER_") || name == "PORT" {
                command.env_remove(&variable);
            }
        }
        let mut child = command.spawn().map_err(DemoError::io("start a node"))?;
        let pid = child.id().ok_or_else(|| DemoError::io("start a node")(io::ErrorKind::NotFound.into()))?;
        if let Some(stdout) = child.stdout.take() {
            node.passing_on = Some(tokio::spawn(pass_on(stdout, self.teller.clone())));
        }
        node.child = Some(child);
        Ok(pid)
    }

    /// Kills the node's process with SIGKILL, and returns the process id that it had.
    pub(super) async fn kill(&mut self, at: usize) -> Result<u32, DemoError> {
        let node = &mut self.nodes[at];
        let mut child = node.child.take().ok_or_else(|| node.not_running())?;
        let pid = child.id().ok_or_else(|| node.not_running())?;
        child.kill().await.map_err(DemoError::io("kill a node"))?;
        Ok(pid)
    }

    /// An error if a node that was started has ended by itself.
    pub(super) fn check_running(&mut self) -> Result<(), DemoError> {
        for node in &mut self.nodes {
            let Some(child) = &mut node.child else { continue };
            if let Some(status) = child.try_wait().map_err(DemoError::io("look after a node"))? {
                let (name, log) = (node.name.clone(), last_lines(&node.log));
                return Err(DemoError::NodeEnded { name, status: status.to_string(), log });
            }
        }
        Ok(())
    }

    /// Asks all nodes to stop, waits for them, and kills those that take too long. Returns the names of these. What
    /// they tell on the way out is not passed on: each would try to hand over to others that stop as well.
    pub(super) async fn stop(&mut self) -> Vec<String> {
        for node in &mut self.nodes {
            if let Some(passing_on) = node.passing_on.take() {
                passing_on.abort();
            }
            let id = node.child.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok());
            if let Some(pid) = id.and_then(Pid::from_raw) {
                // A process that has ended already needs no signal.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let until = Instant::now() + STOP_MAX;
        let mut killed = Vec::new();
        for node in &mut self.nodes {
            let Some(mut child) = node.child.take() else { continue };
            if timeout_at(until, child.wait()).await.is_err() {
                killed.push(node.name.clone());
                let _ = child.kill().await;
            }
        }
        killed
    }
}

impl Node {
    fn address(&self) -> String {
        format!("{HOST}:{}", self.port)
    }

    fn not_running(&self) -> DemoError {
        DemoError::NodeEnded {
            name: self.name.clone(),
            status: "it was not running".to_owned(),
            log: last_lines(&self.log),
        }
    }
}

/// Passes on what a node tells, until it ends. What is no story line is not ours to tell.
async fn pass_on(stdout: ChildStdout, teller: Teller) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(story) = serde_json::from_str::<StoryLine>(&line) {
            teller.tell_at(story.at_us, Scene::Node(story)).await;
        }
    }
}

/// The last lines of a log; nothing if it cannot be read.
fn last_lines(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

/// The folder of a demo, removed with it if it is temporary.
struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    fn make(given: Option<&Path>) -> io::Result<Self> {
        match given {
            Some(path) => {
                fs::create_dir_all(path)?;
                Ok(Self { path: path.to_owned(), temporary: false })
            }
            None => {
                // Nobody else's: the name is random, and it is an error if it exists.
                let path = std::env::temp_dir().join(format!("quorate-demo-{:016x}", rand::random::<u64>()));
                fs::create_dir(&path)?;
                Ok(Self { path, temporary: true })
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            // What cannot be removed is left to the system's own cleaning of temporary files.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// What starts this program again: on Linux the very file that runs, even if a build has put another in its place.
fn own_program() -> Result<PathBuf, DemoError> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() {
        return Ok(running);
    }
    std::env::current_exe().map_err(DemoError::io("find this program's file"))
}
