//! The copy of the source tree that all mutants are woven into, and its build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::patch::Mutant;
use crate::{MUTANT_VARIABLE, MutantError, root, weave};

/// What the copy needs of the tree, but for the workspace itself.
const COPIED: [&str; 4] = ["client-cli", "proto", "server", "tests"];

/// Where it lies, beside its workspace. Cargo tells packages apart by their places in a workspace: with the same ones,
/// the builds of the copy and of the original would overwrite each other.
const COPY: &str = "woven";

/// The switches of all mutants, as a module of the consensus core: every other crate that is woven sees that one.
const SWITCHES: &str = "\
//! Which mutant is on.

extern crate std;

use core::sync::atomic::{AtomicUsize, Ordering};

/// Nobody has said which, so the environment does.
const UNSAID: usize = usize::MAX;

static ON: AtomicUsize = AtomicUsize::new(UNSAID);

/// Turns on the mutant of this number and all others off; 0 turns all off.
pub fn switch_to(number: usize) {
    ON.store(number, Ordering::SeqCst);
}

/// Whether the mutant of this number is on.
#[inline]
pub fn is_on(number: usize) -> bool {
    let on = ON.load(Ordering::Relaxed);
    on == number || (on == UNSAID && said_by_environment() == number)
}

#[cold]
fn said_by_environment() -> usize {
    let said = std::env::var(\"VARIABLE\").map_or(0, |number| number.parse().expect(\"a number\"));
    ON.store(said, Ordering::Relaxed);
    said
}
";

/// The program of the copy: the hunt, with the copy's own switch.
const HUNT: &str = "\
//! Hunts the mutants that are woven into this tree.

fn main() -> std::process::ExitCode {
    sim::hunt(raft::mutants::switch_to)
}
";

const HUNT_MANIFEST: &str = "\
[package]
name = \"hunt\"
version.workspace = true
edition.workspace = true

[dependencies]
raft.workspace = true
sim = { path = \"../woven/tests/sim\" }
";

/// A tree with all mutants in it.
pub struct Woven {
    folder: PathBuf,
}

/// Weaves all mutants into a copy of the tree below `target`. Files that are as they should be stay untouched, so that
/// a second build is quick.
///
/// # Errors
/// If a patch does not fit, or a file cannot be read or written.
pub fn weave_tree(mutants: &[Mutant], target: &Path) -> Result<Woven, MutantError> {
    let (root, folder) = (root(), target.join("mutants"));
    let manifest = read(&root.join("Cargo.toml"))?.replace("path = \"", &format!("path = \"{COPY}/"));
    let manifest =
        manifest.replace("    \"", &format!("    \"{COPY}/")).replace("members = [", "members = [\n    \"hunt\",");
    let mut wanted = vec![
        ("Cargo.toml".to_owned(), manifest.into_bytes()),
        ("Cargo.lock".to_owned(), read(&root.join("Cargo.lock"))?.into_bytes()),
        ("hunt/src/main.rs".to_owned(), HUNT.to_owned().into_bytes()),
        ("hunt/Cargo.toml".to_owned(), HUNT_MANIFEST.to_owned().into_bytes()),
        (format!("{COPY}/server/raft/src/mutants.rs"), SWITCHES.replace("VARIABLE", MUTANT_VARIABLE).into_bytes()),
    ];
    for path in COPIED {
        for file in files_below(&root.join(path))? {
            let name = file.strip_prefix(&root).expect("it lies below").to_string_lossy().replace('\\', "/");
            let bytes = fs::read(&file).map_err(MutantError::io(&file))?;
            let bytes = if is_woven(&name, mutants) { woven(&name, &bytes, mutants)? } else { bytes };
            wanted.push((format!("{COPY}/{name}"), bytes));
        }
    }
    for (name, bytes) in &wanted {
        write_if_different(&folder.join(name), bytes)?;
    }
    // What is no longer in the tree must not stay in the copy: modules are found by their files.
    for file in files_below(&folder.join(COPY))? {
        let name = file.strip_prefix(&folder).expect("it lies below").to_string_lossy().replace('\\', "/");
        if !wanted.iter().any(|(wanted, _)| *wanted == name) {
            fs::remove_file(&file).map_err(MutantError::io(&file))?;
        }
    }
    Ok(Woven { folder })
}

fn read(path: &Path) -> Result<String, MutantError> {
    fs::read_to_string(path).map_err(MutantError::io(path))
}

fn is_woven(name: &str, mutants: &[Mutant]) -> bool {
    name == "server/raft/src/lib.rs" || mutants.iter().flat_map(Mutant::files).any(|file| file == name)
}

/// A file of the copy that is not just copied.
fn woven(name: &str, bytes: &[u8], mutants: &[Mutant]) -> Result<Vec<u8>, MutantError> {
    let text = String::from_utf8_lossy(bytes);
    let switch = |number| {
        let path = if name.starts_with("server/raft/") { "crate" } else { "raft" };
        format!("{path}::mutants::is_on({number})")
    };
    let mut text = weave(name, &text, mutants, &switch)?;
    if name == "server/raft/src/lib.rs" {
        text.push_str("\npub mod mutants;\n");
    }
    Ok(text.into_bytes())
}

impl Woven {
    /// Builds the hunt in this tree, with the profile of the simulator. What it has in common with other builds in
    /// `target`, such as the crates of others, is used again.
    ///
    /// # Errors
    /// If it does not build.
    pub fn build(&self, target: &Path) -> Result<PathBuf, MutantError> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--profile", "sim", "--package", "hunt", "--manifest-path"])
            .arg(self.folder.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(target)
            .current_dir(&self.folder)
            .status()
            .map_err(|error| MutantError::Build(error.to_string()))?;
        if !status.success() {
            return Err(MutantError::Build(status.to_string()));
        }
        Ok(target.join("sim").join(format!("hunt{}", std::env::consts::EXE_SUFFIX)))
    }
}

fn write_if_different(path: &Path, bytes: &[u8]) -> Result<(), MutantError> {
    if fs::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(MutantError::io(folder))?;
    }
    fs::write(path, bytes).map_err(MutantError::io(path))
}

/// All files below a folder, or the file itself, in the order of their names; build products are left out.
///
/// # Errors
/// If a folder cannot be read.
pub fn files_below(path: &Path) -> Result<Vec<PathBuf>, MutantError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(MutantError::io(path))? {
        entries.push(entry.map_err(MutantError::io(path))?.path());
    }
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        let is_product = entry.file_name().is_some_and(|name| name == "target");
        if !is_product {
            files.extend(files_below(&entry)?);
        }
    }
    Ok(files)
}
