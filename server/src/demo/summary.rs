//! How a demo ends: what came of it, whether all nodes hold the same, and how to go on.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::check::{KeyState, LeaderSeen, NodeState};
use super::happening::Answer;

/// What a demo has seen.
pub(super) struct Report {
    /// What the operations were chosen from.
    pub(super) seed: u64,
    /// The leader at the end.
    pub(super) leader: LeaderSeen,
    /// The leader that was killed, if one was, with its term.
    pub(super) killed: Option<(String, u64)>,
    /// What became of each operation.
    pub(super) answers: Vec<Answer>,
    /// The revision before the first operation.
    pub(super) revision_before: u64,
    /// Every node's state.
    pub(super) states: Vec<NodeState>,
    /// Every key, read linearizably.
    pub(super) keys: Vec<KeyState>,
}

impl Report {
    /// Whether all nodes hold the same state.
    pub(super) fn all_equal(&self) -> bool {
        self.states.windows(2).all(|pair| pair[0].equals(&pair[1]))
    }

    /// Whether the state has gone through exactly the changes that clients were told of, and those of unknown outcome
    /// at most.
    pub(super) fn nothing_lost(&self) -> bool {
        let (changes, unknown) = self.changes();
        let least = self.revision_before + changes;
        self.states.iter().all(|state| (least..=least + unknown).contains(&state.revision))
    }

    /// Whether the demo shows what it is meant to show.
    pub(super) fn holds(&self) -> bool {
        self.all_equal() && self.nothing_lost()
    }

    /// How many changes were acknowledged, and how many operations have an unknown outcome.
    fn changes(&self) -> (u64, u64) {
        let count = |test: fn(&Answer) -> bool| self.answers.iter().filter(|answer| test(answer)).count() as u64;
        (count(|answer| answer.revision().is_some()), count(|answer| matches!(answer, Answer::Unknown { .. })))
    }

    /// The summary, for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::from("\nSummary\n");
        let LeaderSeen { name, term, last_index } = &self.leader;
        let nodes = self.states.len();
        let mut fact = |name: &str, value: String| text.push_str(&format!("  {name:<12}{value}\n"));
        fact("seed", self.seed.to_string());
        fact("cluster", format!("{nodes} nodes; {name} leads in term {term}; {last_index} entries in the log"));
        fact("operations", self.operations());
        if let Some((killed, in_term)) = &self.killed {
            fact("failover", format!("{killed} led term {in_term}, was killed, and is back with everything it missed"));
        }
        self.write_states(&mut text);
        self.write_keys(&mut text);
        let (changes, unknown) = self.changes();
        let answer = |holds| if holds { "yes" } else { "NO" };
        text.push_str(&format!("\n  All nodes hold the same state: {}\n", answer(self.all_equal())));
        let maybe = if unknown > 0 { format!(" and {unknown} of unknown outcome at most") } else { String::new() };
        let proof = format!("{changes} acknowledged changes after revision {}{maybe}", self.revision_before);
        text.push_str(&format!(
            "  No acknowledged change is lost or doubled: {} ({proof})\n",
            answer(self.nothing_lost())
        ));
        text
    }

    /// How many operations there were, by what became of them.
    fn operations(&self) -> String {
        let mut counts = BTreeMap::new();
        for answer in &self.answers {
            *counts.entry(kind(answer)).or_insert(0_usize) += 1;
        }
        if counts.is_empty() {
            return "none".to_owned();
        }
        let parts: Vec<String> = counts.iter().map(|((_, name), count)| format!("{count} {name}")).collect();
        format!("{}: {}", self.answers.len(), parts.join(", "))
    }

    fn write_states(&self, text: &mut String) {
        let _ = writeln!(text, "\n  {:<6}{:>9}{:>10}{:>6}  state hash", "node", "applied", "revision", "keys");
        for state in &self.states {
            let NodeState { name, applied_index, revision, key_count, .. } = state;
            let hash = state.hash_shown();
            let _ = writeln!(text, "  {name:<6}{applied_index:>9}{revision:>10}{key_count:>6}  {hash}");
        }
    }

    fn write_keys(&self, text: &mut String) {
        let _ = writeln!(text, "\n  {:<6}{:<10}written at revision", "key", "value");
        for KeyState { key, value } in &self.keys {
            let _ = match value {
                Some((value, revision)) => writeln!(text, "  {key:<6}{value:<10}{revision}"),
                None => writeln!(text, "  {key:<6}{:<10}-", "(none)"),
            };
        }
    }
}

/// What became of an operation in a word or two, behind its place in the summary.
fn kind(answer: &Answer) -> (u8, &'static str) {
    match answer {
        Answer::Written { .. } => (0, "written"),
        Answer::Value { .. } => (1, "read"),
        Answer::Removed { .. } => (2, "removed"),
        Answer::KeyExists { .. } => (3, "key exists"),
        Answer::KeyNotFound { .. } => (4, "key not found"),
        Answer::Unknown { .. } => (5, "outcome unknown"),
        Answer::Failed { .. } => (6, "not applied"),
    }
}

/// How to use a cluster that keeps running: commands that work as they stand.
pub(super) fn how_to_use(addresses: &[(String, String)], status_page: &str, client_program: &str) -> String {
    let endpoints: Vec<&str> = addresses.iter().map(|(_, address)| address.as_str()).collect();
    let (first, endpoints) = (endpoints.first().copied().unwrap_or_default(), endpoints.join(","));
    // The value of a put is bytes, which JSON carries in base64.
    format!(
        "\nThe cluster runs until Ctrl-C, and goes on to tell what happens. In a browser:\n\
         \n  {status_page}\n\
         \nIn another terminal:\n\
         \n  export QUORATE_ENDPOINTS={endpoints}\
         \n  {client_program} put greeting hello\
         \n  {client_program} get greeting\
         \n  {client_program} status\n\
         \n  grpcurl -plaintext {first} list\
         \n  grpcurl -plaintext -d '{{\"key\":\"k\",\"value\":\"aGVsbG8=\"}}' {first} kv.v1.KvService/Put\
         \n  grpcurl -plaintext -d '{{\"key\":\"k\"}}' {first} kv.v1.KvService/Get\n"
    )
}

/// How to run the demo again when the cluster is gone.
pub(super) fn how_to_repeat(program: &str, seed: u64) -> String {
    let repeat = format!("--seed {seed}");
    format!(
        "\nThe cluster is stopped. To go on:\n\
         \n  {program} demo --keep-running    leaves it running for client-cli and grpcurl\
         \n  {program} demo --kill-leader     shows a failover\
         \n  {program} demo {repeat:<14}    sends the same operations again\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str, revision: u64) -> NodeState {
        NodeState { name: name.to_owned(), applied_index: 9, revision, key_count: 1, state_hash: vec![0x5a; 16] }
    }

    fn report() -> Report {
        Report {
            seed: 7,
            leader: LeaderSeen { name: "n2".to_owned(), term: 1, last_index: 9 },
            killed: None,
            answers: vec![
                Answer::Written { revision: 1 },
                Answer::Removed { revision: 2 },
                Answer::KeyExists { message: "key already exists: a".to_owned() },
            ],
            revision_before: 0,
            states: vec![state("n1", 2), state("n2", 2)],
            keys: vec![KeyState { key: "a", value: Some(("val_7".to_owned(), 1)) }, KeyState { key: "b", value: None }],
        }
    }

    #[test]
    fn the_summary_says_what_came_of_it() {
        let expected = "
Summary
  seed        7
  cluster     2 nodes; n2 leads in term 1; 9 entries in the log
  operations  3: 1 written, 1 removed, 1 key exists

  node    applied  revision  keys  state hash
  n1            9         2     1  5a5a5a5a5a5a5a5a
  n2            9         2     1  5a5a5a5a5a5a5a5a

  key   value     written at revision
  a     val_7     1
  b     (none)    -

  All nodes hold the same state: yes
  No acknowledged change is lost or doubled: yes (2 acknowledged changes after revision 0)
";
        assert_eq!(report().text(), expected);
        assert!(report().holds());
    }

    #[test]
    fn a_failover_and_unknown_outcomes_are_told() {
        let mut report = report();
        report.killed = Some(("n1".to_owned(), 1));
        report.answers.push(Answer::Unknown { message: "broken".to_owned() });
        let text = report.text();
        assert!(
            text.contains("  failover    n1 led term 1, was killed, and is back with everything it missed\n"),
            "{text}"
        );
        assert!(
            text.contains("yes (2 acknowledged changes after revision 0 and 1 of unknown outcome at most)"),
            "{text}"
        );
        report.states = vec![state("n1", 3), state("n2", 3)];
        assert!(report.holds(), "the unknown one was applied");
        report.states = vec![state("n1", 4), state("n2", 4)];
        assert!(!report.nothing_lost(), "something was applied twice");
    }

    #[test]
    fn a_difference_or_a_loss_is_a_no() {
        let mut report = report();
        report.states[1].state_hash[15] = 0;
        assert!(!report.all_equal() && report.nothing_lost() && !report.holds());
        assert!(report.text().contains("All nodes hold the same state: NO\n"));
        report.states = vec![state("n1", 1), state("n2", 1)];
        assert!(report.all_equal() && !report.nothing_lost() && !report.holds());
        assert!(report.text().contains("lost or doubled: NO ("));
    }

    #[test]
    fn the_commands_name_the_real_addresses() {
        let addresses = [("n1", "127.0.0.1:1"), ("n2", "127.0.0.1:2")].map(|(n, a)| (n.to_owned(), a.to_owned()));
        let text = how_to_use(&addresses, "http://127.0.0.1:3/", "target/debug/client-cli");
        assert!(text.contains("In a browser:\n\n  http://127.0.0.1:3/\n"), "{text}");
        assert!(text.contains("  export QUORATE_ENDPOINTS=127.0.0.1:1,127.0.0.1:2\n"), "{text}");
        assert!(text.contains("  target/debug/client-cli put greeting hello\n"), "{text}");
        assert!(text.contains(r#"-d '{"key":"k","value":"aGVsbG8="}' 127.0.0.1:1 kv.v1.KvService/Put"#), "{text}");
        let text = how_to_repeat("quorate-server", 7);
        assert!(text.contains("  quorate-server demo --seed 7 "), "{text}");
    }

    #[test]
    fn a_run_without_operations_says_so() {
        let mut report = report();
        report.answers.clear();
        report.states = vec![state("n1", 0)];
        assert!(report.text().contains("operations  none\n"));
        assert!(report.holds());
    }
}
