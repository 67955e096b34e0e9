//! The Kubernetes manifests as Kubernetes reads them, and the configuration that their pods start with.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Container, PodSpec, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use quorate_server::cli;
use quorate_server::config::Config;
use serde_json::Value;
use tests::metrics::deploy;

/// The overlays, each of which is built.
pub(crate) const OVERLAYS: [&str; 4] = ["dev", "monitoring", "prod", "tracing"];

/// What stands at the head of the generated file.
const HEADING: &str = "\
# Three nodes of Quorate: kubectl apply -f deploy/quorate.yaml
#
# Clients use the service `quorate`, port 7001:
#   kubectl port-forward service/quorate 7001 & client-cli --endpoints 127.0.0.1:7001 put hello world
#
# Made from deploy/kubernetes/base, where it is explained, by:
#   QUORATE_GOLDEN=rewrite cargo test -p tests --test deploy
";

/// The objects of one or more YAML documents, typed where Kubernetes itself has the type.
pub(crate) struct Manifest {
    pub(crate) stateful_set: StatefulSet,
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) disruption_budget: PodDisruptionBudget,
    pub(crate) network_policy: NetworkPolicy,
    /// Those of other people's types, by kind.
    pub(crate) others: BTreeMap<String, Value>,
}

impl Manifest {
    /// The file for `kubectl apply`.
    pub(crate) fn generated() -> Self {
        Self::read(&deploy("quorate.yaml"))
    }

    /// That file and each overlay that can be built here.
    pub(crate) fn all() -> Vec<(String, Self)> {
        let built = OVERLAYS.iter().filter_map(|name| {
            let text = kustomize(&format!("overlays/{name}"))?;
            Some(((*name).to_owned(), Self::read(&text)))
        });
        std::iter::once(("quorate.yaml".to_owned(), Self::generated())).chain(built).collect()
    }

    /// Reads strictly: what a type does not have, Kubernetes would silently leave out.
    fn read(text: &str) -> Self {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).expect("it is valid YAML");
        let mut stateful_set = None;
        let mut disruption_budget = None;
        let mut network_policy = None;
        let mut services = BTreeMap::new();
        let mut others = BTreeMap::new();
        for document in documents {
            let kind = document["kind"].as_str().expect("an object has a kind").to_owned();
            match kind.as_str() {
                "StatefulSet" => stateful_set = Some(strictly(&document)),
                "PodDisruptionBudget" => disruption_budget = Some(strictly(&document)),
                "NetworkPolicy" => network_policy = Some(strictly(&document)),
                "Service" => {
                    let service: Service = strictly(&document);
                    services.insert(service.metadata.name.clone().expect("a service has a name"), service);
                }
                _ => {
                    others.insert(kind, document);
                }
            }
        }
        Self {
            stateful_set: stateful_set.expect("there is a StatefulSet"),
            disruption_budget: disruption_budget.expect("there is a PodDisruptionBudget"),
            network_policy: network_policy.expect("there is a NetworkPolicy"),
            services,
            others,
        }
    }

    pub(crate) fn pod(&self) -> &PodSpec {
        let spec = self.stateful_set.spec.as_ref().expect("a StatefulSet has a spec");
        spec.template.spec.as_ref().expect("a pod has a spec")
    }

    pub(crate) fn container(&self) -> &Container {
        &self.pod().containers[0]
    }

    pub(crate) fn replicas(&self) -> u64 {
        let replicas = self.stateful_set.spec.as_ref().and_then(|spec| spec.replicas).expect("replicas are given");
        u64::try_from(replicas).expect("not less than none")
    }

    /// The ports of the container, by name.
    pub(crate) fn ports(&self) -> BTreeMap<&str, u16> {
        let ports = self.container().ports.as_ref().expect("the container has ports");
        let number = |port: i32| u16::try_from(port).expect("a port");
        ports.iter().map(|port| (port.name.as_deref().expect("a name"), number(port.container_port))).collect()
    }

    /// The environment of the pod of this ordinal, as Kubernetes makes it: in a value, `$(NAME)` stands for a variable
    /// that was given before it, and for itself if none was.
    pub(crate) fn environment(&self, ordinal: u64) -> BTreeMap<String, String> {
        let mut environment: BTreeMap<String, String> = BTreeMap::new();
        for variable in self.container().env.as_ref().expect("the container has variables") {
            let value = match &variable.value {
                Some(value) => expanded(value, &environment),
                None => field(variable, ordinal),
            };
            assert!(!value.contains("$("), "{} names a variable that does not stand before it: {value}", variable.name);
            environment.insert(variable.name.clone(), value);
        }
        environment
    }

    /// The configuration that the pod of this ordinal starts with.
    pub(crate) fn configuration(&self, ordinal: u64) -> Config {
        let environment = self.environment(ordinal);
        let arguments = self.container().args.as_ref().expect("the container has arguments");
        let arguments = arguments.iter().map(|argument| OsString::from(expanded(argument, &environment)));
        let parsed =
            cli::parse(std::iter::once(OsString::from("quorate-server")).chain(arguments)).expect("the flags exist");
        let cli::Command::Run(flags) = parsed.command else { panic!("the pod runs a node") };
        let of_the_image = ("QUORATE_DATA_DIR".to_owned(), "/data".to_owned());
        let environment = std::iter::once(of_the_image).chain(environment).collect::<BTreeMap<_, _>>();
        let no_files = |path: &Path| Err(io::Error::other(format!("no {} here", path.display())));
        Config::load(&flags, environment, no_files).expect("the pod's configuration is valid")
    }
}

/// A value that has all that the document says: what its type did not know would be missing when it is written again.
fn strictly<T: serde::Serialize + serde::de::DeserializeOwned>(document: &Value) -> T {
    let typed: T = serde_json::from_value(document.clone()).expect("it has the fields that it must have");
    let again = serde_json::to_value(&typed).expect("it was read from such a value");
    let lost = lost(document, &again, "");
    assert!(lost.is_empty(), "fields that Kubernetes does not know: {lost:?}");
    typed
}

/// The paths of what is in `document` and not in `again`.
fn lost(document: &Value, again: &Value, path: &str) -> Vec<String> {
    match (document, again) {
        (Value::Object(fields), Value::Object(_)) => {
            fields.iter().flat_map(|(name, value)| lost(value, &again[name], &format!("{path}/{name}"))).collect()
        }
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            let pairs = items.iter().zip(others).enumerate();
            pairs.flat_map(|(at, (item, other))| lost(item, other, &format!("{path}/{at}"))).collect()
        }
        _ if document == again => Vec::new(),
        _ => vec![path.to_owned()],
    }
}

fn expanded(text: &str, environment: &BTreeMap<String, String>) -> String {
    environment.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value))
}

/// What the pod of this ordinal finds in a variable that is taken from its description.
fn field(variable: &k8s_openapi::api::core::v1::EnvVar, ordinal: u64) -> String {
    let source = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref());
    match source.map(|source| source.field_path.as_str()) {
        Some("metadata.name") => format!("quorate-{ordinal}"),
        Some("metadata.namespace") => "default".to_owned(),
        Some("spec.nodeName") => "machine".to_owned(),
        other => panic!("{} is taken from {other:?}", variable.name),
    }
}

/// What `kubectl kustomize` makes of a folder of `deploy/kubernetes`; `None`, said aloud, where there is no kubectl.
fn kustomize(folder: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes").join(folder);
    match Command::new("kubectl").arg("kustomize").arg(&path).output() {
        Ok(output) if output.status.success() => Some(String::from_utf8(output.stdout).expect("YAML is UTF-8")),
        Ok(output) => panic!("{folder} does not build: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            writeln!(io::stderr(), "SKIPPED: there is no kubectl on PATH, so nobody built {folder}").ok();
            None
        }
        Err(error) => panic!("kubectl: {error}"),
    }
}

#[test]
fn a_misspelt_field_is_found() {
    let misspelt = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "quorate"},
        "spec": {"ports": [{"port": 7001, "targetport": "grpc"}], "clusterIP": "None"},
    });
    let typed: Service = serde_json::from_value(misspelt.clone()).expect("it is a service all the same");
    let again = serde_json::to_value(&typed).expect("it was read from such a value");
    assert_eq!(lost(&misspelt, &again, ""), ["/spec/ports/0/targetport"]);
}

#[test]
fn the_generated_file_is_what_the_base_gives() {
    let Some(built) = kustomize("base") else { return };
    let expected = format!("{HEADING}{built}");
    if std::env::var_os("QUORATE_GOLDEN").is_some_and(|value| value == "rewrite") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/quorate.yaml");
        std::fs::write(path, &expected).expect("the checkout can be written to");
    }
    assert!(deploy("quorate.yaml") == expected, "run it again with QUORATE_GOLDEN=rewrite");
}
