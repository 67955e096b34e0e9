//! The Kubernetes manifests against the server: every pod starts with a configuration that is valid, the ports, names
//! and probes are the server's own, the hook is a command that exists, and nothing is left open that should be closed.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use quorate_server::run::SHUTDOWN_MAX;
use serde_json::{Value, json};
use tests::binaries;
use tests::metrics::deploy;

use crate::manifest::{Manifest, OVERLAYS};

/// How long `client-cli` tries by default.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

#[test]
fn every_pod_starts_with_a_valid_configuration() {
    for (name, manifest) in Manifest::all() {
        let replicas = manifest.replicas();
        let members: Vec<String> = (0..replicas).map(|other| format!("quorate-{other}")).collect();
        for ordinal in 0..replicas {
            let config = manifest.configuration(ordinal);
            assert_eq!(config.peers.keys().cloned().collect::<Vec<_>>(), members, "{name}: the members are the pods");
            assert_eq!(config.name, format!("quorate-{ordinal}"), "{name}");
        }
    }
}

#[test]
fn peers_and_clients_are_told_names_and_ports_that_exist() {
    for (_, manifest) in Manifest::all() {
        let spec = |service: &str| manifest.services[service].spec.clone().expect("a service has a spec");
        let headless = "quorate-peers";
        assert_eq!(spec(headless).publish_not_ready_addresses, Some(true), "peers meet before they are ready");
        assert_eq!(spec(headless).cluster_ip.as_deref(), Some("None"));
        let stateful_set = manifest.stateful_set.spec.as_ref().expect("it has a spec");
        assert_eq!(stateful_set.service_name.as_deref(), Some(headless));
        let ports = manifest.ports();
        let config = manifest.configuration(0);
        let listens = [Some(config.listen), config.peer_listen, config.http_listen];
        let listens = listens.map(|address| address.expect("each has a port of its own").port());
        assert_eq!(listens, [ports["grpc"], ports["peer"], ports["http"]]);
        for (name, address) in &config.peers {
            assert_eq!(*address, format!("{name}.{headless}:{}", ports["peer"]));
        }
        assert_eq!(config.client_address(config.listen), format!("quorate-0.{headless}:{}", ports["grpc"]));
        for service in ["quorate", headless] {
            for port in spec(service).ports.expect("a service has ports") {
                let Some(IntOrString::String(target)) = port.target_port else { panic!("a port is found by its name") };
                assert_eq!(port.port, i32::from(ports[target.as_str()]));
            }
        }
        let of_clients = spec("quorate").ports.expect("it has ports");
        assert_eq!(of_clients.len(), 1, "clients have no business at the other ports");
    }
}

#[test]
fn probes_ask_services_that_the_server_answers_for() {
    for (_, manifest) in Manifest::all() {
        let container = manifest.container();
        let listen = i32::from(manifest.configuration(0).listen.port());
        for (probe, service) in [
            (&container.startup_probe, "liveness"),
            (&container.liveness_probe, "liveness"),
            (&container.readiness_probe, "readiness"),
        ] {
            let asked = probe.as_ref().and_then(|probe| probe.grpc.as_ref()).expect("a probe over gRPC");
            assert_eq!((asked.port, asked.service.as_deref()), (listen, Some(service)));
        }
    }
}

#[test]
fn a_pod_that_ends_has_the_time_for_it() {
    for (name, manifest) in Manifest::all() {
        let grace = manifest.pod().termination_grace_period_seconds.expect("it is given");
        let grace = Duration::from_secs(u64::try_from(grace).expect("not less than none"));
        let delay = Duration::from_millis(manifest.configuration(0).shutdown_delay_ms);
        assert!(!delay.is_zero(), "{name}: a load balancer has time to notice");
        assert!(grace > CLIENT_TIMEOUT + delay + SHUTDOWN_MAX, "{name}: the hook, the delay, and what comes then");
    }
}

#[test]
fn the_hook_is_a_command_that_exists_and_asks_the_node_beside_it() {
    let manifest = Manifest::generated();
    let hook = manifest.container().lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    let command = hook.and_then(|hook| hook.exec.as_ref()).and_then(|exec| exec.command.as_ref()).expect("a command");
    let listen = manifest.configuration(0).listen.port().to_string();
    assert_eq!(command[..3], ["client-cli", "--endpoints", &format!("127.0.0.1:{listen}")]);
    // Nobody listens there: it is understood, and finds nobody.
    let output = binaries::command(&binaries::client())
        .args(["--endpoints", "127.0.0.1:9", "--timeout", "100ms"])
        .args(&command[3..])
        .output()
        .expect("the client can be started");
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_data_is_on_a_volume_that_stays() {
    for (_, manifest) in Manifest::all() {
        let mounts = manifest.container().volume_mounts.as_ref().expect("a volume is mounted");
        assert!(manifest.configuration(0).data_dir.starts_with(&mounts[0].mount_path));
        let stateful_set = manifest.stateful_set.spec.as_ref().expect("it has a spec");
        let claims = stateful_set.volume_claim_templates.as_ref().expect("a volume is claimed");
        assert_eq!(claims[0].metadata.name.as_deref(), Some(mounts[0].name.as_str()));
        let kept = stateful_set.persistent_volume_claim_retention_policy.as_ref().expect("it is given");
        assert_eq!((kept.when_deleted.as_deref(), kept.when_scaled.as_deref()), (Some("Retain"), Some("Retain")));
    }
}

#[test]
fn one_node_at_a_time_may_be_taken_away() {
    for (_, manifest) in Manifest::all() {
        let budget = manifest.disruption_budget.spec.as_ref().expect("it has a spec");
        assert_eq!(budget.max_unavailable, Some(IntOrString::Int(1)));
        assert_eq!(budget.unhealthy_pod_eviction_policy.as_deref(), Some("AlwaysAllow"));
        assert!(manifest.replicas() - 1 > manifest.replicas() / 2, "the others are a majority");
        let stateful_set = manifest.stateful_set.spec.as_ref().expect("it has a spec");
        assert_eq!(budget.selector.as_ref(), Some(&stateful_set.selector), "it is about these pods");
    }
}

#[test]
fn a_pod_may_do_nothing_that_it_need_not() {
    for (_, manifest) in Manifest::all() {
        let pod = manifest.pod();
        assert_eq!((pod.automount_service_account_token, pod.enable_service_links), (Some(false), Some(false)));
        assert_eq!([pod.host_network, pod.host_pid, pod.host_ipc], [None; 3]);
        let security = pod.security_context.as_ref().expect("it is given");
        assert_eq!(security.run_as_non_root, Some(true));
        assert_eq!(security.fs_group, security.run_as_group, "the volume is the group's");
        assert_eq!(security.seccomp_profile.as_ref().map(|profile| profile.type_.as_str()), Some("RuntimeDefault"));
        let security = manifest.container().security_context.as_ref().expect("it is given");
        assert_eq!(security.allow_privilege_escalation, Some(false));
        assert_eq!(security.read_only_root_filesystem, Some(true));
        let capabilities = security.capabilities.as_ref().expect("they are given");
        assert_eq!((capabilities.drop.as_deref(), &capabilities.add), (Some(&["ALL".to_owned()][..]), &None));
        let resources = manifest.container().resources.as_ref().expect("they are given");
        let (requests, limits) = (resources.requests.as_ref(), resources.limits.as_ref());
        let limits = limits.expect("memory is limited");
        assert!(requests.is_some_and(|requests| requests.contains_key("cpu")));
        assert!(!limits.contains_key("cpu"), "a node that is throttled looks dead to the others");
    }
}

#[test]
fn only_nodes_reach_the_port_of_the_peers() {
    for (_, manifest) in Manifest::all() {
        let policy = manifest.network_policy.spec.as_ref().expect("it has a spec");
        let pods = policy.pod_selector.as_ref().expect("it is about pods");
        let stateful_set = manifest.stateful_set.spec.as_ref().expect("it has a spec");
        assert_eq!(*pods, stateful_set.selector);
        assert_eq!(policy.policy_types.as_deref(), Some(&["Ingress".to_owned()][..]));
        let mut named = BTreeMap::new();
        for rule in policy.ingress.as_ref().expect("something may come in") {
            for port in rule.ports.as_ref().expect("a rule is about a port") {
                let Some(IntOrString::String(name)) = port.port.clone() else { panic!("a port is found by its name") };
                assert!(named.insert(name, rule.from.clone()).is_none(), "one rule for each port");
            }
        }
        assert_eq!(named.keys().map(String::as_str).collect::<Vec<_>>(), ["grpc", "http", "peer"]);
        assert_eq!(named["grpc"], None, "clients come from everywhere");
        let peers = named["peer"].as_ref().expect("not from everywhere");
        assert_eq!(peers.len(), 1);
        assert_eq!(peers[0].pod_selector.as_ref(), Some(pods));
        assert_eq!((&peers[0].namespace_selector, &peers[0].ip_block), (&None, &None));
        assert!(named["http"].as_ref().is_some_and(|from| !from.is_empty()), "not from everywhere");
    }
}

#[test]
fn each_overlay_differs_in_what_it_is_for() {
    let overlays: BTreeMap<String, Manifest> = Manifest::all().into_iter().collect();
    let spread = |manifest: &Manifest| {
        let constraints = manifest.pod().topology_spread_constraints.clone().expect("they are given");
        let told = constraints.iter().map(|constraint| (&constraint.topology_key, &constraint.when_unsatisfiable));
        told.map(|(key, otherwise)| format!("{key} {otherwise}")).collect::<Vec<_>>()
    };
    assert_eq!(spread(&overlays["quorate.yaml"]), ["kubernetes.io/hostname ScheduleAnyway"]);
    if overlays.len() == 1 {
        // That the overlays could not be built was said already.
        return;
    }
    assert_eq!(overlays.len(), 1 + OVERLAYS.len());
    let hard = ["kubernetes.io/hostname DoNotSchedule", "topology.kubernetes.io/zone ScheduleAnyway"];
    assert_eq!(spread(&overlays["prod"]), hard);
    assert!(overlays["dev"].configuration(0).segment_bytes < overlays["prod"].configuration(0).segment_bytes);
    let traced = overlays["tracing"].environment(2);
    assert_eq!(
        traced["OTEL_RESOURCE_ATTRIBUTES"],
        "k8s.namespace.name=default,k8s.pod.name=quorate-2,k8s.node.name=machine"
    );
    let monitor = &overlays["monitoring"].others["ServiceMonitor"]["spec"]["endpoints"][0];
    assert_eq!((&monitor["port"], &monitor["path"]), (&json!("http"), &json!("/metrics")));
    let headless = overlays["monitoring"].services["quorate-peers"].spec.as_ref().and_then(|spec| spec.ports.as_ref());
    assert!(headless.is_some_and(|ports| ports.iter().any(|port| port.name.as_deref() == Some("http"))));
}

#[test]
fn the_operators_alerts_are_the_alerts() {
    let rules: Value = serde_saphyr::from_str(&deploy("prometheus/alerts.yaml")).expect("it is valid YAML");
    let heading =
        "# Made from deploy/prometheus/alerts.yaml by: QUORATE_GOLDEN=rewrite cargo test -p tests --test deploy\n";
    let body: String = deploy("prometheus/alerts.yaml")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") })
        .collect();
    let head = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: quorate\n  \
                labels: {app.kubernetes.io/name: quorate}\nspec:\n";
    let expected = format!("{heading}{head}{body}");
    let file = "kubernetes/components/monitoring/alerts.yaml";
    if std::env::var_os("QUORATE_GOLDEN").is_some_and(|value| value == "rewrite") {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file);
        std::fs::write(path, &expected).expect("the checkout can be written to");
    }
    let found = deploy(file);
    assert!(found == expected, "run it again with QUORATE_GOLDEN=rewrite");
    let found: Value = serde_saphyr::from_str(&found).expect("it is valid YAML");
    assert_eq!(found["spec"], rules);
}
