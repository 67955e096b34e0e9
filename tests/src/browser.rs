//! A headless Chromium, where there is one.

use std::{io::ErrorKind, net::SocketAddr, path::Path, process::Stdio, time::Duration};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

/// What the program is called, by Debian and by others.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// How long a page may take from the start of the browser to its end. It takes a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// A window, in CSS pixels, the colours that its owner prefers, and how long it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its width.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// Whether the owner prefers dark pages.
    pub dark: bool,
    /// For how many seconds of the browser's own time, which passes as fast as the page has nothing to wait for.
    pub seconds: u32,
}

/// What is done with a page once it has run for a while.
#[derive(Clone, Copy, Debug)]
pub enum Look<'a> {
    /// Its elements are written down as they are by then.
    Elements,
    /// A picture is taken, to this file.
    Picture(&'a Path),
}

/// Opens `path` of the HTTP port at `address`, lets it run, and returns what the browser wrote. `None`, loudly, where
/// there is no browser.
pub async fn look(address: SocketAddr, path: &str, window: Window, look: Look<'_>) -> Option<String> {
    let url = format!("http://{address}{path}");
    for name in NAMES {
        let profile = TempDir::new().expect("a directory for the browser");
        let mut command = command(name, profile.path(), window, look);
        match command.arg(&url).spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => panic!("{name} cannot be started: {error}"),
            Ok(child) => {
                let output = timeout(PATIENCE, child.wait_with_output()).await.expect("the browser ends in time");
                let output = output.expect("the browser can be waited for");
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{name} ended with {}: {errors}", output.status);
                return Some(String::from_utf8_lossy(&output.stdout).into_owned());
            }
        }
    }
    eprintln!("SKIPPED: there is no Chromium on PATH, so nobody looked at {path}");
    None
}

fn command(name: &str, profile: &Path, window: Window, look: Look<'_>) -> Command {
    let Window { width, height, dark, seconds } = window;
    let mut command = Command::new(name);
    // What the browser is shown is this project's own, and the sandbox needs what a container seldom gives.
    command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    command.arg(format!("--window-size={width},{height}"));
    command.arg(format!("--virtual-time-budget={}", 1000 * seconds));
    command.arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)));
    match look {
        Look::Elements => command.arg("--dump-dom"),
        Look::Picture(file) => command.arg(format!("--screenshot={}", file.display())),
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The values that the attribute `name` has in a page's elements, in their order.
pub fn values<'a>(elements: &'a str, name: &str) -> Vec<&'a str> {
    let begin = format!(" {name}=\"");
    elements.split(begin.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}
