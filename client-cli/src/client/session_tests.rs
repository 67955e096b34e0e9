//! The bookkeeping of sessions, also with many writes at once and some that are given up.

use super::*;

/// The session, the sequence, and what is acknowledged.
fn sent(ticket: &Ticket) -> (u128, u64, u64) {
    let wire = ticket.to_wire();
    (ticket.name().session, wire.sequence, wire.acknowledged_below)
}

#[test]
fn what_is_acknowledged_is_what_nobody_waits_for() {
    let sessions = Sessions::default();
    let (first, second, third) = (sessions.take(), sessions.take(), sessions.take());
    let session = first.name().session;
    assert_eq!([sent(&first), sent(&second), sent(&third)], [1, 2, 3].map(|sequence| (session, sequence, 1)));
    drop(second);
    assert_eq!(sent(&third), (session, 3, 1), "the first is under way");
    drop(first);
    assert_eq!(sent(&third), (session, 3, 3));
    drop(third);
    let fourth = sessions.take();
    assert_eq!(sent(&fourth), (session, 4, 4));
    assert_eq!(fourth.to_wire().session.as_ref(), session.to_be_bytes());
}

#[test]
fn a_session_is_opened_at_the_latest_time_that_was_heard() {
    let sessions = Sessions::default();
    assert!(!sessions.has_heard());
    for time_ms in [5, 9, 7] {
        sessions.hear(time_ms);
    }
    let ticket = sessions.take();
    assert_eq!((sessions.has_heard(), ticket.name().opened_at_ms), (true, 9));
    sessions.hear(20);
    assert_eq!(sessions.take().name().opened_at_ms, 9, "the session is the same");
    sessions.leave(&ticket);
    let next = sessions.take();
    assert_eq!(next.name().opened_at_ms, 20);
    sessions.leave(&ticket);
    assert_eq!(sessions.take().name().session, next.name().session, "the old session was left already");
    sessions.leave(&next);
    sessions.begin_time_anew(4);
    assert_eq!(sessions.take().name().opened_at_ms, 4);
}

#[test]
fn a_name_that_was_handed_out_is_never_acknowledged() {
    let sessions = Sessions::default();
    let (before, lost, after) = (sessions.take(), sessions.take(), sessions.take());
    let name = sessions.hand_out(lost);
    drop(before);
    assert_eq!(sent(&after), (name.session, 3, 2), "what is under way keeps it open");
    let next = sessions.take();
    assert_ne!(next.name().session, name.session);
    assert_eq!(next.to_wire().sequence, 1);
    sessions.hand_out(after);
    assert_eq!(sessions.take().name().session, next.name().session, "the old session was left already");
}

#[test]
fn a_slow_write_does_not_fill_its_session() {
    let sessions = Sessions::default();
    let slow = sessions.take();
    let session = slow.name().session;
    for sequence in 2..=WINDOW {
        assert_eq!(sent(&sessions.take()), (session, sequence, 1));
    }
    let next = sessions.take();
    assert_ne!(next.name().session, session);
    assert_eq!(next.name().sequence, 1);
    assert_eq!(sent(&slow), (session, 1, 1));
    drop((slow, next));
    assert_eq!(sessions.take().name().session, session, "there is room again");
}

#[test]
fn very_many_at_once_share_few_sessions() {
    let sessions = Sessions::default();
    let mut names = BTreeSet::new();
    let at_once = u64::try_from(CURRENT_MAX).expect("it is small") * WINDOW;
    for _ in 0..3 {
        let tickets: Vec<Ticket> = (0..at_once).map(|_| sessions.take()).collect();
        names.extend(tickets.iter().map(|ticket| ticket.name().session));
    }
    assert_eq!(names.len(), CURRENT_MAX);
    let one_more: Vec<Ticket> = (0..=at_once).map(|_| sessions.take()).collect();
    let another = one_more.last().expect("there are many").name().session;
    assert!(!names.contains(&another));
    assert_eq!(lock(&sessions.state).current.len(), CURRENT_MAX);
}

#[test]
fn concurrent_writes_have_names_of_their_own_and_acknowledge_no_one_elses() {
    const THREADS: usize = 4;
    const WRITES: usize = 2000;
    let sessions = Sessions::default();
    let under_way: Mutex<BTreeSet<(u128, u64)>> = Mutex::default();
    let taken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..WRITES {
                    let ticket = sessions.take();
                    let name = ticket.name();
                    under_way.lock().expect("no holder panics").insert((name.session, name.sequence));
                    let (session, sequence, below) = sent(&ticket);
                    assert!(below <= sequence);
                    {
                        let under_way = under_way.lock().expect("no holder panics");
                        let oldest = under_way.range((session, 0)..).next().expect("at least this one");
                        // The oldest is not released before it has left the set, so it cannot be acknowledged.
                        assert!(oldest.0 != session || below <= oldest.1, "{below} is acknowledged, {oldest:?} is not");
                    }
                    under_way.lock().expect("no holder panics").remove(&(session, sequence));
                    drop(ticket);
                    taken.lock().expect("no holder panics").push((session, sequence));
                }
            });
        }
    });
    let mut taken = taken.into_inner().expect("no holder panics");
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), THREADS * WRITES);
    let ticket = sessions.take();
    assert_eq!(sent(&ticket).1, sent(&ticket).2, "nothing is left open");
}
