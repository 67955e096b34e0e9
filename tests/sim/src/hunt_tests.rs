//! Tests as hunters: a test of the woven tree, run in a process of its own with one mutant on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use mutants::{MUTANT_VARIABLE, TestName};
use serde_json::Value;

/// A test that has not ended when it was looked at so often is stopped, and counts as failed: a mutant may well make
/// something wait for ever. A machine that stands still for a while looks no more often than its tests run.
const LOOKS_MAX: u32 = 6_000;

/// How long to wait between two looks.
const LOOK_MS: u64 = 10;

/// What the tests are built with: that of plain tests. Each runs for moments, so building them counts.
const PROFILE: &str = "dev";

/// The programs of tests that were built.
pub(crate) struct Tests {
    programs: BTreeMap<(String, String), Program>,
}

struct Program {
    path: PathBuf,
    /// The folder of its package, in which cargo would run it.
    folder: PathBuf,
}

impl Tests {
    /// Builds the tests of the tree that this program was built from, and shows that each passes while no mutant is on.
    ///
    /// # Errors
    /// If they do not build, or one does not pass or is not there.
    pub(crate) fn build(wanted: &BTreeSet<&TestName>) -> anyhow::Result<Tests> {
        let mut targets: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for test in wanted {
            targets.entry(&test.package).or_default().insert(&test.target);
        }
        let mut programs = BTreeMap::new();
        for (package, targets) in targets {
            build_package(package, &targets, &mut programs)?;
        }
        let tests = Tests { programs };
        for test in wanted {
            if let Some(failure) = tests.run(test, 0)? {
                bail!("with no mutant on, the test `{}` fails: {failure}", test.path);
            }
        }
        Ok(tests)
    }

    /// Runs one test with the mutant of a number on. What it died of, if it failed.
    ///
    /// # Errors
    /// If there is no such test, or it cannot be run.
    pub(crate) fn run(&self, test: &TestName, mutant: usize) -> anyhow::Result<Option<String>> {
        let TestName { package, target, path } = test;
        let program = self.programs.get(&(package.clone(), target.clone()));
        let program = program.with_context(|| format!("`{package}` has no tests in `{target}`"))?;
        let (status, output) = program.run(path, mutant)?;
        if status.is_some_and(|status| status.success()) {
            // A name that fits nothing fails nothing.
            let ran = output.lines().any(|line| line.starts_with("test result: ok. 1 passed;"));
            return if ran { Ok(None) } else { bail!("`{package}` has no test `{path}` in `{target}`") };
        }
        let told = status.map_or_else(|| "it did not end".to_owned(), |status| status.to_string());
        Ok(Some(cause(&output).map_or(told, str::to_owned)))
    }
}

/// Builds the tests of one package, the unit tests if `lib` is among the targets.
fn build_package(
    package: &str,
    targets: &BTreeSet<&str>,
    programs: &mut BTreeMap<(String, String), Program>,
) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("the path of this program")?;
    let target_folder = own.ancestors().nth(2).context("this program is not in a target directory")?;
    let root = mutants::root();
    let manifest = root.parent().context("the copy lies beside its workspace")?.join("Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--no-run", "--quiet", "--message-format=json", "--profile", PROFILE]);
    command.args(["--package", package]).arg("--manifest-path").arg(manifest);
    command.arg("--target-dir").arg(target_folder).stderr(Stdio::inherit());
    for target in targets {
        match *target {
            "lib" => command.arg("--lib"),
            target => command.args(["--test", target]),
        };
    }
    let output = command.output().context("cargo")?;
    if !output.status.success() {
        bail!("the tests of `{package}` do not build: {}", output.status);
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((target, program)) = serde_json::from_str(line).ok().as_ref().and_then(built) {
            programs.insert((package.to_owned(), target), program);
        }
    }
    Ok(())
}

/// What a message of cargo says was built, if that is a test.
fn built(message: &Value) -> Option<(String, Program)> {
    let path = PathBuf::from(message["executable"].as_str()?);
    let folder = PathBuf::from(message["manifest_path"].as_str()?).parent()?.to_owned();
    let target = &message["target"];
    let is_unit = target["kind"].as_array()?.iter().any(|kind| kind == "lib");
    let name = if is_unit { "lib" } else { target["name"].as_str()? };
    Some((name.to_owned(), Program { path, folder }))
}

impl Program {
    /// Runs one test. Gives how it ended, if it did, and what it wrote.
    fn run(&self, test: &str, mutant: usize) -> anyhow::Result<(Option<ExitStatus>, String)> {
        let (mut reader, writer) = std::io::pipe().context("a pipe")?;
        let mut command = Command::new(&self.path);
        command.args(["--exact", test, "--nocapture"]).current_dir(&self.folder);
        command.env(MUTANT_VARIABLE, mutant.to_string()).env("RUST_BACKTRACE", "0");
        command.stdin(Stdio::null()).stdout(writer.try_clone().context("a pipe")?).stderr(writer);
        let mut child = command.spawn().with_context(|| self.path.display().to_string())?;
        drop(command); // it holds the ends of the pipe that the test writes to
        let output = thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
        });
        let mut status = None;
        for _ in 0..LOOKS_MAX {
            status = child.try_wait().context("a test")?;
            if status.is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(LOOK_MS));
        }
        if status.is_none() {
            child.kill().and_then(|()| child.wait()).context("a test that does not end")?;
        }
        let output = output.join().expect("it only reads").context("what a test wrote")?;
        Ok((status, output))
    }
}

/// The first line of what a failed test says was wrong.
fn cause(output: &str) -> Option<&str> {
    let mut lines = output.lines();
    lines
        .by_ref()
        .find(|line| line.starts_with("thread ") && line.contains(" panicked at "))
        .and_then(|_| lines.next())
        .or_else(|| output.lines().find(|line| line.starts_with("note: test did not panic")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_by_its_first_line() {
        let panicked = "running 1 test\n\nthread 'a' (7) panicked at b.rs:1:2:\nit is gone\nwhat more\n";
        assert_eq!(cause(panicked), Some("it is gone"));
        let silent = "running 1 test\nnote: test did not panic as expected at b.rs:1:2\n";
        assert_eq!(cause(silent), Some("note: test did not panic as expected at b.rs:1:2"));
        assert_eq!(cause("running 1 test\n"), None);
    }

    #[test]
    fn what_cargo_builds_is_known_by_its_target() {
        let of = |kind: &str, executable: &str| {
            let target = format!(r#"{{"kind":["{kind}"],"name":"wal"}}"#);
            let text = format!(r#"{{"target":{target},"manifest_path":"/a/Cargo.toml","executable":{executable}}}"#);
            built(&serde_json::from_str(&text).expect("a message")).map(|(target, program)| (target, program.folder))
        };
        assert_eq!(of("test", r#""/t/wal-1""#), Some(("wal".to_owned(), PathBuf::from("/a"))));
        assert_eq!(of("lib", r#""/t/engine-1""#), Some(("lib".to_owned(), PathBuf::from("/a"))));
        assert_eq!(of("lib", "null"), None, "a library is no program");
    }
}
