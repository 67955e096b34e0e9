//! The findings, in each format.

use super::{
    super::{
        args::Format,
        output::{json, line, tabs},
        style::{Colours, Meaning},
    },
    Finding, Level, Remedy, next,
};
use serde::Serialize;

#[derive(Serialize)]
struct Json<'a> {
    healthy: bool,
    problems: usize,
    warnings: usize,
    findings: &'a [Finding],
    next: Option<JsonNext<'a>>,
}

#[derive(Serialize)]
struct JsonNext<'a> {
    command: &'a str,
    why: &'a str,
}

/// Shows what was found, and the command to type next.
pub(super) fn show(format: Format, colours: Colours, findings: &[Finding]) -> Vec<u8> {
    match format {
        Format::Table => line(text(colours, findings)),
        Format::Raw => tabs(findings.iter().map(|Finding { subject, check, level, text, remedy: _ }| {
            vec![word(*level).to_owned(), subject.clone(), (*check).to_owned(), text.clone()]
        })),
        Format::Json => json(&Json {
            healthy: count(findings, Level::Problem) == 0,
            problems: count(findings, Level::Problem),
            warnings: count(findings, Level::Warning),
            findings,
            next: next(findings).map(|Remedy { command, why, urgency: _ }| JsonNext { command, why }),
        }),
    }
}

fn text(colours: Colours, findings: &[Finding]) -> String {
    let mut lines = Vec::new();
    let mut subject = None;
    for finding in findings {
        if subject != Some(&finding.subject) {
            lines.push(colours.paint(Meaning::Strong, &finding.subject));
            subject = Some(&finding.subject);
        }
        let meaning = match finding.level {
            Level::Ok => Meaning::Good,
            Level::Warning => Meaning::Doubtful,
            Level::Problem => Meaning::Bad,
        };
        let level = colours.paint(meaning, &format!("{:<7}", word(finding.level)));
        lines.push(format!("  {level}  {:<8}  {}", finding.check, finding.text));
    }
    lines.push(String::new());
    lines.push(verdict(findings));
    if let Some(Remedy { command, why, urgency: _ }) = next(findings) {
        lines.push(format!("next: {command}    {why}"));
    }
    colours.message(&lines.join("\n"))
}

fn verdict(findings: &[Finding]) -> String {
    let counted = |level, one: &str| match count(findings, level) {
        0 => None,
        1 => Some(format!("1 {one}")),
        many => Some(format!("{many} {one}s")),
    };
    let counts: Vec<String> =
        [counted(Level::Problem, "problem"), counted(Level::Warning, "warning")].into_iter().flatten().collect();
    if counts.is_empty() { "healthy".to_owned() } else { counts.join(", ") }
}

fn count(findings: &[Finding], level: Level) -> usize {
    findings.iter().filter(|finding| finding.level == level).count()
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Problem => "problem",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Urgency, *};

    fn findings() -> Vec<Finding> {
        let remedy = |urgency, command: &str| Remedy { urgency, command: command.to_owned(), why: "why".to_owned() };
        vec![
            Finding::new("a:1", "connect", Level::Ok, "in 1.0 ms"),
            Finding::new("a:1", "disk", Level::Problem, "is full").remedied(remedy(Urgency::Full, "df -h")),
            Finding::new("b:1", "connect", Level::Problem, "refused").remedied(remedy(Urgency::Away, "start it")),
            Finding::new("cluster", "leader", Level::Warning, "changes").remedied(remedy(Urgency::Wrong, "again")),
        ]
    }

    fn shown(format: Format, findings: &[Finding]) -> String {
        String::from_utf8(show(format, Colours::OFF, findings)).expect("it is text")
    }

    #[test]
    fn for_people() {
        let expected = "\
a:1
  ok       connect   in 1.0 ms
  problem  disk      is full
b:1
  problem  connect   refused
cluster
  warning  leader    changes

2 problems, 1 warning
next: start it    why
";
        assert_eq!(shown(Format::Table, &findings()), expected);
        assert_eq!(shown(Format::Table, &findings()[..1]), "a:1\n  ok       connect   in 1.0 ms\n\nhealthy\n");
        assert!(shown(Format::Table, &findings()[3..]).ends_with("1 warning\nnext: again    why\n"));
    }

    #[test]
    fn for_programs() {
        let json: serde_json::Value = serde_json::from_str(&shown(Format::Json, &findings())).expect("it is JSON");
        assert_eq!((&json["healthy"], &json["problems"], &json["warnings"]), (&false.into(), &2.into(), &1.into()));
        assert_eq!(json["next"], serde_json::json!({"command": "start it", "why": "why"}));
        let first = serde_json::json!({"subject": "a:1", "check": "connect", "level": "ok", "text": "in 1.0 ms"});
        assert_eq!(json["findings"][0], first);
        let raw = shown(Format::Raw, &findings());
        assert!(raw.starts_with("ok\ta:1\tconnect\tin 1.0 ms\nproblem\ta:1\tdisk\tis full\n"), "{raw}");
    }
}
