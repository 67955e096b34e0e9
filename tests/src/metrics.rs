//! The metrics as they are documented and as nodes export them, and `promtool`, where there is one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{ErrorKind, Write as _},
    path::Path,
    process::{Command, Stdio},
};

/// What is known of a metric.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Metric {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The names of its labels, but for the `le` of a histogram's buckets.
    pub labels: BTreeSet<String>,
}

/// Metrics by their names.
pub type Metrics = BTreeMap<String, Metric>;

/// The text of a file of `deploy/`.
pub fn deploy(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the tables of `deploy/METRICS.md` say.
pub fn documented() -> Metrics {
    let text = deploy("METRICS.md");
    let mut metrics = Metrics::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, unit, meaning, _] = cells[..] else { panic!("a row has five cells: {line}") };
        assert!(!unit.is_empty() && !meaning.is_empty(), "{line}");
        let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let metric = Metric { kind: kind.to_owned(), labels: quoted(labels).into_iter().collect() };
        let name = quoted(name).pop().expect("a name in backticks");
        assert_eq!(metrics.insert(name, metric), None, "two rows for one metric: {line}");
    }
    metrics
}

/// What a page in Prometheus's text format exports.
///
/// # Panics
///
/// On a line that is not of that format, or a sample of no known family.
pub fn exported(page: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in page.lines() {
        if let Some(told) = line.strip_prefix("# TYPE ") {
            let (name, kind) = told.split_once(' ').expect("a name and a type");
            let metric = Metric { kind: kind.to_owned(), labels: BTreeSet::new() };
            assert_eq!(metrics.insert(name.to_owned(), metric), None, "{name} has one family");
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
            let _: f64 = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let family = family(&metrics, name).unwrap_or_else(|| panic!("a sample of no family: {line}"));
            metrics.get_mut(&family).expect("it was found").labels.extend(label_names(labels));
        }
    }
    metrics
}

/// The family that a sample of this name belongs to.
pub fn family(metrics: &Metrics, sample: &str) -> Option<String> {
    let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| sample.strip_suffix(suffix));
    let histogram = histogram.filter(|name| metrics.get(*name).is_some_and(|metric| metric.kind == "histogram"));
    histogram.or_else(|| metrics.contains_key(sample).then_some(sample)).map(str::to_owned)
}

/// The names in `a="…",b="…"}`. No value of ours holds a quote.
fn label_names(labels: &str) -> impl Iterator<Item = String> {
    let names = labels.split('"').step_by(2).map(|part| part.trim_matches([',', '=', '}']));
    names.filter(|name| !name.is_empty() && *name != "le").map(str::to_owned)
}

/// The sum of all samples of this name whose labels hold `labels`.
pub fn value(page: &str, name: &str, labels: &str) -> f64 {
    let samples = page.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(labels))
    });
    samples.map(|line| line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number")).sum()
}

/// Runs `promtool` in `deploy/` with these arguments and this input, and returns what it says if it finds fault. Says
/// loudly that it does nothing where there is no `promtool`.
pub fn promtool(arguments: &[&str], input: &str) -> Result<(), String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(directory);
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("SKIPPED: there is no promtool on PATH, so nobody ran: promtool {}", arguments.join(" "));
            return Ok(());
        }
        spawned => spawned.expect("promtool can be started"),
    };
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("promtool reads its input");
    let output = child.wait_with_output().expect("promtool ends");
    // Advice on style comes with a success.
    if output.status.success() && output.stderr.is_empty() {
        return Ok(());
    }
    Err(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}
