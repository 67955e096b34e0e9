//! Damage that the others cannot simply make up for, over real processes: a state that differs, a majority whose logs
//! are damaged at once, and a damaged note of a repair.

use super::data_directory::{contents, exit, json, look};
use super::snapshots::{files, flip_middle, kept, options, overwrite, snapshots, until_cut};
use engine::{
    disk::RealDisk,
    kv::{self, Command, ImageLoader, PutMode},
    snapshot,
};
use std::{collections::BTreeMap, fs, path::Path};
use tests::{cluster::Cluster, rpc, wait::wait_for};

/// Replaces the newest snapshot in a directory by one of a state that differs in one key, but is whole in itself.
fn forge_newest_snapshot(directory: &Path) {
    let disk = RealDisk::open(directory).expect("nobody else has it");
    let newest = snapshot::list(&disk).expect("the disk works").pop().expect("there is one");
    let mut reader = snapshot::Reader::open(&disk, &newest.name).expect("it is sound");
    let meta = reader.meta().clone();
    let mut loader = ImageLoader::new();
    while let Some(chunk) = reader.next_chunk().expect("it is sound") {
        loader.section(chunk.tag, chunk.bytes).expect("it is sound");
    }
    let mut store = loader.finish().expect("it is sound");
    let put = Command::Put { key: "forged".into(), value: "nobody wrote this".into(), mode: PutMode::Upsert };
    let put = kv::command::encode(&put.into(), store.time_ms()).expect("it is valid");
    // In place of the entry behind the snapshot, which is passed over then.
    let index = meta.index.next();
    store.apply(index, &put).expect("it is known");
    snapshot::remove(&disk, newest.index).expect("the disk works");
    let mut writer = snapshot::Writer::begin(&disk, &snapshot::Meta { index, ..meta }).expect("the disk works");
    let mut image = store.image();
    while let Some(section) = image.next_section().expect("the hash is kept") {
        writer.section(section.tag, section.bytes).expect("the disk works");
    }
    let written = writer.finish().expect("the disk works");
    let mut verification = snapshot::Verification::begin(&disk, written).expect("it is whole");
    assert!(verification.step(u64::MAX).expect("it is whole"));
    let verified = verification.finish().expect("it is whole").expect("its end was reached");
    snapshot::publish(&disk, &verified).expect("the disk works");
}

#[tokio::test]
async fn a_node_whose_state_differs_ends_with_a_code_of_its_own_and_the_others_go_on() {
    let mut cluster = Cluster::start(options(3)).await;
    let leader = cluster.ready().await;
    let victim = cluster.others(leader)[0];
    until_cut(&cluster, leader, victim).await;
    cluster.nodes[victim].kill();
    forge_newest_snapshot(cluster.nodes[victim].directory());
    cluster.nodes[victim].start();
    // The hashes are compared every so many entries.
    let channel = cluster.nodes[leader].channel();
    let writes = tokio::spawn(async move {
        for number in 0.. {
            overwrite(channel.clone(), number).await;
        }
    });
    let status = cluster.nodes[victim].exit_status().await;
    writes.abort();
    let log = cluster.nodes[victim].log_since_start();
    assert_eq!(status.code(), Some(exit::DIVERGED), "{log}");
    assert!(log.contains("differs from that of a majority of the replicas; next: quorate-server verify "), "{log}");
    cluster.ready().await;
    let put = wait_for("the others go on", async || cluster.put(leader, "after", "v").await.ok()).await;
    assert!(put.revision > 0);
    cluster.converged().await;
    // Without what was forged it has nothing that is wrong.
    let directory = cluster.nodes[victim].directory().to_owned();
    snapshots(&directory).into_iter().for_each(|file| fs::remove_file(file).expect("a file can be removed"));
    cluster.nodes[victim].start();
    cluster.ready().await;
    cluster.put(victim, "with all three", "v").await.expect("all take part again");
    cluster.converged().await;
}

/// Damages the oldest segment of a log: it is full, and those behind it prove the term.
fn damage_log(directory: &Path) {
    flip_middle(&files(directory, ".log")[0]);
}

/// Puts the files of a directory back as they were.
fn put_back(directory: &Path, files: BTreeMap<String, Vec<u8>>) {
    for name in contents(directory).keys() {
        fs::remove_file(directory.join(name)).expect("a file can be removed");
    }
    for (name, bytes) in files {
        fs::write(directory.join(name), bytes).expect("a file can be written");
    }
}

#[tokio::test]
async fn a_majority_that_is_damaged_at_once_answers_nothing_rather_than_wrong() {
    let mut cluster = Cluster::start(options(3)).await;
    let leader = cluster.ready().await;
    let [one, other] = cluster.others(leader)[..] else { panic!("there are three") };
    for node in [one, other] {
        until_cut(&cluster, leader, node).await;
    }
    cluster.put(leader, "acknowledged", "v").await.expect("a healthy cluster answers");
    cluster.converged().await;
    (0..3).for_each(|node| cluster.nodes[node].kill());
    let intact = contents(cluster.nodes[one].directory());
    for node in [one, other] {
        damage_log(cluster.nodes[node].directory());
        let (code, text, _) = look(&["verify", "--json"], cluster.nodes[node].directory()).await;
        assert_eq!((code, json(&text)["start"]["outcome"].as_str()), (Some(exit::DAMAGED), Some("fetches")), "{text}");
    }
    cluster.start_all();
    wait_for("both say what they do", async || {
        let statuses = cluster.statuses().await?;
        let recovering = statuses.iter().filter(|(_, status)| status.recovering && !status.ready).count();
        (statuses.len() == 3 && recovering == 2).then_some(())
    })
    .await;
    for node in [one, other] {
        let log = cluster.nodes[node].log_since_start();
        assert!(log.contains("is damaged at byte") && log.contains("is fetched from the other members"), "{log}");
    }
    // The one that is whole asks for votes all the while, and gets none.
    let campaigns = || cluster.nodes[leader].log_since_start().matches("campaigns").count();
    for node in 0..3 {
        assert!(cluster.get(node, "acknowledged").await.is_err(), "it cannot know whether that was overwritten");
        assert!(cluster.put(node, &format!("through {node}"), "v").await.is_err(), "nobody leads");
    }
    let statuses = cluster.statuses().await.expect("all are up");
    assert!(statuses.iter().all(|(_, status)| status.leader_name.is_empty() && !status.ready), "{statuses:?}");
    assert_eq!(campaigns(), 0, "a node that asks first and hears no yes does not campaign");
    // They have promised nothing meanwhile: with one that is whole again, there is a majority.
    cluster.nodes[one].kill();
    put_back(cluster.nodes[one].directory(), intact);
    cluster.nodes[one].start();
    cluster.ready().await;
    assert_eq!(cluster.get(other, "acknowledged").await.expect("it was acknowledged"), "v");
    cluster.put(other, "after", "v").await.expect("all take part again");
    cluster.converged().await;
}

#[tokio::test]
async fn a_damaged_note_of_a_repair_is_refused() {
    let mut cluster = Cluster::start(options(3)).await;
    let leader = cluster.ready().await;
    let victim = cluster.others(leader)[0];
    until_cut(&cluster, leader, victim).await;
    cluster.nodes[victim].kill();
    let directory = cluster.nodes[victim].directory().to_owned();
    damage_log(&directory);
    // Alone it cannot end what it begins.
    cluster.others(victim).into_iter().for_each(|other| cluster.nodes[other].pause());
    cluster.nodes[victim].start();
    let channel = cluster.nodes[victim].channel();
    wait_for("it repairs its log", async || rpc::status(&channel).await.ok()?.recovering.then_some(())).await;
    cluster.nodes[victim].kill();
    let note = directory.join("repair");
    flip_middle(&note);
    let before = kept(&directory);
    let (code, text, _) = look(&["verify", "--json"], &directory).await;
    assert_eq!((code, json(&text)["start"]["outcome"].as_str()), (Some(exit::DAMAGED), Some("refuses")), "{text}");
    cluster.nodes[victim].start();
    let status = cluster.nodes[victim].exit_status().await;
    let log = cluster.nodes[victim].log_since_start();
    assert_eq!(status.code(), Some(exit::IO), "{log}");
    assert!(log.contains("repair is damaged") && log.contains("next: quorate-server verify "), "{log}");
    assert!(kept(&directory) == before, "a node that refuses changes nothing");
    flip_middle(&note);
    cluster.others(victim).into_iter().for_each(|other| cluster.nodes[other].resume());
    cluster.nodes[victim].start();
    cluster.ready().await;
    cluster.put(victim, "after", "v").await.expect("all take part again");
    cluster.converged().await;
    wait_for("the note is gone", async || (!note.exists()).then_some(())).await;
}
