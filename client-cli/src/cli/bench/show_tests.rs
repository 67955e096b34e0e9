//! A load's report, to the byte.

use super::{
    super::{End, Operation},
    *,
};

fn plan() -> Plan {
    Plan {
        operation: Operation::Put,
        concurrency: 4,
        end: End::Count(14),
        rate: Some(1_000),
        key_prefix: "a b/".to_owned(),
        key_count: 10,
        value_bytes: 256,
        cleanup: false,
    }
}

fn measured() -> Measured {
    let mut tally = Tally::new();
    for (latency_us, times) in [(150, 1), (900, 12), (40_000, 1)] {
        for _ in 0..times {
            tally.succeeded_after(Duration::from_micros(latency_us));
        }
    }
    let failure = client_cli::Failure { message: "gone".to_owned(), attempts: Vec::new() };
    tally.failed(&client_cli::Error::NotApplied(Box::new(failure)));
    Measured {
        tally,
        elapsed: Duration::from_millis(2_000),
        behind: 1_985,
        keys_written: 10,
        interrupted: false,
        streams: 1,
    }
}

fn shown(format: Format, measured: Option<&Measured>, removed: Option<&Removed>) -> String {
    let report = Report { plan: &plan(), measured, removed };
    String::from_utf8(report.show(format, Colours::OFF, "client-cli")).expect("it is text")
}

#[test]
fn for_people() {
    let text = shown(Format::Table, Some(&measured()), None);
    let expected = "\
put at 1,000 a second for 2.0 s, 4 at once by stream, 256-byte values
done       14, that is 7 a second
failed     1: 1 no answer
behind     1,985 more were due by then
latency    p50 0.900 ms, p90 0.900 ms, p99 40.0 ms, p99.9 40.0 ms, max 40.0 ms

  up to ms    operations
      0.15             1  ####
       0.2             0
       0.3             0
       0.5             0
       0.7             0
         1            12  ################################################
       1.5             0
         2             0
         3             0
         5             0
         7             0
        10             0
        15             0
        20             0
        30             0
        50             1  ####

keys       a b/0 to a b/9
next: client-cli bench --cleanup --count 0 --keys 10 --key-prefix='a b/'    removes them
";
    assert_eq!(text, expected);
}

#[test]
fn for_programs() {
    let json: serde_json::Value = serde_json::from_str(&shown(Format::Json, Some(&measured()), None)).expect("JSON");
    assert_eq!((&json["succeeded"], &json["failed"], &json["per_second"]), (&14.into(), &1.into(), &7.into()));
    assert_eq!((&json["failures"]["no answer"], &json["behind"]), (&1.into(), &1_985.into()));
    assert_eq!((&json["latency_us"]["p50"], &json["road"]), (&900.into(), &"stream".into()));
    let alone = Measured { streams: 0, ..measured() };
    assert!(shown(Format::Json, Some(&alone), None).contains(r#""road":"call""#));
    assert_eq!(json["histogram"][5], serde_json::json!({"up_to_us": 1000, "count": 12}));
    assert_eq!(shown(Format::Raw, Some(&measured()), None), "put\t14\t1\t7\t900\t900\t40031\t40031\t40031\n");
}

#[test]
fn what_was_removed() {
    let removed = Removed { keys: 1, error: None };
    assert_eq!(shown(Format::Table, None, Some(&removed)), "removed    1 key\n");
    let failure = client_cli::Failure { message: "gone".to_owned(), attempts: Vec::new() };
    let error = Some(client_cli::Error::NotApplied(Box::new(failure)));
    let text = shown(Format::Table, None, Some(&Removed { keys: 3, error }));
    assert!(text.starts_with("removed    3 keys\nerror: not all keys could be removed: gone\nnext: "), "{text}");
}

#[test]
fn numbers() {
    assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!([10, 150, 500, 1_000, 1_500, 2_000_000].map(bound), ["0.01", "0.15", "0.5", "1", "1.5", "2,000"]);
    assert_eq!([7, 1_234, 12_345, 123_456].map(milliseconds), ["0.007", "1.23", "12.3", "123"]);
    assert_eq!(per_second(5, Duration::ZERO), 5_000_000);
}
