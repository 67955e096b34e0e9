//! Collects what each source says, before anything is given a type.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::discovery::{self, Discovery};
use super::error::ConfigError;
use super::key::{Key, Origin, VARIABLE_PREFIX};
use super::parse::Problem;
use crate::cli::RunArgs;

/// The variable that names the configuration file.
const CONFIG_VARIABLE: &str = "QUORATE_CONFIG";

/// Variables that begin like ours and are meant for `client-cli`, which may share an environment with a node.
const VARIABLES_OF_OTHERS: [&str; 2] = ["QUORATE_ENDPOINTS", "QUORATE_TIMEOUT"];

/// Where the host name is looked up if the environment does not tell it.
const HOST_NAME_FILES: [&str; 2] = ["/proc/sys/kernel/hostname", "/etc/hostname"];

/// A value as its source gave it.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Raw {
    /// From a flag or a variable.
    Text(String),
    /// From the file.
    Toml(toml::Value),
}

/// A value with its origin.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Given {
    /// Where it came from.
    pub(super) origin: Origin,
    /// What it is.
    pub(super) raw: Raw,
}

impl Given {
    /// The value as text, for a parser: a file must give a string or, where `is_number`, an integer.
    pub(super) fn text(&self, is_number: bool) -> Result<String, ConfigError> {
        match &self.raw {
            Raw::Text(text) => Ok(text.clone()),
            Raw::Toml(toml::Value::String(text)) if !is_number => Ok(text.clone()),
            Raw::Toml(toml::Value::Integer(number)) if is_number => Ok(number.to_string()),
            Raw::Toml(other) => {
                let allowed = if is_number { "a whole number without quotes" } else { "a string in quotes" };
                Err(self.refused(Problem::new(format!("is {}", with_article(other.type_str())), allowed)))
            }
        }
    }

    /// The error that this value has `problem`.
    pub(super) fn refused(&self, problem: Problem) -> ConfigError {
        refused(self.origin.clone(), &self.value(), problem)
    }

    /// The value as it is shown in an error.
    pub(super) fn value(&self) -> String {
        match &self.raw {
            Raw::Text(text) | Raw::Toml(toml::Value::String(text)) => text.clone(),
            Raw::Toml(other) => other.to_string().trim().to_owned(),
        }
    }
}

/// The error that the value of `origin` has `problem`.
pub(super) fn refused(origin: Origin, value: &str, problem: Problem) -> ConfigError {
    ConfigError::Value {
        origin: Box::new(origin),
        value: value.to_owned(),
        problem: problem.problem,
        allowed: problem.allowed,
    }
}

fn with_article(type_name: &str) -> String {
    let article = if type_name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {type_name}")
}

/// What all sources say.
pub(super) struct Sources {
    given: BTreeMap<Key, Given>,
    /// The discovery contract's variables.
    pub(super) discovery: Discovery,
    /// The machine's host name in full, if there is one.
    pub(super) host_name: Option<String>,
}

impl Sources {
    /// Asks each source. The stronger have the last word.
    pub(super) fn collect(
        flags: &RunArgs,
        environment: impl IntoIterator<Item = (String, String)>,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, ConfigError> {
        let variables: BTreeMap<String, String> =
            environment.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let variables = discovery::without_service_links(variables);
        let mut given = BTreeMap::new();
        let file = match (&flags.config, variables.get(CONFIG_VARIABLE)) {
            (Some(path), _) => Some(("--config", path.clone())),
            (None, Some(path)) => Some((CONFIG_VARIABLE, PathBuf::from(path))),
            (None, None) => None,
        };
        if let Some((origin, path)) = file {
            let text = read_file(&path).map_err(|error| ConfigError::Unreadable {
                origin,
                path: path.clone(),
                cause: error.to_string(),
            })?;
            given.extend(from_file(&path, &text)?);
        }
        let mut stronger = from_variables(&variables)?;
        stronger.extend(Key::ALL.into_iter().filter_map(|key| {
            let raw = Raw::Text(flags.get(key)?);
            Some((key, Given { origin: Origin::Flag(key), raw }))
        }));
        if !stronger.contains_key(&Key::Listen)
            && let Some(listen) = discovery::listen(&variables)?
        {
            given.insert(Key::Listen, listen);
        }
        let discovery = Discovery::collect(&variables, !stronger.contains_key(&Key::Peers))?;
        given.extend(stronger);
        let host_name = variables.get("HOSTNAME").cloned().or_else(|| {
            HOST_NAME_FILES
                .iter()
                .filter_map(|path| read_file(Path::new(path)).ok())
                .map(|text| text.trim().to_owned())
                .find(|text| !text.is_empty())
        });
        Ok(Self { given, discovery, host_name })
    }

    /// What the strongest source says about `key`.
    pub(super) fn get(&self, key: Key) -> Option<&Given> {
        self.given.get(&key)
    }

    /// The members that were given by a stronger source than the discovery contract, or by the file if the contract
    /// names none.
    pub(super) fn explicit_peers(&self) -> Option<&Given> {
        let given = self.get(Key::Peers)?;
        let from_file = matches!(given.origin, Origin::File { .. });
        (!from_file || self.discovery.peers.is_empty()).then_some(given)
    }

    /// Where the value of `key` came from.
    pub(super) fn origin(&self, key: Key) -> Origin {
        self.get(key).map_or(Origin::Default(key), |given| given.origin.clone())
    }
}

/// The settings of the configuration file.
fn from_file(path: &Path, text: &str) -> Result<Vec<(Key, Given)>, ConfigError> {
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| ConfigError::Syntax { path: path.to_owned(), cause: error.to_string() })?;
    let entry = |(name, value): (String, toml::Value)| {
        let Some(key) = Key::from_name(&name) else {
            let allowed = Key::ALL.map(Key::as_str).join(", ");
            return Err(ConfigError::UnknownKey { path: path.to_owned(), key: name, allowed });
        };
        let origin = Origin::File { path: path.to_owned(), key: name };
        Ok((key, Given { origin, raw: Raw::Toml(value) }))
    };
    table.into_iter().map(entry).collect()
}

/// The settings of the `QUORATE_` variables.
fn from_variables(variables: &BTreeMap<String, String>) -> Result<BTreeMap<Key, Given>, ConfigError> {
    let ours = variables.iter().filter(|(name, _)| name.starts_with(VARIABLE_PREFIX));
    let mut given = BTreeMap::new();
    for (name, value) in ours {
        if name == CONFIG_VARIABLE || VARIABLES_OF_OTHERS.contains(&name.as_str()) {
            continue;
        }
        let Some(key) = Key::from_variable(name) else {
            let mut allowed: Vec<String> = Key::ALL.into_iter().map(Key::variable).collect();
            allowed.push(CONFIG_VARIABLE.to_owned());
            return Err(ConfigError::UnknownVariable { name: name.clone(), allowed: allowed.join(", ") });
        };
        given.insert(key, Given { origin: Origin::Variable(name.clone()), raw: Raw::Text(value.clone()) });
    }
    Ok(given)
}
