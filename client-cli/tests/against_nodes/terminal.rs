//! What is different on a terminal: colours, and a bar while a load runs. The terminal is a real one, of the kernel.

use crate::{command_line::BINARY, fake::Node};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    os::unix::ffi::OsStringExt as _,
    process::Command,
};

/// Runs the binary with its outputs on a terminal, and returns what it wrote there.
fn on_a_terminal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal can be made");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("it can be opened");
    let path = ptsname(&master, Vec::new()).expect("it has a name").into_bytes();
    let path = std::ffi::OsString::from_vec(path);
    let slave = || OpenOptions::new().read(true).write(true).open(&path).expect("it is there");
    let mut command = Command::new(BINARY);
    command.args(arguments).env_clear().env("TERM", "xterm").envs(environment.iter().copied());
    let mut child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().expect("it can be run");
    // Its copies of the terminal, without which reading ends when the child does.
    drop(command);
    let mut written = Vec::new();
    let mut buffer = [0; 4096];
    let mut master = File::from(master);
    // A terminal whose other side is closed is an error to its reader.
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        written.extend_from_slice(&buffer[..count]);
    }
    child.wait().expect("it ends");
    String::from_utf8(written).expect("it is text").replace("\r\n", "\n")
}

fn piped(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = Command::new(BINARY).args(arguments).env_clear().envs(environment.iter().copied()).output();
    let output = output.expect("it can be run");
    String::from_utf8([output.stdout, output.stderr].concat()).expect("it is text")
}

#[test]
fn colours_are_for_terminals() {
    let node = Node::start();
    let endpoint = node.endpoint();
    for arguments in [&["get", "missing"][..], &["status"], &["doctor"], &["--help"], &["frobnicate"]] {
        let arguments = [&["--endpoints", &endpoint], arguments].concat();
        let shown = on_a_terminal(&arguments, &[]);
        assert!(shown.contains("\u{1b}[1m"), "{arguments:?}: {shown}");
        let colourless = [
            on_a_terminal(&arguments, &[("NO_COLOR", "1")]),
            on_a_terminal(&arguments, &[("TERM", "dumb")]),
            piped(&arguments, &[]),
        ];
        for plain in colourless {
            assert!(!plain.contains('\u{1b}') && !plain.is_empty(), "{arguments:?}: {plain}");
        }
        assert!(piped(&arguments, &[("CLICOLOR_FORCE", "1")]).contains('\u{1b}'), "{arguments:?}");
    }
}

#[test]
fn what_is_for_programs_has_no_colours() {
    let node = Node::start();
    let endpoint = node.endpoint();
    for format in ["json", "raw"] {
        for command in ["status", "doctor", "leader", "members"] {
            let shown = on_a_terminal(&["--endpoints", &endpoint, "-o", format, command], &[]);
            assert!(!shown.contains('\u{1b}'), "{format} {command}: {shown}");
        }
    }
}

#[test]
fn a_load_shows_how_it_goes() {
    let node = Node::start();
    let endpoint = node.endpoint();
    let arguments = ["--endpoints", &endpoint, "bench", "--duration", "700ms", "--rate", "100", "--keys", "5"];
    let shown = on_a_terminal(&arguments, &[]);
    let frames = shown.matches("/s, p99 ").count();
    assert!(frames > 1 && shown.contains("[==="), "{shown}");
    // The bar is gone when the figures come.
    let figures = shown.rsplit("\u{1b}[2K").next().unwrap_or_default();
    assert!(figures.contains("done       ") && !figures.contains("[="), "{shown}");
    let bar = piped(&arguments, &[]);
    assert!(!bar.contains("[=") && bar.contains("done       "), "{bar}");
}
