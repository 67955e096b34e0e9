//! Three containers of the image, started as the StatefulSet starts its pods, and updated one by one under load.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use client_cli::{Client, Error, Options, PutMode};

use super::containers::{self, Container};
use super::network::Network;
use crate::manifest::Manifest;

const IMAGE: &str = "localhost/quorate-test:latest";

/// Writes that are acknowledged between one container's end and the next one's.
const WRITES_BETWEEN: usize = 300;

/// Clients that write at the same time.
const WRITERS: usize = 4;

/// How long a container may take until it answers; starting one takes seconds where files are copied for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the writers have done.
#[derive(Default)]
struct Progress {
    done: AtomicBool,
    acknowledged: AtomicUsize,
}

#[test]
#[ignore = "builds the image, which takes minutes; needs root, buildah, podman and runc"]
fn containers_of_the_image_are_updated_one_by_one_and_nobody_notices() {
    if let Some(obstacle) = containers::obstacle() {
        writeln!(std::io::stderr(), "SKIPPED: {obstacle}, so nobody built and ran the image").ok();
        return;
    }
    let begin = Instant::now();
    containers::build(IMAGE);
    let built = begin.elapsed();
    let size_mib = inspected() >> 20;

    let manifest = Manifest::generated();
    let nodes = usize::try_from(manifest.replicas()).expect("a few");
    let network = Network::create(nodes);
    let pods: Vec<Container> =
        (0..nodes).map(|ordinal| Container::start(&manifest, IMAGE, &network, ordinal)).collect();
    let endpoints: Vec<String> = (0..nodes).map(|node| format!("{}:7001", Network::address(node))).collect();
    first_steps(&network, endpoints.clone());

    let progress = Arc::new(Progress::default());
    let writers = {
        let (progress, endpoints) = (Arc::clone(&progress), endpoints.clone());
        network.as_client(move || on_a_runtime(write(endpoints, progress)))
    };
    let mut ends = Vec::new();
    for pod in &pods {
        let before = progress.acknowledged.load(Ordering::Relaxed);
        until("writes go on", || progress.acknowledged.load(Ordering::Relaxed) >= before + WRITES_BETWEEN);
        let hook = pod.run_hook(&manifest);
        assert!(hook.status.success(), "the hook: {}", String::from_utf8_lossy(&hook.stderr));
        let begin = Instant::now();
        assert_eq!(pod.terminate(), 0, "{}", pod.log());
        ends.push(begin.elapsed());
        pod.start_again();
        let endpoints = endpoints.clone();
        network.as_client(move || on_a_runtime(all_ready(endpoints))).join().expect("all nodes become ready");
    }
    progress.done.store(true, Ordering::Relaxed);
    let keys = writers.join().expect("no client saw an error");
    let written = keys.len();
    network.as_client(move || on_a_runtime(read_all(endpoints, keys))).join().expect("every write is there");
    eprintln!(
        "image of {size_mib} MiB built in {} s; {written} writes while three containers were ended, each in {:?}",
        built.as_secs(),
        ends
    );
}

/// The size of the image in bytes; what is said of it is as it should be, and there is no shell in it.
fn inspected() -> u64 {
    let image = containers::inspect(IMAGE);
    assert_eq!(image["Config"]["User"], "65532:65532");
    assert_eq!(image["Config"]["Entrypoint"][0], "/usr/local/bin/quorate-server");
    assert_eq!(image["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    let revision = image["Labels"]["org.opencontainers.image.revision"].as_str().expect("a commit");
    assert_eq!(revision.len(), 40, "{revision}");
    let mut shell = containers::podman();
    shell.args(["run", "--rm", "--network=none", "--entrypoint", "/bin/sh", IMAGE, "-c", "true"]);
    let shell = shell.output().expect("podman can be started");
    assert!(!shell.status.success(), "there is a shell in the image");
    image["Size"].as_u64().expect("a size")
}

/// What a person does first.
fn first_steps(network: &Network, endpoints: Vec<String>) {
    let steps = async move {
        all_ready(endpoints.clone()).await;
        let client = client(&endpoints);
        client.put("greeting", b"hello".to_vec(), PutMode::Create).await.expect("the key is new");
        let again = client.put("greeting", b"hello".to_vec(), PutMode::Create).await;
        assert!(matches!(again, Err(Error::KeyExists { .. })), "{again:?}");
        assert_eq!(client.get("greeting").await.expect("it was put").key_value.value, b"hello".as_slice());
        client.delete("greeting", None).await.expect("it is there");
        assert!(matches!(client.get("greeting").await, Err(Error::KeyNotFound { .. })));
    };
    network.as_client(move || on_a_runtime(steps)).join().expect("a person can put, get and delete");
}

fn client(endpoints: &[String]) -> Client {
    Client::connect(Options::new(endpoints).expect("they are addresses"))
}

/// Writes under new keys until it is told that it is done, and returns the keys of what was acknowledged.
async fn write(endpoints: Vec<String>, progress: Arc<Progress>) -> BTreeMap<String, String> {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (client, progress) = (client(&endpoints), Arc::clone(&progress));
        writers.spawn(async move {
            let mut written = BTreeMap::new();
            while !progress.done.load(Ordering::Relaxed) {
                let key = format!("w{writer}-{}", written.len());
                client.put(&key, key.clone().into_bytes(), PutMode::Create).await.expect("a client sees no error");
                written.insert(key.clone(), key);
                progress.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            written
        });
    }
    writers.join_all().await.into_iter().flatten().collect()
}

async fn read_all(endpoints: Vec<String>, keys: BTreeMap<String, String>) {
    let client = client(&endpoints);
    for (key, value) in keys {
        assert_eq!(client.get(&key).await.expect("it was acknowledged").key_value.value, value.as_bytes());
    }
}

/// Waits until every node says that it is ready.
async fn all_ready(endpoints: Vec<String>) {
    let client = client(&endpoints);
    let begin = Instant::now();
    loop {
        let statuses = client.statuses().await;
        if statuses.iter().all(|(_, status)| status.as_ref().is_ok_and(|status| status.ready)) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "not all nodes are ready: {statuses:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs to the end on this thread alone, so that all sockets are in its namespace.
fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be started").block_on(work)
}
