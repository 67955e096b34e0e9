//! How a node without a cluster finds or founds one.
//!
//! The very first bootstrap needs every configured member present and empty. The members exchange incarnations; each
//! computes the same first configuration and from it the cluster's id. A member that crashed in between finds the
//! others with a cluster that has its incarnation in it, and adopts it. A node that finds its *name* in a cluster with
//! another incarnation has lost its disk: it must not speak for the old one, whose votes it has forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::identity::{Cluster, Member};
use tokio::task::JoinSet;

use crate::transport::{Board, Introduction, ask_who};

/// How long to wait before everyone is asked again.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// The same for a node that the cluster does not know, where nothing is expected to change soon.
const OUTSIDE_PAUSE: Duration = Duration::from_millis(1_000);

/// What a node is to the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// A member of it.
    Member(Cluster),
    /// Not a member; why, and what to do.
    Outside(String),
}

/// What one round of questions gave.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Round {
    Found(Standing),
    /// Not everyone has answered; whom it waits for.
    Waiting(String),
}

/// Asks the other members until this node is known to be a member of a cluster. `others` are their addresses by name;
/// `told` learns why it is none yet, each time that changes.
///
/// A node that is outside goes on asking: the answer may have come from a wrong address, and if it did not, asking
/// again gives the same answer and does no harm.
pub(super) async fn find_cluster(
    board: &Board,
    others: &BTreeMap<String, String>,
    mut told: impl FnMut(&str),
) -> Cluster {
    let mut last = String::new();
    loop {
        let own = board.own();
        let answers = ask_all(others, &own).await;
        let (text, pause) = match judge(&own.identity.member, others, &answers) {
            Round::Found(Standing::Member(cluster)) => return cluster,
            Round::Found(Standing::Outside(text)) => (text, OUTSIDE_PAUSE),
            Round::Waiting(text) => (text, ROUND_PAUSE),
        };
        if text != last {
            told(&text);
            last = text;
        }
        tokio::time::sleep(pause).await;
    }
}

type Answers = BTreeMap<String, Result<Introduction, String>>;

async fn ask_all(others: &BTreeMap<String, String>, own: &Introduction) -> Answers {
    let mut questions = JoinSet::new();
    for (name, address) in others {
        let (name, address, own) = (name.clone(), address.clone(), own.clone());
        questions.spawn(async move { (name, ask_who(&address, &own).await) });
    }
    questions.join_all().await.into_iter().collect()
}

/// What follows from the answers. A cluster that exists decides; a new one is founded only if nobody has one.
fn judge(own: &Member, others: &BTreeMap<String, String>, answers: &Answers) -> Round {
    let mut waiting = Vec::new();
    let mut members = vec![own.clone()];
    let mut outside = None;
    for (name, answer) in answers {
        match answer {
            Err(reason) => waiting.push(format!("{name} at {} ({reason})", others[name])),
            Ok(met) if met.identity.member.name != *name => {
                let found = &met.identity.member.name;
                waiting.push(format!("{name} at {} (the node there calls itself {found})", others[name]));
            }
            Ok(met) => match &met.identity.cluster {
                Some(cluster) => match standing_in(own, others, cluster) {
                    // Whatever the others say: a cluster that has this incarnation is the one that it belongs to.
                    member @ Standing::Member(_) => return Round::Found(member),
                    standing => outside = outside.or(Some(standing)),
                },
                None => members.push(met.identity.member.clone()),
            },
        }
    }
    if let Some(outside) = outside {
        return Round::Found(outside);
    }
    if waiting.is_empty() {
        let cluster = Cluster::new(members);
        if cluster.is_sound() {
            return Round::Found(Standing::Member(cluster));
        }
        waiting.push("members with incarnations of their own (a data directory was copied)".to_owned());
    }
    Round::Waiting(format!("waiting for {} to form the cluster", waiting.join(", ")))
}

fn standing_in(own: &Member, others: &BTreeMap<String, String>, cluster: &Cluster) -> Standing {
    let Some(known) = cluster.member(&own.name) else {
        return Standing::Outside(format!(
            "the cluster has no member named {}; give this node the name and the peers of a member",
            own.name
        ));
    };
    if known.incarnation != own.incarnation {
        return Standing::Outside(format!(
            "the cluster knows {} as the incarnation {:016x}, but this data directory was empty and is the new \
             incarnation {:016x}: it must not vote for the old one. Stop this node, put the old data directory back in \
             its place, and start it again; the other members go on without it as long as they are a majority",
            own.name,
            known.incarnation.get(),
            own.incarnation.get()
        ));
    }
    match mismatch(own, others, cluster) {
        None => Standing::Member(cluster.clone()),
        Some(reason) => Standing::Outside(reason),
    }
}

/// Says how the configured members differ from the cluster's; none if they are the same.
pub(super) fn mismatch(own: &Member, others: &BTreeMap<String, String>, cluster: &Cluster) -> Option<String> {
    let mut configured: Vec<&str> = others.keys().map(String::as_str).collect();
    configured.push(&own.name);
    configured.sort_unstable();
    let known: Vec<&str> = cluster.members().iter().map(|member| member.name.as_str()).collect();
    (configured != known).then(|| {
        format!(
            "the configuration names the members {}, but the cluster's are {}: correct the peers and start again",
            configured.join(", "),
            known.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::identity::Identity;
    use raft::NodeId;

    fn member(name: &str, incarnation: u64) -> Member {
        Member { name: name.to_owned(), incarnation: NodeId::new(incarnation).expect("not zero") }
    }

    fn others() -> BTreeMap<String, String> {
        [("n2", "b:1"), ("n3", "c:1")].map(|(name, address)| (name.to_owned(), address.to_owned())).into()
    }

    fn met(name: &str, incarnation: u64, cluster: Option<&Cluster>) -> Result<Introduction, String> {
        let identity = Identity { member: member(name, incarnation), cluster: cluster.cloned() };
        Ok(Introduction { identity, client_address: String::new() })
    }

    fn answers(second: Result<Introduction, String>, third: Result<Introduction, String>) -> Answers {
        [("n2".to_owned(), second), ("n3".to_owned(), third)].into()
    }

    fn all() -> Cluster {
        Cluster::new(vec![member("n1", 1), member("n2", 2), member("n3", 3)])
    }

    #[test]
    fn empty_members_found_the_same_cluster() {
        let round = judge(&member("n1", 1), &others(), &answers(met("n2", 2, None), met("n3", 3, None)));
        assert_eq!(round, Round::Found(Standing::Member(all())));
    }

    #[test]
    fn nobody_founds_a_cluster_without_everyone() {
        let absent = Err("connection refused".to_owned());
        let round = judge(&member("n1", 1), &others(), &answers(met("n2", 2, None), absent));
        let text = "waiting for n3 at c:1 (connection refused) to form the cluster";
        assert_eq!(round, Round::Waiting(text.to_owned()));
        let impostor = judge(&member("n1", 1), &others(), &answers(met("n2", 2, None), met("n9", 9, None)));
        assert!(matches!(impostor, Round::Waiting(_)), "{impostor:?}");
    }

    #[test]
    fn a_member_that_crashed_meanwhile_adopts_the_cluster_that_has_it() {
        let absent = Err("connection refused".to_owned());
        let round = judge(&member("n1", 1), &others(), &answers(met("n2", 2, Some(&all())), absent));
        assert_eq!(round, Round::Found(Standing::Member(all())));
    }

    #[test]
    fn a_new_incarnation_is_outside_the_cluster_that_knows_the_old_one() {
        let round = judge(&member("n1", 77), &others(), &answers(met("n2", 2, None), met("n3", 3, Some(&all()))));
        let Round::Found(Standing::Outside(reason)) = round else { panic!("it may not take part: {round:?}") };
        assert!(reason.contains("data directory was empty"), "{reason}");
    }

    #[test]
    fn a_cluster_that_has_this_incarnation_counts_more_than_one_that_has_not() {
        let stranger = Cluster::new(vec![member("n2", 22), member("n9", 9)]);
        let second = met("n2", 2, Some(&stranger));
        let round = judge(&member("n1", 1), &others(), &answers(second, met("n3", 3, Some(&all()))));
        assert_eq!(round, Round::Found(Standing::Member(all())));
    }

    #[test]
    fn a_copied_incarnation_founds_nothing() {
        let round = judge(&member("n1", 1), &others(), &answers(met("n2", 2, None), met("n3", 2, None)));
        let Round::Waiting(text) = round else { panic!("it may not be founded: {round:?}") };
        assert!(text.contains("data directory was copied"), "{text}");
    }

    #[test]
    fn other_members_than_configured_are_named() {
        let small = Cluster::new(vec![member("n1", 1), member("n2", 2)]);
        let round = judge(&member("n1", 1), &others(), &answers(met("n2", 2, Some(&small)), met("n3", 3, None)));
        let Round::Found(Standing::Outside(reason)) = round else { panic!("it may not take part: {round:?}") };
        assert!(reason.contains("n1, n2, n3") && reason.contains("n1, n2:"), "{reason}");
    }
}
