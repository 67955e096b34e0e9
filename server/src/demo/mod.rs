//! The demo: a whole cluster of real nodes and clients, told line by line, so that it explains Raft to whoever reads
//! it.
//!
//! The nodes are processes of this very program (`run --narrate`) with data directories of their own and gRPC on
//! loopback; the clients use Quorate's client library. What the nodes tell as [`story`](crate::story) lines, what the
//! clients see and what the demo does itself is put in order by time, worded, and explained the first time. At the end
//! all nodes must hold the same state.
//!
//! No node outlives the demo, whatever it dies of: each watches the pipe that is its standard input.

mod check;
mod clients;
mod explain;
mod happening;
mod narrator;
#[cfg(test)]
mod narrator_tests;
mod operations;
mod ports;
mod process;
mod settings;
mod stage;
mod summary;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::check::{Asker, LeaderSeen};
use self::clients::DemoClient;
use self::happening::{Answer, DemoScene, Scene};
use self::narrator::Narrator;
use self::process::Cluster;
use self::settings::Settings;
use self::stage::Teller;
use self::summary::Report;
use crate::cli::{Color, DemoArgs, EXIT_USAGE};
use crate::story::now_us;

/// The exit code of a demo that Ctrl-C or SIGTERM interrupted: as of a shell's command.
const EXIT_INTERRUPTED: u8 = 130;

/// Why a demo could not be shown to its end.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    /// The system refused something.
    #[error("could not {what}: {cause}")]
    Io {
        /// What.
        what: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// A node ended by itself.
    #[error("{name} ended by itself: {status}; its last log lines:\n{log}")]
    NodeEnded {
        /// The node's name.
        name: String,
        /// How it ended.
        status: String,
        /// What it logged last.
        log: String,
    },
    /// The nodes did not come together.
    #[error("the nodes did not {what} in time:\n{reasons}")]
    NoAgreement {
        /// What they did not.
        what: &'static str,
        /// What each says.
        reasons: String,
    },
    /// The demo's own client failed.
    #[error("{0}")]
    Client(String),
}

impl DemoError {
    fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |cause| Self::Io { what, cause }
    }
}

/// Shows a demo on standard output, and returns the process's exit code: success only if all nodes held the same state
/// in the end.
#[must_use]
pub fn main(arguments: &DemoArgs) -> ExitCode {
    // A short seed is easier to type again.
    let seed = rand::random::<u16>().into();
    let settings = match Settings::load(arguments, |path: &Path| std::fs::read_to_string(path), seed) {
        Ok(settings) => settings,
        Err(error) => {
            say_error(&error.to_string());
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let shown =
        runtime.map_err(DemoError::io("start the runtime")).and_then(|runtime| runtime.block_on(show(&settings)));
    shown.unwrap_or_else(|error| {
        say_error(&error.to_string());
        ExitCode::FAILURE
    })
}

/// Sets the stage, plays, and clears up whatever happens.
async fn show(settings: &Settings) -> Result<ExitCode, DemoError> {
    // Before anything is started, so that no signal falls between.
    let mut interrupted = Interrupted::listen().map_err(DemoError::io("listen for signals"))?;
    let names: Vec<String> = (1..=settings.nodes).map(|number| format!("n{number}")).collect();
    let narrator = Narrator::new(now_us(), names.clone(), is_colored(settings.color));
    let (teller, _) = stage::open(narrator, io::stdout());
    let mut cluster = Cluster::prepare(names, settings.data_dir.as_deref(), teller.clone())?;
    say(&title(settings, &cluster));
    let mut play = Play { settings, teller: teller.clone(), cluster: &mut cluster };
    let played = tokio::select! {
        played = play.run() => Some(played),
        () = interrupted.wait() => None,
    };
    let code = match &played {
        None => ExitCode::from(EXIT_INTERRUPTED),
        Some(Ok(report)) if report.holds() => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    };
    teller.flush().await;
    if let Some(Ok(report)) = &played {
        say(&report.text());
        if settings.keep_running {
            say(&summary::how_to_use(&cluster.addresses(), &cluster.status_page(), &client_program()));
            interrupted.wait().await;
        }
        if !report.holds() {
            cluster.keep_folder();
        }
    }
    let killed = cluster.stop().await;
    teller.flush().await;
    if !killed.is_empty() {
        say(&format!("{} did not stop in time and had to be killed\n", killed.join(", ")));
    }
    match played {
        Some(Err(error)) => {
            cluster.keep_folder();
            say(&format!("\nThe nodes' data and logs are kept in {}\n", cluster.folder().display()));
            return Err(error);
        }
        Some(Ok(report)) if !settings.keep_running => say(&summary::how_to_repeat(&program(), report.seed)),
        None => say("\nInterrupted; all nodes are stopped.\n"),
        Some(Ok(_)) => say("\nAll nodes are stopped.\n"),
    }
    if !cluster.is_temporary() {
        say(&format!("The nodes' data and logs are in {}\n", cluster.folder().display()));
    }
    Ok(code)
}

/// What is shown from the first node's start to the check.
struct Play<'a> {
    settings: &'a Settings,
    teller: Teller,
    cluster: &'a mut Cluster,
}

impl Play<'_> {
    async fn run(&mut self) -> Result<Report, DemoError> {
        let nodes = self.settings.nodes;
        let addresses = self.cluster.addresses();
        for (at, (node, address)) in addresses.iter().enumerate() {
            let pid = self.cluster.start(at)?;
            self.tell(DemoScene::Started { node: node.clone(), pid, address: address.clone() }).await;
        }
        let asker = Asker::new(&addresses)?;
        let first = asker.leader(nodes, || self.cluster.check_running()).await?;
        // In a directory that was given there may be a state already, which the nodes apply only now.
        let before = asker.states(0, || self.cluster.check_running()).await?;
        let revision_before = before.iter().map(|state| state.revision).max().unwrap_or_default();
        self.teller.flush().await;
        self.tell(DemoScene::Ready { leader: first.name.clone(), term: first.term }).await;
        let (answers, killed) = self.serve(&addresses, &asker).await?;
        self.tell(DemoScene::ClientsDone).await;
        if let Some(killed) = &killed {
            self.bring_back(&killed.name, &addresses, &asker).await?;
        }
        let told = answers.iter().filter_map(Answer::revision).max().unwrap_or(revision_before);
        let states = asker.states(told, || self.cluster.check_running()).await?;
        let leader = asker.leader(nodes, || self.cluster.check_running()).await?;
        let keys = asker.keys().await?;
        self.teller.flush().await;
        let index = states.iter().map(|state| state.applied_index).max().unwrap_or_default();
        self.tell(DemoScene::CaughtUp { index }).await;
        Ok(Report {
            seed: self.settings.seed,
            leader,
            killed: killed.map(|killed| (killed.name, killed.term)),
            answers,
            revision_before,
            states,
            keys,
        })
    }

    /// Lets the clients send their operations, and kills the leader halfway if that is asked for. Returns all answers
    /// and the leader that was killed.
    async fn serve(
        &mut self,
        addresses: &[(String, String)],
        asker: &Asker,
    ) -> Result<(Vec<Answer>, Option<LeaderSeen>), DemoError> {
        let Settings { nodes, clients, operations, seed, kill_leader, .. } = *self.settings;
        let (answers, mut received) = mpsc::channel(clients.max(1));
        let mut tasks = JoinSet::new();
        for number in 1..=clients {
            let client = DemoClient {
                number,
                operations: operations::of_client(seed, number, operations, nodes),
                nodes: addresses.to_vec(),
                teller: self.teller.clone(),
                answers: answers.clone(),
            };
            tasks.spawn(client.run());
        }
        drop(answers);
        let half = clients * operations / 2;
        let (mut all, mut killed) = (Vec::new(), None);
        loop {
            if kill_leader && killed.is_none() && all.len() >= half {
                killed = Some(self.kill_leader(addresses, asker).await?);
            }
            let Some(answer) = received.recv().await else { break };
            all.push(answer);
        }
        self.cluster.check_running()?;
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| DemoError::Client(format!("a client did not come to its end: {error}")))?;
        }
        Ok((all, killed))
    }

    async fn kill_leader(&mut self, addresses: &[(String, String)], asker: &Asker) -> Result<LeaderSeen, DemoError> {
        let majority = self.settings.majority();
        let leader = asker.leader(majority, || self.cluster.check_running()).await?;
        let pid = self.cluster.kill(position(addresses, &leader.name)).await?;
        self.tell(DemoScene::Killed { node: leader.name.clone(), pid }).await;
        Ok(leader)
    }

    /// Starts a killed node again, once the others have a leader, and waits until it follows that.
    async fn bring_back(&mut self, name: &str, addresses: &[(String, String)], asker: &Asker) -> Result<(), DemoError> {
        asker.leader(self.settings.nodes - 1, || self.cluster.check_running()).await?;
        let pid = self.cluster.start(position(addresses, name))?;
        self.tell(DemoScene::Restarted { node: name.to_owned(), pid }).await;
        asker.leader(self.settings.nodes, || self.cluster.check_running()).await?;
        Ok(())
    }

    async fn tell(&self, scene: DemoScene) {
        self.teller.tell(Scene::Demo(scene)).await;
    }
}

fn position(addresses: &[(String, String)], name: &str) -> usize {
    addresses.iter().position(|(node, _)| node == name).expect("the nodes know each other by the names given to them")
}

fn title(settings: &Settings, cluster: &Cluster) -> String {
    let Settings { nodes, clients, operations, seed, .. } = settings;
    let kept = if cluster.is_temporary() { ", removed at the end" } else { "" };
    format!(
        "Quorate demo: {nodes} nodes, {clients} clients with {operations} operations each, seed {seed}\n\
         Data and logs of the nodes: {}{kept}\n\n",
        cluster.folder().display()
    )
}

/// Ctrl-C or SIGTERM.
struct Interrupted {
    ctrl_c: Signal,
    terminate: Signal,
}

impl Interrupted {
    fn listen() -> io::Result<Self> {
        Ok(Self { ctrl_c: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.ctrl_c.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Whether to colour lines on standard output.
fn is_colored(color: Color) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value: std::ffi::OsString| !value.is_empty());
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
        }
    }
}

/// How this program was called.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "quorate-server".to_owned())
}

/// How client-cli is called: beside this program if it is there.
fn client_program() -> String {
    let program = program();
    let beside = Path::new(&program).with_file_name("client-cli");
    if program.contains('/') && beside.is_file() { beside.display().to_string() } else { "client-cli".to_owned() }
}

fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    // A reader that has gone away does not change what the demo does.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn say_error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "quorate-server demo: {text}");
}
