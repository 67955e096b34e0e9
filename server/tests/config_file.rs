//! The commented configuration file: it documents every setting, and what it sets are the defaults.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use quorate_server::cli::RunArgs;
use quorate_server::config::{Config, Key};

const FILE: &str = include_str!("../../deploy/config/quorate.toml");

fn load(text: Option<&str>) -> Config {
    let config = text.map(|_| Path::new("quorate.toml").to_owned());
    let flags = RunArgs { config, ..RunArgs::default() };
    let environment = [("HOSTNAME".to_owned(), "n1".to_owned())];
    Config::load(&flags, environment, |_| text.map(str::to_owned).ok_or_else(|| io::ErrorKind::NotFound.into()))
        .expect("the configuration is valid")
}

/// The file with its examples switched on: the lines that begin with `#` and no space.
fn with_examples() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|first: char| first.is_ascii_lowercase()) => format!("{setting}\n"),
        _ => format!("{line}\n"),
    };
    FILE.lines().map(line).collect()
}

/// The keys that are set at the top of a TOML text.
fn keys(text: &str) -> BTreeSet<String> {
    text.parse::<toml::Table>().expect("valid TOML").keys().cloned().collect()
}

#[test]
fn what_the_file_sets_are_the_defaults() {
    assert_eq!(load(Some(FILE)), load(None));
}

#[test]
fn every_setting_is_in_the_file_and_the_file_has_no_other() {
    let documented = keys(&with_examples());
    let existing: BTreeSet<String> = Key::ALL.iter().map(|key| key.as_str().to_owned()).collect();
    assert_eq!(documented, existing);
}

#[test]
fn only_settings_without_a_fixed_default_are_examples() {
    let examples: BTreeSet<String> = keys(&with_examples()).difference(&keys(FILE)).cloned().collect();
    let expected = ["advertise_client", "data_dir", "http_listen", "name", "peer_listen", "peers"];
    assert_eq!(examples, expected.map(str::to_owned).into());
}

#[test]
fn the_examples_are_a_valid_configuration() {
    let config = load(Some(&with_examples()));
    assert_eq!((config.name.as_str(), config.peers.len()), ("n1", 3));
    assert_eq!(config.client_address(config.listen), "n1.example:7001");
}

#[test]
fn every_setting_is_explained_above_itself() {
    let lines: Vec<&str> = FILE.lines().collect();
    for key in Key::ALL {
        let is_setting = |line: &str| {
            let setting = line.trim_start_matches('#');
            setting.starts_with(&format!("{} = ", key.as_str())) || setting.starts_with(&format!("{}.", key.as_str()))
        };
        let at = lines.iter().position(|line| is_setting(line)).expect("the setting is there");
        assert!(at > 0 && lines[at - 1].starts_with("# "), "{} has no comment above it", key.as_str());
    }
}
