//! Builds the image and runs containers of it, without a service that would have to be installed: by `buildah` in a
//! chroot, and by `podman` with `runc`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;

use super::network::{self, Network};
use crate::manifest::Manifest;

/// Works on every file system, and needs no rights beyond those of root.
const STORAGE: [&str; 2] = ["--storage-driver", "vfs"];

/// What of this machine stands for the base image: its compiler, C library and tools.
const OF_THIS_MACHINE: [&str; 6] =
    ["/usr/bin", "/usr/lib", "/usr/lib64", "/usr/include", "/usr/libexec", "/etc/alternatives"];

/// The image that stands for the base image.
const BASE: &str = "localhost/quorate-test-base:latest";

/// Why no container can be built and run here, if so.
pub(super) fn obstacle() -> Option<String> {
    let missing = ["buildah", "podman", "runc"].into_iter().find(|program| Command::new(program).output().is_err());
    missing.map(|program| format!("{program} is not installed")).or_else(network::obstacle)
}

/// Builds the image by its Dockerfile. The registry of images is not asked: this machine stands for the base image.
pub(super) fn build(image: &str) {
    let home = PathBuf::from(std::env::var_os("HOME").expect("there is a home"));
    let of = |variable: &str, folder: &str| std::env::var_os(variable).map_or_else(|| home.join(folder), PathBuf::from);
    let (cargo, rustup) = (of("CARGO_HOME", ".cargo"), of("RUSTUP_HOME", ".rustup"));
    base(&cargo, &rustup);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let commit = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(&root).output().expect("git is there");
    let mut command = Command::new("buildah");
    command.args(STORAGE).args(["bud", "--isolation", "chroot", "--ulimit", "nofile=1024:4096"]);
    for path in OF_THIS_MACHINE.iter().map(Path::new).chain([&*rustup]).filter(|path| path.exists()) {
        command.arg("--volume").arg(format!("{0}:{0}:ro", path.display()));
    }
    command.arg("--volume").arg(format!("{0}:{0}", cargo.display()));
    command.args(["--build-arg", &format!("RUST={BASE}")]);
    command.args(["--build-arg", &format!("COMMIT={}", String::from_utf8_lossy(&commit.stdout).trim())]);
    command.args(["--file", "deploy/Dockerfile", "--tag", image, "."]).current_dir(root);
    run(&mut command);
}

fn base(cargo: &Path, rustup: &Path) {
    let context = tempfile::tempdir().expect("a temporary directory can be made");
    let file = |name: &str| context.path().join(name);
    for directory in ["usr", "etc", "root", "tmp", "proc", "dev", "sys", "var"] {
        std::fs::create_dir(file(directory)).expect("it is empty");
    }
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), file(name)).expect("it is empty");
    }
    std::fs::copy("/etc/ld.so.cache", file("etc/ld.so.cache")).expect("the loader has a cache");
    let dockerfile = format!(
        "FROM scratch\nCOPY . /\nENV PATH={0}/bin:/usr/bin:/bin CARGO_HOME={0} RUSTUP_HOME={1}\n",
        cargo.display(),
        rustup.display()
    );
    let recipe = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(recipe.path(), dockerfile).expect("it can be written to");
    let mut command = Command::new("buildah");
    command.args(STORAGE).args(["bud", "--isolation", "chroot", "--tag", BASE, "--file"]).arg(recipe.path());
    run(command.arg(context.path()));
}

/// What podman knows of an image.
pub(super) fn inspect(image: &str) -> Value {
    let output = run(podman().args(["image", "inspect", image]));
    let list: Value = serde_json::from_slice(&output.stdout).expect("podman answers in JSON");
    list[0].clone()
}

/// A node as a pod of the StatefulSet has it: its name, its environment, its arguments, its rights, its volume.
pub(super) struct Container {
    name: String,
}

impl Container {
    /// Creates the container of the pod of this ordinal, and starts it.
    pub(super) fn start(manifest: &Manifest, image: &str, network: &Network, ordinal: usize) -> Self {
        let name = format!("quorate-{ordinal}");
        let described = manifest.container();
        let mut command = podman();
        command.args(["run", "--detach", "--name", &name, "--hostname", &name]);
        command.args(["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096"]);
        command.arg(format!("--network=ns:{}", network.namespace(ordinal)));
        let replicas = usize::try_from(manifest.replicas()).expect("a few");
        for other in 0..replicas {
            command.arg(format!("--add-host=quorate-{other}.quorate-peers:{}", Network::address(other)));
        }
        command.args(rights(manifest.pod()));
        for (variable, value) in manifest.environment(ordinal as u64) {
            command.arg(format!("--env={variable}={value}"));
        }
        let mount = &described.volume_mounts.as_ref().expect("a volume is mounted")[0];
        command.arg(format!("--volume={name}-{}:{}", mount.name, mount.mount_path));
        command.arg(image).args(described.args.as_ref().expect("there are arguments"));
        // Left over from a run that was killed.
        podman().args(["rm", "--force", "--volumes", &name]).output().ok();
        run(&mut command);
        Self { name }
    }

    /// Runs the pod's hook in the container.
    pub(super) fn run_hook(&self, manifest: &Manifest) -> Output {
        let hook = manifest.container().lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let command = hook.and_then(|hook| hook.exec.as_ref()).and_then(|exec| exec.command.as_ref());
        podman().args(["exec", &self.name]).args(command.expect("a command")).output().expect("podman can be started")
    }

    /// SIGTERM; waits for the end and returns the exit code.
    pub(super) fn terminate(&self) -> i32 {
        run(podman().args(["kill", "--signal", "TERM", &self.name]));
        let output = run(podman().args(["wait", &self.name]));
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("podman tells the exit code")
    }

    /// Starts it again, on the same volume.
    pub(super) fn start_again(&self) {
        run(podman().args(["start", &self.name]));
    }

    /// What the node has logged.
    pub(super) fn log(&self) -> String {
        let output = run(podman().args(["logs", &self.name]));
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
        podman().args(["rm", "--force", "--time", "0", "--volumes", &self.name]).output().ok();
        podman().args(["volume", "rm", "--force", &format!("{}-data", self.name)]).output().ok();
    }
}

/// The rights of a pod as podman is told them.
fn rights(pod: &PodSpec) -> Vec<String> {
    let of_pod = pod.security_context.as_ref().expect("it is given");
    let of_container = pod.containers[0].security_context.as_ref().expect("it is given");
    let user = of_pod.run_as_user.zip(of_pod.run_as_group).expect("a user and a group");
    let mut flags = vec![format!("--user={}:{}", user.0, user.1)];
    if of_container.read_only_root_filesystem == Some(true) {
        flags.extend(["--read-only".to_owned(), "--read-only-tmpfs=false".to_owned()]);
    }
    if of_container.allow_privilege_escalation == Some(false) {
        flags.push("--security-opt=no-new-privileges".to_owned());
    }
    let dropped = of_container.capabilities.as_ref().and_then(|capabilities| capabilities.drop.clone());
    flags.extend(dropped.unwrap_or_default().into_iter().map(|capability| format!("--cap-drop={capability}")));
    flags
}

/// `podman`, as it works here.
pub(super) fn podman() -> Command {
    let mut command = Command::new("podman");
    command.args(STORAGE).args(["--runtime", "runc"]);
    command
}

/// Runs a command that must succeed.
fn run(command: &mut Command) -> Output {
    let output = command.output().expect("it was found before");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
