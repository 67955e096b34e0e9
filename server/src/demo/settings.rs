//! What a demo is to show: flags, then a TOML file, then defaults.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::{Color, DEMO_CLIENTS_MAX, DEMO_OPERATIONS_MAX, DemoArgs};
use crate::config::MEMBERS_MAX;

/// The defaults of a demo: the smallest cluster that survives a failure.
const NODES_DEFAULT: u64 = 3;
const CLIENTS_DEFAULT: u64 = 3;
const OPERATIONS_DEFAULT: u64 = 5;

/// With fewer nodes, those that are left when the leader is killed are no majority.
const NODES_TO_KILL_ONE_MIN: u64 = 3;

/// What a demo is to show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    /// How many nodes there are.
    pub(super) nodes: usize,
    /// How many clients there are.
    pub(super) clients: usize,
    /// How many operations each client sends.
    pub(super) operations: usize,
    /// What the operations are chosen from.
    pub(super) seed: u64,
    /// Where the nodes' data goes; none: a temporary folder.
    pub(super) data_dir: Option<PathBuf>,
    /// Whether the cluster stays up at the end.
    pub(super) keep_running: bool,
    /// Whether the leader is killed halfway.
    pub(super) kill_leader: bool,
    /// When lines are coloured.
    pub(super) color: Color,
}

/// The TOML file. Every key is optional; one that does not exist is an error.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
struct File {
    num_nodes: Option<u64>,
    num_clients: Option<u64>,
    num_operations: Option<u64>,
    seed: Option<u64>,
    data_dir: Option<PathBuf>,
    keep_running: Option<bool>,
    kill_leader: Option<bool>,
    color: Option<Color>,
}

/// Why the settings are refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum SettingsError {
    /// The file cannot be read.
    #[error("--config: the demo's file {} cannot be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The file is not TOML, or has keys or values that it must not have.
    #[error("{}: {cause}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        cause: String,
    },
    /// A number is out of its range. Flags are checked when they are parsed.
    #[error("{key} in {}: `{value}` is out of range; allowed: {min} to {max}", path.display())]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// The value.
        value: u64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// The leader cannot be killed.
    #[error(
        "kill_leader needs at least {NODES_TO_KILL_ONE_MIN} nodes, and there are {nodes}: those that are left must be a \
         majority"
    )]
    TooFewToKillOne {
        /// How many nodes there are.
        nodes: u64,
    },
}

impl Settings {
    /// Merges the sources. `random_seed` is used if none gives a seed.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong; nothing was started then.
    pub(super) fn load(
        flags: &DemoArgs,
        read_file: impl Fn(&Path) -> io::Result<String>,
        random_seed: u64,
    ) -> Result<Self, SettingsError> {
        let file = match &flags.config {
            Some(path) => File::read(path, read_file)?,
            None => File::default(),
        };
        let count = |flag: Option<u64>, file: Option<u64>, default| {
            usize::try_from(flag.or(file).unwrap_or(default)).expect("the range was checked")
        };
        let settings = Self {
            nodes: count(flags.nodes, file.num_nodes, NODES_DEFAULT),
            clients: count(flags.clients, file.num_clients, CLIENTS_DEFAULT),
            operations: count(flags.operations, file.num_operations, OPERATIONS_DEFAULT),
            seed: flags.seed.or(file.seed).unwrap_or(random_seed),
            data_dir: flags.data_dir.clone().or(file.data_dir),
            keep_running: flags.keep_running || file.keep_running.unwrap_or(false),
            kill_leader: flags.kill_leader || file.kill_leader.unwrap_or(false),
            color: flags.color.or(file.color).unwrap_or_default(),
        };
        let nodes = settings.nodes as u64;
        if settings.kill_leader && nodes < NODES_TO_KILL_ONE_MIN {
            return Err(SettingsError::TooFewToKillOne { nodes });
        }
        Ok(settings)
    }

    /// How many nodes are a majority.
    #[must_use]
    pub(super) fn majority(&self) -> usize {
        self.nodes / 2 + 1
    }
}

impl File {
    fn read(path: &Path, read_file: impl Fn(&Path) -> io::Result<String>) -> Result<Self, SettingsError> {
        let path = path.to_owned();
        let text = read_file(&path)
            .map_err(|error| SettingsError::Unreadable { path: path.clone(), cause: error.to_string() })?;
        let file: Self = toml::from_str(&text)
            .map_err(|error| SettingsError::Malformed { path: path.clone(), cause: error.to_string() })?;
        let limits = [
            ("num_nodes", file.num_nodes, 1, MEMBERS_MAX as u64),
            ("num_clients", file.num_clients, 0, DEMO_CLIENTS_MAX),
            ("num_operations", file.num_operations, 0, DEMO_OPERATIONS_MAX),
        ];
        for (key, value, min, max) in limits {
            if let Some(value) = value.filter(|value| !(min..=max).contains(value)) {
                return Err(SettingsError::OutOfRange { path, key, value, min, max });
            }
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &DemoArgs, file: &str) -> Result<Settings, SettingsError> {
        Settings::load(flags, |_| Ok(file.to_owned()), 42)
    }

    fn with_file() -> DemoArgs {
        DemoArgs { config: Some("demo.toml".into()), ..DemoArgs::default() }
    }

    fn refusal(file: &str) -> String {
        load(&with_file(), file).expect_err("the settings are refused").to_string()
    }

    #[test]
    fn without_any_source_three_nodes_serve_three_clients() {
        let expected = Settings {
            nodes: 3,
            clients: 3,
            operations: 5,
            seed: 42,
            data_dir: None,
            keep_running: false,
            kill_leader: false,
            color: Color::Auto,
        };
        assert_eq!(load(&DemoArgs::default(), ""), Ok(expected.clone()));
        assert_eq!(load(&with_file(), ""), Ok(expected));
    }

    #[test]
    fn the_commented_file_shows_every_key_and_sets_the_defaults() {
        let file = include_str!("../../../deploy/config/demo.toml");
        assert_eq!(load(&with_file(), file), load(&DemoArgs::default(), ""));
        let example = |line: &'static str| line.strip_prefix('#').filter(|it| !it.starts_with(' ')).unwrap_or(line);
        let examples = file.lines().map(example).collect::<Vec<_>>().join("\n");
        let keys: Vec<String> = examples.parse::<toml::Table>().expect("valid TOML").keys().cloned().collect();
        let expected =
            ["color", "data_dir", "keep_running", "kill_leader", "num_clients", "num_nodes", "num_operations", "seed"];
        assert_eq!(keys, expected);
        assert_eq!(load(&with_file(), &examples).map(|settings| settings.seed), Ok(1));
    }

    #[test]
    fn the_file_sets_everything_and_flags_win() {
        let file = "num_nodes = 5\nnum_clients = 4\nnum_operations = 6\nseed = 7\ndata_dir = \"/d\"\n\
                    keep_running = true\nkill_leader = true\ncolor = \"never\"";
        let settings = load(&with_file(), file).expect("valid");
        let expected = Settings {
            nodes: 5,
            clients: 4,
            operations: 6,
            seed: 7,
            data_dir: Some("/d".into()),
            keep_running: true,
            kill_leader: true,
            color: Color::Never,
        };
        assert_eq!(settings, expected);
        let flags = DemoArgs {
            nodes: Some(1),
            clients: Some(0),
            operations: Some(2),
            seed: Some(3),
            data_dir: Some("/e".into()),
            color: Some(Color::Always),
            ..with_file()
        };
        let settings = load(&flags, "num_nodes = 5\nseed = 7\ncolor = \"never\"").expect("valid");
        let expected = Settings {
            nodes: 1,
            clients: 0,
            operations: 2,
            seed: 3,
            data_dir: Some("/e".into()),
            keep_running: false,
            kill_leader: false,
            color: Color::Always,
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn what_is_wrong_with_the_file_is_told() {
        assert_eq!(refusal("num_nodes = 0"), "num_nodes in demo.toml: `0` is out of range; allowed: 1 to 9");
        assert_eq!(refusal("num_nodes = 10"), "num_nodes in demo.toml: `10` is out of range; allowed: 1 to 9");
        assert_eq!(refusal("num_clients = 65"), "num_clients in demo.toml: `65` is out of range; allowed: 0 to 64");
        assert_eq!(
            refusal("num_operations = 10001"),
            "num_operations in demo.toml: `10001` is out of range; allowed: 0 to 10000"
        );
        let unknown = refusal("nodes = 3");
        assert!(unknown.starts_with("demo.toml: ") && unknown.contains("unknown field `nodes`"), "{unknown}");
        assert!(refusal("num_nodes = \"3\"").contains("invalid type"));
        let unreadable = Settings::load(&with_file(), |_| Err(io::ErrorKind::NotFound.into()), 1).expect_err("refused");
        assert_eq!(unreadable.to_string(), "--config: the demo's file demo.toml cannot be read: entity not found");
    }

    #[test]
    fn killing_the_leader_must_leave_a_majority() {
        let flags = DemoArgs { nodes: Some(2), kill_leader: true, ..DemoArgs::default() };
        assert_eq!(load(&flags, ""), Err(SettingsError::TooFewToKillOne { nodes: 2 }));
        let flags = DemoArgs { nodes: Some(3), ..flags };
        assert_eq!(load(&flags, "").map(|settings| settings.majority()), Ok(2));
    }
}
