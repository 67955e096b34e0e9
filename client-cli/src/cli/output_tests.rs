//! Each result in each format, to the byte.

use super::*;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("this output is text")
}

fn answer(value: &'static [u8]) -> Found {
    Found {
        key_value: client_cli::KeyValue {
            key: "a".to_owned(),
            value: value.into(),
            create_revision: 1,
            mod_revision: 2,
            version: 3,
        },
        revision: 4,
        served_by: "n1".to_owned(),
        staleness: None,
    }
}

#[test]
fn a_put_and_a_delete() {
    let put = |format| text(written(format, "a\"b", Written { revision: 7, version: 2 }));
    assert_eq!(put(Format::Table), "ok: revision 7, version 2\n");
    assert_eq!(put(Format::Json), "{\"key\":\"a\\\"b\",\"revision\":7,\"version\":2}\n");
    assert_eq!(put(Format::Raw), "7\n");
    let delete = |format| text(deleted(format, "a", Deleted { revision: 8 }));
    assert_eq!(delete(Format::Table), "ok: revision 8\n");
    assert_eq!(delete(Format::Json), "{\"key\":\"a\",\"revision\":8}\n");
    assert_eq!(delete(Format::Raw), "8\n");
}

#[test]
fn a_value_is_text_where_it_can_be() {
    assert_eq!(text(found(Format::Table, &answer("grüße\n\t1".as_bytes()))), "grüße\n\t1\n");
    assert_eq!(
        text(found(Format::Json, &answer("ü".as_bytes()))),
        "{\"key\":\"a\",\"value\":\"ü\",\"create_revision\":1,\"mod_revision\":2,\"version\":3,\"revision\":4,\
         \"served_by\":\"n1\"}\n"
    );
    let stale = Found { staleness: Some(std::time::Duration::from_millis(12)), ..answer(b"1") };
    assert!(text(found(Format::Json, &stale)).ends_with(",\"served_by\":\"n1\",\"staleness_ms\":12}\n"));
    assert_eq!(text(found(Format::Table, &stale)), "1\n");
    assert_eq!(found(Format::Raw, &answer(b"ab")), b"ab");
    assert_eq!(found(Format::Raw, &answer(b"")), b"");
}

#[test]
fn a_value_that_is_no_text_does_no_harm() {
    assert_eq!(text(found(Format::Table, &answer(b"a\xff\x1b[2Jb\xc3"))), "a\\xff\\u{1b}[2Jb\\xc3\n");
    assert_eq!(
        text(found(Format::Json, &answer(b"\xff\xfe\x00"))),
        "{\"key\":\"a\",\"value_base64\":\"//4A\",\"create_revision\":1,\"mod_revision\":2,\"version\":3,\
         \"revision\":4,\"served_by\":\"n1\"}\n"
    );
    assert_eq!(found(Format::Raw, &answer(b"\xff\x00\n")), b"\xff\x00\n");
}

#[test]
fn base64_by_the_vectors_of_rfc_4648() {
    for (plain, coded) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(plain.as_bytes()), coded);
    }
    assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
}

#[test]
fn the_leader() {
    let named = NamedLeader { name: "n2".to_owned(), address: "127.0.0.1:7002".to_owned(), term: 3 };
    let shown = |format| text(leader(format, &named));
    assert_eq!(shown(Format::Table), "LEADER  ADDRESS         TERM\nn2      127.0.0.1:7002  3\n");
    assert_eq!(shown(Format::Json), "{\"name\":\"n2\",\"address\":\"127.0.0.1:7002\",\"term\":3}\n");
    assert_eq!(shown(Format::Raw), "n2\n");
    assert_eq!(text(transferred(Format::Table, "n2", 4)), "ok: n2 leads in term 4\n");
    assert_eq!(text(transferred(Format::Json, "n2", 4)), "{\"leader\":\"n2\",\"term\":4}\n");
}

#[test]
fn the_members() {
    let members = [
        Member {
            name: "n1".to_owned(),
            incarnation: 0xab,
            peer_address: "127.0.0.1:8001".to_owned(),
            client_address: "127.0.0.1:7001".to_owned(),
            voter: true,
        },
        Member {
            name: "n2".to_owned(),
            incarnation: u64::MAX,
            peer_address: "127.0.0.1:8002".to_owned(),
            client_address: String::new(),
            voter: false,
        },
    ];
    let shown = |format| text(super::members(format, &members));
    assert_eq!(
        shown(Format::Table),
        "NAME  ROLE     PEER ADDRESS    CLIENT ADDRESS  INCARNATION\n\
         n1    voter    127.0.0.1:8001  127.0.0.1:7001  00000000000000ab\n\
         n2    learner  127.0.0.1:8002  -               ffffffffffffffff\n"
    );
    assert_eq!(
        shown(Format::Raw),
        "n1\tvoter\t127.0.0.1:8001\t127.0.0.1:7001\t00000000000000ab\n\
         n2\tlearner\t127.0.0.1:8002\t-\tffffffffffffffff\n"
    );
    assert!(shown(Format::Json).starts_with("[{\"name\":\"n1\",\"voter\":true,\"peer_address\":\"127.0.0.1:8001\","));
}

#[test]
fn what_became_of_a_write() {
    let id = RequestId { session: 10, opened_at_ms: 1500, sequence: 7 };
    let rejected = |reason: &str, revision| Settled::Rejected { reason: reason.to_owned(), revision };
    for (outcome, table, json, raw) in [
        (
            Settled::Put(Written { revision: 3, version: 2 }),
            "applied: revision 3, version 2\n",
            r#""outcome":"applied","revision":3,"version":2}"#,
            "applied\t3\n",
        ),
        (
            Settled::Deleted(Deleted { revision: 3 }),
            "applied: revision 3\n",
            r#""outcome":"applied","revision":3}"#,
            "applied\t3\n",
        ),
        (
            rejected("KEY_EXISTS", Some(2)),
            "not applied: the key existed, last written at revision 2\n",
            r#""outcome":"rejected","reason":"KEY_EXISTS","revision":2}"#,
            "rejected\tKEY_EXISTS\n",
        ),
        (
            rejected("KEY_NOT_FOUND", None),
            "not applied: the key was missing\n",
            r#""outcome":"rejected","reason":"KEY_NOT_FOUND"}"#,
            "rejected\tKEY_NOT_FOUND\n",
        ),
        (
            Settled::NeverApplied,
            "never applied, and never will be\n",
            r#""outcome":"never_applied"}"#,
            "never_applied\n",
        ),
        (
            Settled::Forgotten,
            "nobody knows any more; it will not be applied from now on\n",
            r#""outcome":"forgotten"}"#,
            "forgotten\n",
        ),
    ] {
        let shown = |format| text(settled(format, &id, &outcome));
        assert_eq!(shown(Format::Table), table);
        let expected = format!("{{\"request_id\":\"0000000000000000000000000000000a-1500-7\",{json}\n");
        assert_eq!(shown(Format::Json), expected);
        assert_eq!(shown(Format::Raw), raw);
    }
}
