//! What an endpoint's answer, or its absence, says about it alone.

use super::{
    super::{output::printable, status::role},
    Caller, Finding,
    Level::{self, Ok as Fine, Problem, Warning},
    Remedy, Urgency, milliseconds,
    probe::{Answer, Probe, Reached},
};
use client_cli::{Endpoint, Error, Role, StatusResponse};
use std::{io, net::IpAddr};
use tonic::Code;

/// The findings about one endpoint, in the order in which it was asked.
pub(super) fn findings(probe: &Probe, caller: Caller<'_>) -> Vec<Finding> {
    let endpoint = &probe.endpoint;
    match &probe.reached {
        Reached::Nothing(error) => vec![unresolved(endpoint, error)],
        Reached::Name { addresses, error } => {
            name(endpoint, addresses).into_iter().chain([unconnected(endpoint, error)]).collect()
        }
        Reached::Port { addresses, connected, answer } => {
            let connect = Finding::new(endpoint, "connect", Fine, format!("in {}", milliseconds(*connected)));
            let mut findings: Vec<Finding> = name(endpoint, addresses).into_iter().chain([connect]).collect();
            match answer.as_ref() {
                Ok(answer) => findings.extend(node(endpoint, answer, caller)),
                Err(error) => findings.push(unanswered(endpoint, error, caller)),
            }
            findings
        }
    }
}

/// What a name resolves to; nothing if an address was given.
fn name(endpoint: &Endpoint, addresses: &[IpAddr]) -> Option<Finding> {
    if endpoint.host().parse::<IpAddr>().is_ok() {
        return None;
    }
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Some(Finding::new(endpoint, "name", Fine, format!("resolves to {}", addresses.join(", "))))
}

fn unresolved(endpoint: &Endpoint, error: &io::Error) -> Finding {
    let text = format!("does not resolve: {}", printable(&error.to_string()));
    Finding::new(endpoint, "name", Problem, text).remedied(Remedy {
        urgency: Urgency::Away,
        command: format!("getent hosts {}", endpoint.host()),
        why: "asks this machine for the name; mend the name, or the endpoint".to_owned(),
    })
}

fn unconnected(endpoint: &Endpoint, error: &io::Error) -> Finding {
    let host = endpoint.host();
    let (text, command, why) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (
            "refused: nothing listens there".to_owned(),
            "quorate-server run --config FILE".to_owned(),
            format!("on {host} starts the node; its log says why it ended"),
        ),
        _ => (
            printable(&error.to_string()),
            format!("ping -c 3 {host}"),
            "says whether the machine is reached; if it is, look for a firewall".to_owned(),
        ),
    };
    Finding::new(endpoint, "connect", Problem, text).remedied(Remedy { urgency: Urgency::Away, command, why })
}

fn unanswered(endpoint: &Endpoint, error: &Error, caller: Caller<'_>) -> Finding {
    let attempt = error.failure().attempts.last();
    let words = printable(&error.to_string());
    let (text, remedy) = match attempt.map(|attempt| (attempt.code, &attempt.reason)) {
        Some((Code::DeadlineExceeded, None)) => (
            "takes connections and does not answer: stopped, stuck, or not a Quorate node".to_owned(),
            Remedy {
                urgency: Urgency::Away,
                command: format!("client-cli --endpoints {endpoint} --timeout 30s doctor"),
                why: "gives it more time; if that does not help, restart it".to_owned(),
            },
        ),
        Some((_, Some(reason))) => (
            format!("{words} ({})", printable(reason)),
            caller.again(Urgency::Away, "looks once more: it answers, but not this"),
        ),
        _ => (
            format!("is not a Quorate node: {words}"),
            Remedy {
                urgency: Urgency::Away,
                command: format!("curl -v http://{endpoint}"),
                why: "shows what listens there; mend the endpoint".to_owned(),
            },
        ),
    };
    Finding::new(endpoint, "node", Problem, text).remedied(remedy)
}

fn node(endpoint: &Endpoint, answer: &Answer, caller: Caller<'_>) -> Vec<Finding> {
    let Answer { status, after } = answer;
    let (name, version) = (printable(&status.name), printable(&status.version));
    let text = format!("{name}, version {version}, answered in {}", milliseconds(*after));
    vec![
        Finding::new(endpoint, "node", Fine, text),
        position(endpoint, status),
        readiness(endpoint, status, caller),
        disk(endpoint, status),
    ]
}

/// The node's role and term.
fn position(endpoint: &Endpoint, status: &StatusResponse) -> Finding {
    let (level, text): (Level, String) = match status.role() {
        Role::Leader => (Fine, format!("leads in term {}", status.term)),
        Role::Follower if status.leader_name.is_empty() => (Warning, format!("follows nobody in term {}", status.term)),
        Role::Follower => (Fine, format!("follows {} in term {}", printable(&status.leader_name), status.term)),
        Role::PreCandidate | Role::Candidate => {
            (Warning, format!("is a {} in term {}: it hears from no leader", role(status), status.term))
        }
        Role::Outside => (Warning, "is outside of the cluster".to_owned()),
        Role::Unspecified => (Warning, "has a role that this client does not know".to_owned()),
    };
    Finding::new(endpoint, "role", level, text)
}

fn readiness(endpoint: &Endpoint, status: &StatusResponse, caller: Caller<'_>) -> Finding {
    let (name, reason) = (printable(&status.name), printable(&status.not_ready_reason));
    if status.recovering {
        let text = "lost part of its log to damage, and fetches it from the others";
        let why = format!("looks whether {name} has everything again");
        return Finding::new(endpoint, "ready", Warning, text).remedied(caller.again(Urgency::Apart, why));
    }
    if !status.ready {
        let why = format!("looks again, when what {name} says is done");
        let remedy = caller.again(Urgency::Apart, why);
        return Finding::new(endpoint, "ready", Problem, format!("takes no part: {reason}")).remedied(remedy);
    }
    Finding::new(endpoint, "ready", Fine, "takes part")
}

fn disk(endpoint: &Endpoint, status: &StatusResponse) -> Finding {
    if !status.storage_full {
        return Finding::new(endpoint, "disk", Fine, "has room");
    }
    let text = "is almost full: what needs room is refused";
    Finding::new(endpoint, "disk", Problem, text).remedied(Remedy {
        urgency: Urgency::Full,
        command: "df -h".to_owned(),
        why: format!("on {} shows which disk; make room there", endpoint.host()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use client_cli::{Attempt, Failure, Outcome};
    use std::time::Duration;

    const CALLER: Caller<'static> = Caller("client-cli");

    fn endpoint(text: &str) -> Endpoint {
        text.parse().expect("it is well formed")
    }

    fn judged(reached: Reached) -> Vec<(&'static str, Level, String)> {
        let probe = Probe { endpoint: endpoint("n1.example:7001"), reached };
        findings(&probe, CALLER).into_iter().map(|found| (found.check, found.level, found.text)).collect()
    }

    fn answered(status: StatusResponse) -> Vec<(&'static str, Level, String)> {
        let answer = Box::new(Ok(Answer { status, after: Duration::from_millis(2) }));
        judged(Reached::Port { addresses: Vec::new(), connected: Duration::from_micros(100), answer })
    }

    fn failed(code: Code, reason: Option<&str>) -> Finding {
        let attempt = Attempt {
            endpoint: endpoint("n1.example:7001"),
            code,
            reason: reason.map(str::to_owned),
            message: "words".to_owned(),
            outcome: Outcome::NotApplied,
            tries: 1,
        };
        let failure = Failure { message: "words".to_owned(), attempts: vec![attempt] };
        unanswered(&endpoint("n1.example:7001"), &Error::NotApplied(Box::new(failure)), CALLER)
    }

    #[test]
    fn the_first_step_that_fails_is_the_cause() {
        let unknown = judged(Reached::Nothing(io::Error::other("no such host")));
        assert_eq!(unknown, [("name", Problem, "does not resolve: no such host".to_owned())]);
        let refused = judged(Reached::Name {
            addresses: vec![[10, 0, 0, 1].into()],
            error: io::ErrorKind::ConnectionRefused.into(),
        });
        let expected = [
            ("name", Fine, "resolves to 10.0.0.1".to_owned()),
            ("connect", Problem, "refused: nothing listens there".to_owned()),
        ];
        assert_eq!(refused, expected);
        let silent = failed(Code::DeadlineExceeded, None);
        assert!(silent.text.starts_with("takes connections and does not answer"), "{silent:?}");
        assert_eq!(failed(Code::Internal, None).text, "is not a Quorate node: words");
        assert_eq!(failed(Code::ResourceExhausted, Some("OVERLOADED")).text, "words (OVERLOADED)");
    }

    #[test]
    fn a_node_that_is_well() {
        let status = StatusResponse {
            name: "n1".to_owned(),
            version: "1.2.3".to_owned(),
            role: Role::Follower.into(),
            leader_name: "n2".to_owned(),
            term: 3,
            ready: true,
            ..StatusResponse::default()
        };
        let texts: Vec<String> =
            answered(status).into_iter().map(|(_, level, text)| format!("{level:?} {text}")).collect();
        let expected = [
            "Ok resolves to ",
            "Ok in 0.1 ms",
            "Ok n1, version 1.2.3, answered in 2.0 ms",
            "Ok follows n2 in term 3",
            "Ok takes part",
            "Ok has room",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_node_that_is_not() {
        let lost = StatusResponse {
            role: Role::PreCandidate.into(),
            term: 4,
            not_ready_reason: "its disk is empty".to_owned(),
            storage_full: true,
            ..StatusResponse::default()
        };
        let found = answered(lost.clone());
        assert_eq!(found[3], ("role", Warning, "is a pre-candidate in term 4: it hears from no leader".to_owned()));
        assert_eq!(found[4], ("ready", Problem, "takes no part: its disk is empty".to_owned()));
        assert_eq!((found[5].0, found[5].1), ("disk", Problem));
        let found = answered(StatusResponse { recovering: true, ..lost });
        assert_eq!((found[4].0, found[4].1), ("ready", Warning));
    }
}
