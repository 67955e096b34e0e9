//! The deployment files against the server: the manifest starts it with flags that exist, and its ports, names and
//! probes are the server's own.

mod observability;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use quorate_server::cli::{self, Command};
use quorate_server::config::Config;
use serde_json::Value;

fn deploy(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifest() -> Vec<Value> {
    serde_saphyr::from_multiple(&deploy("kubernetes/quorate.yaml")).expect("the manifest is valid YAML")
}

fn object(kind: &str, name: &str) -> Value {
    let found = manifest().into_iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("the manifest has no {kind} named {name}"))
}

fn pod() -> Value {
    object("StatefulSet", "quorate")["spec"]["template"]["spec"].clone()
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().expect("a list").iter().map(|item| item.as_str().expect("a text").to_owned()).collect()
}

/// The configuration that the pod of this ordinal starts with, as Kubernetes would start it.
fn configuration(ordinal: u64) -> Config {
    let name = format!("quorate-{ordinal}");
    let arguments = strings(&pod()["containers"][0]["args"]);
    let expanded = arguments.iter().map(|argument| OsString::from(argument.replace("$(POD_NAME)", &name)));
    let parsed =
        cli::parse(std::iter::once(OsString::from("quorate-server")).chain(expanded)).expect("the flags exist");
    let Command::Run(flags) = parsed.command else { panic!("the pod runs a node") };
    // What Kubernetes adds to every pod of a namespace with a service named `quorate`.
    let environment = BTreeMap::from([
        ("POD_NAME", name.as_str()),
        ("QUORATE_DATA_DIR", "/data"),
        ("QUORATE_SERVICE_HOST", "10.0.0.1"),
        ("QUORATE_SERVICE_PORT", "7001"),
        ("QUORATE_PORT", "tcp://10.0.0.1:7001"),
        ("QUORATE_PORT_7001_TCP_ADDR", "10.0.0.1"),
    ]);
    let environment = environment.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    let no_files = |path: &Path| Err(std::io::Error::other(format!("no {} here", path.display())));
    Config::load(&flags, environment, no_files).expect("the pod's configuration is valid")
}

#[test]
fn every_pod_starts_with_a_valid_configuration() {
    let replicas = object("StatefulSet", "quorate")["spec"]["replicas"].as_u64().expect("a number");
    for ordinal in 0..replicas {
        let config = configuration(ordinal);
        let members: Vec<String> = (0..replicas).map(|other| format!("quorate-{other}")).collect();
        assert_eq!(config.peers.keys().cloned().collect::<Vec<_>>(), members, "the members are the pods");
        assert_eq!(config.name, format!("quorate-{ordinal}"));
    }
}

#[test]
fn peers_and_clients_are_told_names_and_ports_that_exist() {
    let headless = object("Service", "quorate-peers");
    let service = headless["metadata"]["name"].as_str().expect("a name");
    assert_eq!(headless["spec"]["publishNotReadyAddresses"], true, "peers meet before they are ready");
    assert_eq!(object("StatefulSet", "quorate")["spec"]["serviceName"], service);
    let ports: BTreeMap<String, u64> = pod()["containers"][0]["ports"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|port| {
            (port["name"].as_str().expect("a name").to_owned(), port["containerPort"].as_u64().expect("a port"))
        })
        .collect();
    let config = configuration(0);
    assert_eq!(u64::from(config.listen.port()), ports["grpc"]);
    assert_eq!(u64::from(config.peer_listen.expect("peers have a port of their own").port()), ports["peer"]);
    for (name, address) in &config.peers {
        assert_eq!(*address, format!("{name}.{service}:{}", ports["peer"]));
    }
    assert_eq!(config.client_address(config.listen), format!("quorate-0.{service}:{}", ports["grpc"]));
    for service in ["quorate", "quorate-peers"] {
        for port in object("Service", service)["spec"]["ports"].as_array().expect("a list") {
            assert_eq!(port["port"].as_u64(), ports.get(port["targetPort"].as_str().expect("by name")).copied());
        }
    }
}

#[test]
fn probes_ask_services_that_the_server_answers_for() {
    let container = &pod()["containers"][0];
    let listen = u64::from(configuration(0).listen.port());
    for (probe, service) in
        [("startupProbe", "liveness"), ("livenessProbe", "liveness"), ("readinessProbe", "readiness")]
    {
        assert_eq!(container[probe]["grpc"]["service"], service, "{probe}");
        assert_eq!(container[probe]["grpc"]["port"].as_u64(), Some(listen), "{probe}");
    }
}

#[test]
fn the_data_is_on_the_volume() {
    let container = &pod()["containers"][0];
    let mount = container["volumeMounts"][0]["mountPath"].as_str().expect("a path").to_owned();
    assert!(configuration(0).data_dir.starts_with(mount));
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let claims = &object("StatefulSet", "quorate")["spec"]["persistentVolumeClaimRetentionPolicy"];
    assert_eq!(claims["whenDeleted"], "Retain");
}

#[test]
fn the_image_holds_the_binaries_that_exist() {
    let dockerfile = deploy("Dockerfile");
    for binary in ["quorate-server", "client-cli"] {
        assert!(dockerfile.contains(&format!("--bin {binary}")), "{binary}");
    }
    assert!(dockerfile.contains("ENTRYPOINT [\"/usr/local/bin/quorate-server\"]"));
    let rust = format!("FROM rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(dockerfile.contains(&rust), "the image is built with the workspace's Rust: {rust}");
}
