//! Clients that name their writes, as the client library does: a session that a client opens by drawing a number, the
//! sequences in it, and what sessions are like in a run.

use engine::kv::{RequestId, SessionId, SessionLimits};

use crate::random::Random;
use crate::settings::Kind;

/// What sessions are like in a run. Chances in thousandths.
#[derive(Clone, Debug)]
pub(crate) struct SessionSettings {
    pub(crate) limits: SessionLimits,
    /// How many clients name their writes.
    pub(crate) named: u64,
    /// How many clients keep a counter, beside the others.
    pub(crate) counters: usize,
    /// How many clients do not say which results they need no more until they must.
    pub(crate) lazy: u64,
    /// How many operations begin with a new session, as those of a client that was started anew.
    pub(crate) fresh: u64,
    /// How many attempts are late, so that others overtake them, and how late.
    pub(crate) late: u64,
    pub(crate) late_us: (u64, u64),
    /// How long a client waits for the answer to one attempt.
    pub(crate) attempt_us: (u64, u64),
    /// How many writes in doubt are settled when their client has lost its patience.
    pub(crate) settled: u64,
}

impl SessionSettings {
    /// The settings of a run of this kind.
    pub(crate) fn draw(kind: Kind, random: &mut Random) -> SessionSettings {
        let small = random.chance(650);
        let limits = SessionLimits {
            idle_ms: random.pick(&[1_000, 2_000, 5_000]),
            sessions_max: random.pick(&[3, 4, 64]),
            results_max: random.pick(&[2, 8, 4096]),
            session_bytes_max: random.pick(&[500, 2_000, 1 << 20]),
            bytes_max: random.pick(&[1_200, 3_000, 64 << 20]),
        };
        let mut settings = SessionSettings {
            limits: if small { limits } else { SessionLimits::default() },
            named: random.pick(&[0, 500, 1000]),
            counters: random.pick(&[0, 0, 1, 1, 2]),
            lazy: random.pick(&[0, 500]),
            fresh: random.pick(&[0, 20, 100]),
            late: random.pick(&[0, 20, 100]),
            late_us: random.pick(&[(300_000, 3_000_000), (1_000_000, 15_000_000)]),
            attempt_us: random.pick(&[(100_000, 400_000), (300_000, 1_500_000)]),
            settled: random.pick(&[0, 600]),
        };
        if kind == Kind::Overwrites {
            // That the disk stays bounded is what these are about, not what clients are told.
            (settings.named, settings.counters) = (0, 0);
        }
        settings
    }
}

/// A client's session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientSession {
    session: SessionId,
    opened_at_ms: u64,
    next: u64,
    acknowledged_below: u64,
}

impl ClientSession {
    /// A new one, of a client that has heard of this replicated time.
    pub(crate) fn open(time_ms: u64, random: &mut Random) -> ClientSession {
        let session = SessionId::new(u128::from(random.bits()) << 64 | u128::from(random.bits()));
        ClientSession { session, opened_at_ms: time_ms, next: 1, acknowledged_below: 0 }
    }

    /// The name of the next write, before which there is none whose outcome is still of interest.
    pub(crate) fn next_id(&mut self, is_lazy: bool) -> RequestId {
        let ClientSession { session, opened_at_ms, next: sequence, .. } = *self;
        self.next += 1;
        if !is_lazy {
            self.acknowledged_below = sequence;
        }
        RequestId { session, opened_at_ms, sequence, acknowledged_below: self.acknowledged_below }
    }

    /// The client says after all that it needs nothing before a write.
    pub(crate) fn acknowledge(&mut self, id: &mut RequestId) {
        self.acknowledged_below = id.sequence;
        id.acknowledged_below = id.sequence;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_rise_and_only_lazy_clients_keep_results() {
        let mut session = ClientSession::open(5, &mut Random::new(1));
        let [first, second] = [false, true].map(|is_lazy| session.next_id(is_lazy));
        assert_eq!((first.sequence, first.acknowledged_below, first.opened_at_ms), (1, 1, 5));
        assert_eq!((second.sequence, second.acknowledged_below), (2, 1));
        let mut third = session.next_id(true);
        session.acknowledge(&mut third);
        assert_eq!((third.acknowledged_below, session.next_id(true).acknowledged_below), (3, 3));
    }
}
