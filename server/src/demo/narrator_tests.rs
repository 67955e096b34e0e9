//! What the lines look like.

use super::happening::{Answer, ClientScene, DemoScene, Scene, Told};
use super::narrator::Narrator;
use super::operations::Action;
use crate::story::{Effect, Happening, StoryLine};

const START_US: u64 = 1_700_000_000_000_000;

fn narrator(color: bool) -> Narrator {
    Narrator::new(START_US, ["n1", "n2", "n3"].map(str::to_owned).to_vec(), color)
}

fn told(after_us: u64, scene: Scene) -> Told {
    Told { at_us: START_US + after_us, scene }
}

fn node(name: &str, happening: Happening) -> Scene {
    Scene::Node(StoryLine { node: name.to_owned(), at_us: 0, happening })
}

fn first_line(narrator: &mut Narrator, scene: Scene) -> String {
    narrator.tell(&told(0, scene)).into_iter().next().expect("it is told")
}

#[test]
fn time_speaker_kind_and_text_stand_in_columns() {
    let mut narrator = narrator(false);
    let campaign = narrator.tell(&told(612_345, node("n2", Happening::Campaign { term: 1 })));
    assert_eq!(campaign[0], "   0.612 s n2        election  stands for election in term 1");
    let asks = ClientScene::Asks { action: Action::Get { key: "a" }, node: "n3".to_owned() };
    let asks = narrator.tell(&told(12_000_000, Scene::Client { client: 3, what: asks }));
    assert_eq!(asks[0], "  12.000 s client-3  asks      get a    at n3");
}

#[test]
fn a_thing_is_explained_the_first_time_only_in_the_numbers_of_this_cluster() {
    let mut narrator = narrator(false);
    let first = narrator.tell(&told(0, node("n2", Happening::Campaign { term: 1 })));
    let explanation = first[1..].iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    assert!(explanation.contains("2 of 3 votes"), "{explanation}");
    assert!(first[1..].iter().all(|line| line.starts_with(&format!("{}| ", " ".repeat(31)))), "{first:?}");
    assert!(first.iter().all(|line| line.chars().count() <= 116), "{first:?}");
    let second = narrator.tell(&told(0, node("n3", Happening::Campaign { term: 2 })));
    assert_eq!(second.len(), 1);
}

#[test]
fn votes_are_counted_for_each_campaign() {
    let mut narrator = narrator(false);
    first_line(&mut narrator, node("n2", Happening::Campaign { term: 1 }));
    let own = node("n2", Happening::VoteReceived { term: 1, from: "n2".to_owned() });
    assert!(first_line(&mut narrator, own).ends_with("has its own vote for term 1: 1 of 3"));
    let other = node("n2", Happening::VoteReceived { term: 1, from: "n3".to_owned() });
    assert!(first_line(&mut narrator, other).ends_with("has the vote of n3 for term 1: 2 of 3"));
    first_line(&mut narrator, node("n2", Happening::Campaign { term: 2 }));
    let again = node("n2", Happening::VoteReceived { term: 2, from: "n1".to_owned() });
    assert!(first_line(&mut narrator, again).ends_with("1 of 3"));
}

#[test]
fn an_append_is_told_when_it_is_on_the_disk_and_only_once() {
    let mut narrator = narrator(false);
    assert!(narrator.tell(&told(0, node("n1", Happening::Appended { first: 4, last: 4 }))).is_empty());
    assert!(narrator.tell(&told(0, node("n1", Happening::Appended { first: 5, last: 6 }))).is_empty());
    let durable = first_line(&mut narrator, node("n1", Happening::Durable { index: 5 }));
    assert!(durable.ends_with("appends entries 4 to 5 to its log, on disk now"), "{durable}");
    let durable = first_line(&mut narrator, node("n1", Happening::Durable { index: 6 }));
    assert!(durable.ends_with("appends entry 6 to its log, on disk now"), "{durable}");
    assert!(narrator.tell(&told(0, node("n1", Happening::Durable { index: 6 }))).is_empty());
    // What another leader's entries replace is appended anew.
    narrator.tell(&told(0, node("n1", Happening::Truncated { after: 3 })));
    narrator.tell(&told(0, node("n1", Happening::Appended { first: 4, last: 4 })));
    let durable = first_line(&mut narrator, node("n1", Happening::Durable { index: 4 }));
    assert!(durable.ends_with("appends entry 4 to its log, on disk now"), "{durable}");
}

#[test]
fn every_kind_of_line_is_told_in_words() {
    let mut narrator = narrator(false);
    let n = |happening| node("n1", happening);
    let applied = |effect| node("n1", Happening::Applied { index: 7, term: 1, effect });
    let key = || "a".to_owned();
    let put = || Action::Put { key: "a", value: "val_7".to_owned() };
    let answered = |answer| {
        let what = ClientScene::Answered { action: put(), answer };
        Scene::Client { client: 1, what }
    };
    let message = || "key already exists: a".to_owned();
    let cases = [
        (n(Happening::VoteGranted { term: 1, candidate: "n1".to_owned() }), "votes for itself in term 1"),
        (n(Happening::VoteGranted { term: 1, candidate: "n2".to_owned() }), "votes for n2 in term 1"),
        (n(Happening::BecameLeader { term: 1 }), "is the leader of term 1"),
        (n(Happening::BecameFollower { term: 2, leader: Some("n3".to_owned()) }), "follows n3, the leader of term 2"),
        (n(Happening::BecameFollower { term: 2, leader: None }), "is in term 2 and knows no leader yet"),
        (n(Happening::QuorumLost { term: 2 }), "steps down: it led term 2 and hears of no majority"),
        (n(Happening::DiskStalled { term: 2 }), "steps down: it led term 2 and its disk stands still"),
        (n(Happening::TransferStarted { target: "n2".to_owned() }), "hands leadership over to n2"),
        (n(Happening::TransferAborted { target: "n2".to_owned() }), "goes on to lead: n2 did not take over in time"),
        (n(Happening::Committed { index: 7 }), "knows that entry 7 is committed"),
        (applied(Effect::Noop), "applies entry 7: the empty entry of a new leader"),
        (applied(Effect::Put { key: key(), revision: 3 }), "applies entry 7: put a, which makes revision 3"),
        (applied(Effect::Deleted { key: key(), revision: 4 }), "applies entry 7: delete a, which makes revision 4"),
        (applied(Effect::Settled), "applies entry 7: a question for a write's outcome, which is settled now"),
        (applied(Effect::Rejected { key: key() }), "applies entry 7: refused for a, nothing changes"),
        (
            applied(Effect::Configured { lease_reads: true }),
            "applies entry 7: a setting, lease reads are on from here on",
        ),
        (applied(Effect::NotConfigured), "applies entry 7: refused for a setting, nothing changes"),
        (answered(Answer::Written { revision: 3 }), "put a = val_7 -> written, revision 3"),
        (answered(Answer::Removed { revision: 3 }), "put a = val_7 -> removed, revision 3"),
        (answered(Answer::KeyExists { message: message() }), "put a = val_7 -> key already exists: a"),
        (answered(Answer::KeyNotFound { message: message() }), "put a = val_7 -> key already exists: a"),
        (answered(Answer::Unknown { message: key() }), "put a = val_7 -> outcome unknown: a"),
        (answered(Answer::Failed { message: key() }), "put a = val_7 -> not applied: a"),
        (
            answered(Answer::Value { value: "v".to_owned(), served_by: "n2".to_owned() }),
            "put a = val_7 -> v, read from n2",
        ),
        (Scene::Demo(DemoScene::Killed { node: "n2".to_owned(), pid: 12 }), "kill -9 12: n2, the leader, is gone"),
        (Scene::Demo(DemoScene::Ready { leader: "n2".to_owned(), term: 1 }), "3 of 3 nodes agree: n2 leads in term 1"),
        (Scene::Demo(DemoScene::CaughtUp { index: 9 }), "all 3 nodes have applied everything up to entry 9"),
    ];
    for (scene, expected) in cases {
        let line = first_line(&mut narrator, scene);
        assert_eq!(&line[31..], expected);
    }
}

#[test]
fn without_colour_there_is_no_escape_and_with_colour_the_text_is_the_same() {
    let scenes = [
        node("n1", Happening::Campaign { term: 1 }),
        node("n2", Happening::VoteGranted { term: 1, candidate: "n1".to_owned() }),
        Scene::Demo(DemoScene::ClientsDone),
    ];
    let (mut plain, mut painted) = (narrator(false), narrator(true));
    for scene in scenes {
        let plain = plain.tell(&told(0, scene.clone())).join("\n");
        let painted = painted.tell(&told(0, scene)).join("\n");
        assert!(!plain.contains('\x1b'));
        assert!(painted.contains('\x1b'));
        assert_eq!(without_escapes(&painted), plain);
    }
}

fn without_escapes(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or("", |(_, rest)| rest))
}
