//! The dashboard, the alerts and the compose file against the server: every metric and label that they ask for is
//! exported, every alert has its entry in the runbook, and the nodes start with a configuration that exists.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use quorate_server::cli::{self, Command};
use quorate_server::config::Config;
use serde_json::Value;
use tests::metrics::{Metrics, deploy, documented, family, promtool};

/// What Prometheus adds to each series, and the labels of its own `up`.
const OF_PROMETHEUS: [&str; 3] = ["job", "instance", "le"];

fn yaml(file: &str) -> Value {
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(&deploy(file)).expect("it is valid YAML");
    assert_eq!(documents.len(), 1, "{file}");
    documents.remove(0)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text and not {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("a list and not {value}"))
}

/// The alerts, by name.
fn alerts() -> BTreeMap<String, Value> {
    let rules = yaml("prometheus/alerts.yaml");
    let alerts = list(&rules["groups"]).iter().flat_map(|group| list(&group["rules"]).to_vec());
    alerts.map(|alert| (text(&alert["alert"]).to_owned(), alert)).collect()
}

/// All that the dashboard asks for.
fn dashboard_expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&deploy("grafana/quorate.json")).expect("it is valid JSON");
    let panels = list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row");
    let targets = panels.flat_map(|panel| list(&panel["targets"]));
    let variables = list(&dashboard["templating"]["list"]).iter().filter_map(|variable| variable["query"].get("query"));
    targets.map(|target| &target["expr"]).chain(variables).map(|expression| text(expression).to_owned()).collect()
}

/// The words of an expression in PromQL, without what is in quotes and between square brackets.
fn words(expression: &str) -> Vec<String> {
    let unquoted: String = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let bare: String = unquoted.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
    let words = bare.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The labels that an expression names: in braces, and behind `by` and `on`.
fn labels(expression: &str) -> BTreeSet<String> {
    let unquoted: String = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let in_braces = unquoted.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(inside, _)| inside);
    let grouped = ["by (", "on ("].into_iter().flat_map(|word| unquoted.split(word).skip(1));
    let grouped = grouped.filter_map(|part| part.split_once(')')).map(|(inside, _)| inside);
    in_braces.chain(grouped).flat_map(words).collect()
}

/// What is wrong with an expression.
fn faults(known: &Metrics, expression: &str) -> Vec<String> {
    let is_name = |word: &&String| word.starts_with("quorate_") || word.starts_with("process_");
    let words = words(expression);
    let names: Vec<&String> = words.iter().filter(is_name).collect();
    let mut faults = Vec::new();
    let mut labels_known: BTreeSet<String> = OF_PROMETHEUS.map(str::to_owned).into();
    for name in &names {
        match family(known, name) {
            Some(family) => labels_known.extend(known[&family].labels.clone()),
            None => faults.push(format!("{name} is not exported")),
        }
    }
    if names.is_empty() && !words.contains(&"up".to_owned()) {
        faults.push("it asks for nothing".to_owned());
    }
    let unknown = labels(expression).into_iter().filter(|label| !labels_known.contains(label));
    faults.extend(unknown.map(|label| format!("{label} is no label of what it asks for")));
    faults.into_iter().map(|fault| format!("{fault}: {expression}")).collect()
}

#[test]
fn dashboard_and_alerts_ask_for_what_is_exported() {
    let known = documented();
    let expressions = alerts().into_values().map(|alert| text(&alert["expr"]).to_owned());
    let faults: Vec<String> =
        expressions.chain(dashboard_expressions()).flat_map(|expression| faults(&known, &expression)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_wrong_name_or_label_is_found() {
    let known = documented();
    let of = |expression: &str| faults(&known, expression).len();
    assert_eq!(of(r#"sum by (job, file) (rate(quorate_disk_written_bytes_total{file="log"}[5m]))"#), 0);
    assert_eq!(of("histogram_quantile(0.9, sum by (le) (quorate_commit_duration_seconds_bucket))"), 0);
    assert_eq!(of("quorate_disk_written_bytes"), 1, "a counter ends with _total");
    assert_eq!(of("quorate_term_bucket"), 1, "only histograms have buckets");
    assert_eq!(of(r#"quorate_term{file="log"}"#), 1);
    assert_eq!(of("sum by (peer) (quorate_term)"), 1);
    assert_eq!(of("vector(1)"), 1);
}

#[test]
fn every_alert_has_an_entry_in_the_runbook_and_every_entry_an_alert() {
    let runbook = deploy("README.md");
    let (_, entries) = runbook.split_once("## Runbook").expect("there is a runbook");
    let mut described = BTreeSet::new();
    for entry in entries.split("\n### ").skip(1) {
        let (name, body) = entry.split_once('\n').expect("an entry has a text");
        for part in ["**Means.**", "**Look at.**", "**Do.**"] {
            assert!(body.contains(part), "{name} lacks {part}");
        }
        described.insert(name.to_owned());
    }
    let alerts = alerts();
    assert_eq!(described, alerts.keys().cloned().collect());
    for (name, alert) in &alerts {
        let link = format!("deploy/README.md#{}", name.to_lowercase());
        assert_eq!(text(&alert["annotations"]["runbook"]), link);
        assert!(!text(&alert["annotations"]["summary"]).is_empty());
        assert!(["warning", "critical"].contains(&text(&alert["labels"]["severity"])), "{name}");
    }
}

#[test]
fn the_runbook_names_metrics_that_are_exported() {
    let known = documented();
    let runbook = deploy("README.md");
    for name in runbook.split('`').skip(1).step_by(2).filter(|quoted| quoted.starts_with("quorate_")) {
        assert!(family(&known, name).is_some(), "{name} is not exported");
    }
}

#[test]
fn prometheus_accepts_the_alerts_and_they_fire_when_they_should() {
    for arguments in [["check", "rules", "prometheus/alerts.yaml"], ["test", "rules", "prometheus/alerts.test.yaml"]] {
        promtool(&arguments, "").unwrap_or_else(|fault| panic!("{arguments:?}: {fault}"));
    }
}

/// The configuration that a service of the compose file starts with.
fn configuration(environment: &Value) -> Config {
    // The image's command.
    let parsed = cli::parse(["quorate-server", "run"].map(OsString::from)).expect("the command exists");
    let Command::Run(flags) = parsed.command else { panic!("the image runs a node") };
    let variables = environment.as_object().expect("a map").iter();
    let variables = variables.map(|(name, value)| (name.clone(), text(value).to_owned()));
    let no_files = |path: &Path| Err(std::io::Error::other(format!("no {} here", path.display())));
    Config::load(&flags, variables, no_files).expect("the configuration is valid")
}

#[test]
fn the_nodes_of_the_compose_file_find_each_other_and_are_scraped() {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_object().expect("a map");
    let nodes: BTreeMap<&String, Config> = services
        .iter()
        .filter(|(_, service)| service["build"]["dockerfile"] == "deploy/Dockerfile")
        .map(|(name, service)| (name, configuration(&service["environment"])))
        .collect();
    assert_eq!(nodes.len(), 3);
    let mut scraped = BTreeSet::new();
    for (name, config) in &nodes {
        assert_eq!(config.name, **name, "a node is reached by the name of its service");
        assert_eq!(config.peers.keys().collect::<Vec<_>>(), nodes.keys().copied().collect::<Vec<_>>());
        let port = config.peer_listen.expect("peers have a port of their own").port();
        assert_eq!(config.peers[*name], format!("{name}:{port}"));
        let service = &services[*name];
        let published = text(&service["ports"][0]).rsplit_once(':').expect("a port of the host and one of the node");
        assert_eq!(published, (config.client_address(config.listen).as_str(), &*config.listen.port().to_string()));
        let volume = text(&service["volumes"][0]).split_once(':').expect("a volume and where it is").1;
        assert!(config.data_dir.starts_with(volume));
        assert!(compose["volumes"].get(name.as_str()).is_some());
        scraped.insert(format!("{name}:{}", config.http_listen.expect("metrics are served").port()));
    }
    let prometheus = yaml("prometheus/prometheus.yaml");
    let targets = list(&prometheus["scrape_configs"][0]["static_configs"][0]["targets"]);
    assert_eq!(scraped, targets.iter().map(|target| text(target).to_owned()).collect());
    // Alerts about what is gone have only the job's name to go by.
    assert!(text(&prometheus["scrape_configs"][0]["job_name"]).starts_with("quorate"));
}

#[test]
fn the_files_that_the_compose_file_mounts_exist() {
    let compose = yaml("compose.yaml");
    let deploy_directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let services = compose["services"].as_object().expect("a map").values();
    let mounts = services.filter_map(|service| service.get("volumes")).flat_map(list).map(text);
    let files: Vec<&str> = mounts.filter_map(|mount| mount.split(':').next()?.strip_prefix("./")).collect();
    assert!(files.contains(&"grafana/quorate.json"), "{files:?}");
    for file in files {
        assert!(deploy_directory.join(file).exists(), "{file}");
    }
}
