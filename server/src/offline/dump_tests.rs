//! What a record of the log looks like, for each kind.

use std::path::PathBuf;

use engine::kv::{RequestId, Revision, SessionId, command::encode};
use engine::wal::{Place, SegmentStart};
use raft::{HardState, Index, NodeId, Term};

use super::*;

fn record(start: Option<SegmentStart>, replayed: Option<Replayed>) -> Inspected {
    let place = Place { segment: 1, offset: 88 };
    Inspected { place, bytes: 64, start, replayed, hard_state: HardState::default(), last_index: Index::ZERO }
}

fn entry(payload: Payload) -> Inspected {
    record(None, Some(Replayed::Entry(Entry { index: Index::new(7), term: Term::new(2), payload })))
}

fn command(command: &Command) -> Inspected {
    request(&command.clone().into())
}

fn request(request: &Request) -> Inspected {
    entry(Payload::Command(encode(request, 1234).expect("a valid command")))
}

fn shown(record: &Inspected) -> (String, String) {
    let line = Line::of(record);
    let json = serde_json::to_string(&line).expect("it is plain data");
    let text = line.text(record);
    let text = text.strip_prefix("wal-0000000001.log        88  ").expect("it begins with the place").to_owned();
    let json = json.strip_prefix(r#"{"file":"wal-0000000001.log","offset":88,"bytes":64,"kind":"#);
    (text, json.expect("it begins with the place").to_owned())
}

#[test]
fn every_kind_of_record_is_shown() {
    let hard_state =
        HardState { current_term: Term::new(2), voted_for: NodeId::new(0xab), commit_index: Index::new(6) };
    let json_state = r#""hard_state":{"current_term":2,"voted_for":"00000000000000ab","commit_index":6}}"#;
    let start = SegmentStart { file_bytes: 4096, next_index: Index::new(7), hard_state };
    let (text, json) = shown(&record(Some(start), None));
    let words = "term 2, vote 00000000000000ab, commit index 6";
    assert_eq!(text, format!("start       of 4096 bytes, next entry 7, {words}"));
    assert_eq!(json, format!(r#""start","next_index":7,{json_state}"#));
    let (text, json) = shown(&record(None, Some(Replayed::HardState(hard_state))));
    assert_eq!((text, json), (format!("hard state  {words}"), format!(r#""hard_state",{json_state}"#)));
    let (text, json) = shown(&record(None, Some(Replayed::Truncate { after: Index::new(5) })));
    assert_eq!((text.as_str(), json.as_str()), ("truncate    all entries after 5", r#""truncate","after":5}"#));
    let (text, json) = shown(&record(None, Some(Replayed::Reset { last: Index::new(40) })));
    assert_eq!(
        (text.as_str(), json.as_str()),
        ("reset       the log goes on behind entry 40", r#""reset","after":40}"#)
    );
    let (text, json) = shown(&record(None, None));
    assert_eq!((text.as_str(), json.as_str()), ("mark        all before it was synced", r#""mark"}"#));
    let (text, json) = shown(&entry(Payload::Noop));
    assert_eq!(text, "entry       7, term 2: no-op of a new leader");
    assert_eq!(json, r#""entry","index":7,"term":2,"command":{"operation":"noop"}}"#);
}

#[test]
fn every_command_is_decoded() {
    let expected_revision = Revision::new(9);
    let put = |key: &'static [u8], value: &'static [u8], mode| Command::Put {
        key: Bytes::from_static(key),
        value: Bytes::from_static(value),
        mode,
    };
    let (text, json) = shown(&command(&put(b"k", b"v", PutMode::Create)));
    assert_eq!(text, r#"entry       7, term 2: put "k" = 1 byte "v", create, at 1234 ms"#);
    let fields = r#""mode":"create","value_bytes":1,"value_start":"v","time_ms":1234}}"#;
    let head = r#""entry","index":7,"term":2,"command":{"#;
    assert_eq!(json, format!(r#"{head}"operation":"put","key":"k",{fields}"#));
    let (text, json) = shown(&command(&put(b"\xff", b"", PutMode::Compare { expected_revision })));
    assert_eq!(text, r#"entry       7, term 2: put b"\xff" = 0 bytes "", compare to revision 9, at 1234 ms"#);
    assert!(json.contains(r#""key":{"hex":"ff"},"mode":"compare","expected_revision":9"#), "{json}");
    let key = Bytes::from_static(b"k");
    let (text, json) =
        shown(&command(&Command::Delete { key, expected_revision: Some(expected_revision), return_previous: true }));
    assert_eq!(text, r#"entry       7, term 2: delete "k", compare to revision 9, at 1234 ms"#);
    assert_eq!(json, format!(r#"{head}"operation":"delete","key":"k","expected_revision":9,"time_ms":1234}}}}"#));
    for (lease_reads, word) in [(true, "on"), (false, "off")] {
        let (text, json) = shown(&command(&Command::Configure { lease_reads }));
        assert_eq!(text, format!("entry       7, term 2: configure lease reads {word}, at 1234 ms"));
        let fields = format!(r#""operation":"configure","lease_reads":{lease_reads},"time_ms":1234}}}}"#);
        assert_eq!(json, format!("{head}{fields}"));
    }
    let (text, json) = shown(&entry(Payload::Command(Bytes::from_static(b"\xffwhat"))));
    assert_eq!(
        text,
        r#"entry       7, term 2: 5 bytes b"\xffwhat" that are no known command: command version 255 is unknown"#
    );
    assert!(json.ends_with(r#"{"operation":"unknown","unknown":"command version 255 is unknown"}}"#), "{json}");
}

#[test]
fn a_request_id_is_shown_with_its_command() {
    let session = SessionId::new(0xab);
    let id = Some(RequestId { session, opened_at_ms: 5, sequence: 7, acknowledged_below: 6 });
    let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
    let named = "request 7 of session 000000000000000000000000000000ab, at 1234 ms";
    let json_id = r#""request_id":{"session":"000000000000000000000000000000ab","opened_at_ms":5,"sequence":7,"#;
    let tail = format!(r#""time_ms":1234,{json_id}"acknowledged_below":6}}}}}}"#);
    let put = Request { id, command: Command::Put { key, value, mode: PutMode::Upsert } };
    let (text, json) = shown(&request(&put));
    assert_eq!(text, format!(r#"entry       7, term 2: put "k" = 1 byte "v", upsert, {named}"#));
    assert!(json.ends_with(&format!(r#""value_start":"v",{tail}"#)), "{json}");
    let (text, json) = shown(&request(&Request { id, command: Command::Settle }));
    assert_eq!(text, format!("entry       7, term 2: settle, {named}"));
    assert!(json.ends_with(&format!(r#""command":{{"operation":"settle",{tail}"#)), "{json}");
}

#[test]
fn a_range_shows_its_entries_and_what_may_have_taken_them_back() {
    let arguments =
        |from, to| DumpArgs { directory: PathBuf::new(), json: false, from, to, state: false, snapshot: None };
    let truncation = |after| record(None, Some(Replayed::Truncate { after: Index::new(after) }));
    let (seven, mark) = (entry(Payload::Noop), record(None, None));
    for (from, to, shows) in
        [(None, None, true), (Some(7), Some(7), true), (Some(8), None, false), (None, Some(6), false)]
    {
        assert_eq!(is_asked(&seven, &arguments(from, to)), shows, "{from:?} to {to:?}");
        assert_eq!(is_asked(&mark, &arguments(from, to)), from.is_none() && to.is_none());
    }
    let reset = record(None, Some(Replayed::Reset { last: Index::new(40) }));
    assert!(is_asked(&reset, &arguments(Some(7), Some(7))), "it takes back whatever was before it");
    assert!(is_asked(&truncation(6), &arguments(Some(7), Some(7))));
    assert!(!is_asked(&truncation(7), &arguments(Some(7), Some(7))));
}
