//! A wrong configuration ends the real binary with 64 and one line that says why, before anything is touched.

use std::process::{Command, Output, Stdio};

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-server"));
    command.args(arguments).env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    command.output().expect("the binary can be started")
}

#[test]
fn a_wrong_configuration_exits_64_and_says_why() {
    let data = tempfile::tempdir().expect("a temporary folder can be made");
    let unused = data.path().join("unused");
    let data_dir = unused.to_str().expect("UTF-8");
    let cases = [
        ("--listen nonsense", "", "--listen: `nonsense` is not an address to listen on; "),
        ("", "QUORATE_HEARTBEAT_MS=fast", "QUORATE_HEARTBEAT_MS: `fast` is not a whole number; "),
        ("", "QUORATE_TYPO=1", "unknown environment variable QUORATE_TYPO; "),
        ("", "PEER_B_HOST=b", "PEER_B_HOST is set without PEER_B_PORT; "),
        ("--config /nowhere/q.toml", "", "--config: the configuration file /nowhere/q.toml cannot be read: "),
        ("--peers a=h:1", "", "the node's name `n1` (from --name) is not among the members a (from --peers); "),
    ];
    for (arguments, environment, message) in cases {
        let base = ["run", "--name", "n1", "--data-dir", data_dir];
        let arguments: Vec<&str> = base.into_iter().chain(arguments.split_whitespace()).collect();
        let environment: Vec<(&str, &str)> = environment.split_once('=').into_iter().collect();
        let output = run(&arguments, &environment);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{errors}");
        assert!(errors.starts_with(&format!("quorate-server: {message}")), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(output.stdout.is_empty());
        assert!(!unused.exists(), "the data directory was not touched");
    }
}

#[test]
fn a_wrong_command_line_exits_64_and_help_and_version_exit_0() {
    let code = |arguments: &[&str]| run(arguments, &[]).status.code();
    assert_eq!(code(&["run", "--no-such-flag"]), Some(64));
    assert_eq!(code(&[]), Some(64));
    assert_eq!(code(&["run", "--help"]), Some(0));
    let version = run(&["--version"], &[]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&version.stdout), concat!("quorate-server ", env!("CARGO_PKG_VERSION"), "\n"));
}
