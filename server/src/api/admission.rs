//! Admission by delay: whether a request that comes now would wait for too long.
//!
//! What this node runs itself waits in one of two [queues](Queue), from when it is taken in until there is an answer:
//! in front of the loop and in it, for the log, for the followers, for being applied, for its caller's turn. Of each
//! queue only this is known: how much is in it, how much was answered in the last interval, and how soon the fastest of
//! that.
//!
//! A queue *stands* when in a whole interval not even the fastest answer was fast. A slow sync does not make it stand,
//! because before and after it there are fast ones, and no number of requests does that are answered soon. While it
//! stands, no more is taken in than could be answered within [`DELAY_MAX`] at the pace of the last interval, and
//! nothing that could not be answered by its own deadline at that pace. So the wait stays bounded, and as there always
//! is that much to do, the pace does not suffer. What was taken in before goes on undisturbed.
//!
//! What is forwarded is not in these queues: the leader judges it by its own.

use std::time::{Duration, Instant};

use super::limits::{IN_FLIGHT_UNITS_MAX, RETRY_SOON};

/// How long a request may have to wait when a queue stands. A fifth of the time that a client waits which sets no
/// deadline: who gets in is answered well in time, and nothing is done for callers that have gone away. It is long
/// enough that a group commit loses nothing.
pub(super) const DELAY_MAX: Duration = Duration::from_secs(1);

/// A queue stands if no answer of an interval was faster than this. A write waits for two syncs, its own and the one
/// that is under way, so disks whose syncs take 100 ms never come here by their slowness alone.
pub(super) const STANDING_DELAY: Duration = Duration::from_millis(250);

/// How long is looked at before it is judged: longer than a healthy disk or a busy machine stands still.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// What a queue takes in in any case, in units of what is [under way](super::limits::IN_FLIGHT_UNIT_BYTES): a moderate
/// load, which is to be served as well as can be by a disk of any slowness, and the beginning of each burst.
pub(super) const ALWAYS_ADMITTED_UNITS: usize = 1024;

/// No limit but those of [memory](super::limits).
const UNLIMITED: usize = usize::MAX;

/// What a request waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Queue {
    /// The log.
    Commands,
    /// The confirmation that this node still leads.
    Reads,
}

/// What part of all room is kept for those who have less than their share.
const RESERVE: usize = 8;

/// What a stream has under way when it asks for more, among how many streams that have something.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Share {
    pub(super) held: usize,
    pub(super) streams: usize,
}

impl Share {
    /// How much of `room` may be taken for it to be given more: all if it has less than its equal share, and not the
    /// last of it otherwise. So whoever asks for little, and whoever calls, finds room beside those who ask for much,
    /// and streams that all ask for much come to have the same.
    pub(super) fn of(self, room: usize) -> usize {
        if self.held.saturating_mul(self.streams) > room { room - room / RESERVE } else { room }
    }
}

/// What left a queue, to be told to it at once.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Leaving {
    /// How much, answered or not.
    pub(super) units: usize,
    /// How much of it because it was run and answered.
    answered_units: usize,
    /// How soon the fastest of that.
    fastest: Option<Duration>,
}

impl Leaving {
    /// Something that leaves has been answered so long after it came.
    pub(super) fn note_answer(&mut self, units: usize, delay: Duration) {
        self.answered_units += units;
        self.fastest = earlier(self.fastest, Some(delay));
    }
}

/// A queue's length and pace.
#[derive(Debug)]
pub(super) struct Pace {
    /// What is in the queue.
    units: usize,
    /// How much may be in it now.
    limit: usize,
    /// What was answered in the last whole interval, for a [`DELAY_MAX`].
    pace: usize,
    /// When the interval began.
    begun: Instant,
    /// Whether anything was in the queue then.
    was_waiting: bool,
    /// What the interval has seen so far.
    seen: Leaving,
    refused: u32,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        let seen = Leaving::default();
        Self { units: 0, limit: UNLIMITED, pace: 0, begun: now, was_waiting: false, seen, refused: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.units == 0
    }

    /// Takes in a request that has to be answered by `deadline`, or says after which time to come again.
    pub(super) fn admit(
        &mut self,
        units: usize,
        share: Share,
        now: Instant,
        deadline: Instant,
    ) -> Result<(), Duration> {
        self.judge(now);
        if self.limit < UNLIMITED {
            let time = deadline.saturating_duration_since(now).min(DELAY_MAX);
            let limit = share.of(scaled(self.limit, time, DELAY_MAX)).max(ALWAYS_ADMITTED_UNITS);
            if self.units + units > limit {
                return Err(self.retry_after());
            }
        }
        self.units += units;
        Ok(())
    }

    /// What has left the queue.
    pub(super) fn left(&mut self, leaving: Leaving) {
        debug_assert!(leaving.units <= self.units, "more leaves than came");
        self.units = self.units.saturating_sub(leaving.units);
        self.seen.answered_units += leaving.answered_units;
        self.seen.fastest = earlier(self.seen.fastest, leaving.fastest);
    }

    /// After which time a request that is refused may come again: while the queue stands, when what is in it has been
    /// answered at the pace of the last interval; soon if it does not, because then the pace may only be that of the
    /// load. Nobody is told the same, or all would come back at once.
    pub(super) fn retry_after(&mut self) -> Duration {
        self.refused = self.refused.wrapping_add(1);
        let drained = match self.limit {
            UNLIMITED => RETRY_SOON,
            _ => scaled_time(DELAY_MAX, self.units, self.pace).clamp(RETRY_SOON, DELAY_MAX),
        };
        // The multiples of the golden ratio, without their whole parts, are spread evenly however many there are.
        let spread = f64::from(self.refused.wrapping_mul(0x9E37_79B9)) / f64::from(u32::MAX);
        drained + drained.mul_f64(spread)
    }

    /// At the end of an interval: how much may be in the queue during the next.
    fn judge(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.begun);
        if elapsed < INTERVAL {
            return;
        }
        let stands = match self.seen.fastest {
            // It is judged when a request comes: after a pause the time that it was seen in is over.
            Some(fastest) => fastest > STANDING_DELAY && elapsed < 2 * INTERVAL,
            // Nothing was answered all the time, though something waited.
            None => self.was_waiting && self.units > 0,
        };
        self.pace = scaled(self.seen.answered_units, DELAY_MAX, elapsed);
        if stands {
            self.limit = self.pace;
        } else {
            // Not all at once, or whatever made the queue stand would fill it again before that is noticed.
            let intervals = elapsed.as_nanos() / INTERVAL.as_nanos();
            let factor = 1_usize << intervals.min(IN_FLIGHT_UNITS_MAX.ilog2().into());
            self.limit = self.limit.max(ALWAYS_ADMITTED_UNITS).saturating_mul(factor);
            if self.limit >= IN_FLIGHT_UNITS_MAX {
                self.limit = UNLIMITED;
            }
        }
        self.begun = now;
        self.was_waiting = self.units > 0;
        self.seen = Leaving::default();
    }
}

fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What comes in `time` if `count` came in `of`.
fn scaled(count: usize, time: Duration, of: Duration) -> usize {
    let scaled = count as u128 * time.as_nanos() / of.as_nanos().max(1);
    usize::try_from(scaled).unwrap_or(usize::MAX)
}

/// How long `count` takes if `of` took `time`; as long as can be if nothing came.
fn scaled_time(time: Duration, count: usize, of: usize) -> Duration {
    let nanoseconds = (time.as_nanos() * count as u128).checked_div(of as u128).unwrap_or(u128::MAX);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_secs(60);

    /// A queue whose requests are answered at a pace, on a clock of its own.
    struct Model {
        pace: Pace,
        start: Instant,
        now: Instant,
        /// When what is in the queue came, from the oldest on.
        waiting: std::collections::VecDeque<Instant>,
        refused: usize,
    }

    impl Model {
        fn new() -> Self {
            let now = Instant::now();
            Self { pace: Pace::new(now), start: now, now, waiting: std::collections::VecDeque::new(), refused: 0 }
        }

        fn come(&mut self, count: usize, patience: Duration) {
            for _ in 0..count {
                // Memory has room for no more.
                if self.waiting.len() < IN_FLIGHT_UNITS_MAX
                    && self.pace.admit(1, Share::default(), self.now, self.now + patience).is_ok()
                {
                    self.waiting.push_back(self.now);
                } else {
                    self.refused += 1;
                }
            }
        }

        /// Answers the oldest that came at least `service` ago. How long the last of them took.
        fn answer(&mut self, count: usize, service: Duration) -> Option<Duration> {
            let mut leaving = Leaving::default();
            let mut last = None;
            for _ in 0..count {
                let Some(came) = self.waiting.front().filter(|came| **came + service <= self.now) else { break };
                let delay = self.now - *came;
                leaving.units += 1;
                leaving.note_answer(1, delay);
                last = Some(delay);
                self.waiting.pop_front();
            }
            self.pace.left(leaving);
            last
        }

        /// So many milliseconds in which so many come and so many can be answered in each ten.
        fn run(&mut self, ms: u64, coming: usize, answered: usize, service: Duration) -> Option<Duration> {
            let mut last = None;
            for _ in 0..ms / 10 {
                self.now += Duration::from_millis(10);
                self.come(coming, LATE);
                last = self.answer(answered, service).or(last);
            }
            last
        }
    }

    const AT_ONCE: Duration = Duration::ZERO;

    #[test]
    fn a_load_that_is_answered_soon_is_never_refused() {
        let mut model = Model::new();
        model.run(60_000, 1_000, 1_000, AT_ONCE);
        assert_eq!(model.refused, 0);
    }

    #[test]
    fn a_slow_disk_refuses_nothing() {
        for service_ms in [10, 100, 300] {
            let mut model = Model::new();
            model.run(60_000, 100, usize::MAX, Duration::from_millis(service_ms));
            assert_eq!(model.refused, 0, "{service_ms} ms");
        }
    }

    #[test]
    fn a_moderate_load_is_not_refused_however_slow_the_disk_is() {
        let mut model = Model::new();
        // About 1,000 wait at any time, and none of them for less than ten seconds.
        model.run(120_000, 1, usize::MAX, Duration::from_secs(10));
        assert_eq!(model.refused, 0);
    }

    #[test]
    fn a_disk_that_stands_still_for_a_moment_refuses_nothing() {
        let mut model = Model::new();
        for _ in 0..20 {
            model.run(1_000, 100, 1_000, AT_ONCE);
            model.run(700, 100, 0, AT_ONCE);
            // Nor those who have little time: the next may be answered in none.
            model.come(2_000, Duration::from_millis(100));
        }
        assert_eq!(model.refused, 0);
    }

    #[test]
    fn ten_times_what_can_be_answered_waits_no_longer_than_is_said_and_the_pace_stays() {
        let mut model = Model::new();
        // 5,000 a second can be answered. What came before the queue was found to stand is answered first.
        model.run(8_000, 500, 50, AT_ONCE);
        let begun = model.now;
        while model.now < begun + Duration::from_secs(30) {
            assert!(model.waiting.len() >= 50, "there always is enough to do");
            let took = model.run(10, 500, 50, AT_ONCE).expect("there are answers");
            assert!(took <= DELAY_MAX + Duration::from_millis(20), "{took:?}");
        }
        // And when the load is gone everybody is taken in again.
        model.run(2_000, 0, 50, AT_ONCE);
        assert!(model.waiting.is_empty());
        model.refused = 0;
        model.run(20_000, 45, 50, AT_ONCE);
        assert_eq!(model.refused, 0);
    }

    #[test]
    fn a_queue_that_nothing_leaves_stands() {
        let mut model = Model::new();
        model.run(1_000, 1, 1, AT_ONCE);
        model.come(2 * ALWAYS_ADMITTED_UNITS, LATE);
        assert_eq!(model.refused, 0, "nothing tells a burst from an overload yet");
        model.run(2_500, 1, 0, AT_ONCE);
        assert!(model.refused > 0);
        // It goes on where it stood.
        model.run(500, 1, 1_000, AT_ONCE);
        model.refused = 0;
        model.run(1_000, 1, 1_000, AT_ONCE);
        assert_eq!(model.refused, 0);
    }

    #[test]
    fn the_last_of_a_queue_is_for_those_who_have_less_than_their_share() {
        let mut model = Model::new();
        model.run(8_000, 500, 50, AT_ONCE);
        // A second's work is 5,000, of which half is left.
        model.run(500, 0, 50, AT_ONCE);
        let (now, deadline) = (model.now, model.now + LATE);
        let mut admit = |held| model.pace.admit(1, Share { held, streams: 2 }, now, deadline).is_ok();
        while admit(4_000) {}
        for _ in 0..500 {
            assert!(admit(2_000));
        }
        while admit(2_000) {}
        assert!(!admit(0), "and no more than all of it");
    }

    #[test]
    fn what_could_not_be_answered_in_time_is_refused_while_a_queue_stands() {
        let mut model = Model::new();
        model.run(8_000, 500, 50, AT_ONCE);
        model.run(500, 0, 50, AT_ONCE);
        model.refused = 0;
        // About 2,500 wait, which takes half a second.
        model.come(1, Duration::from_millis(200));
        assert_eq!(model.refused, 1);
        model.come(1, Duration::from_millis(900));
        assert_eq!(model.refused, 1);
    }

    #[test]
    fn what_made_a_queue_stand_does_not_fill_it_again_at_once() {
        let mut model = Model::new();
        model.run(8_000, 500, 50, AT_ONCE);
        model.run(2_500, 1, 50, AT_ONCE);
        let admitted = model.waiting.len();
        model.come(IN_FLIGHT_UNITS_MAX, LATE);
        let burst = model.waiting.len() - admitted;
        assert!((5_000..IN_FLIGHT_UNITS_MAX).contains(&burst), "{burst}");
    }

    #[test]
    fn a_pause_ends_an_overload() {
        let mut model = Model::new();
        model.run(8_000, 500, 50, AT_ONCE);
        assert!(model.refused > 0);
        // The last answers before the pause were slow.
        model.now += Duration::from_millis(300);
        let rest = model.waiting.len();
        model.answer(rest, AT_ONCE);
        model.now += Duration::from_secs(60);
        model.refused = 0;
        model.come(IN_FLIGHT_UNITS_MAX, LATE);
        assert_eq!(model.refused, 0);
    }

    #[test]
    fn whoever_is_refused_is_told_when_there_will_be_room_and_nobody_the_same() {
        let mut model = Model::new();
        model.run(8_000, 500, 50, AT_ONCE);
        let mut told: Vec<Duration> = (0..1_000).map(|_| model.pace.retry_after()).collect();
        told.sort();
        told.dedup();
        assert_eq!(told.len(), 1_000);
        let drained = scaled_time(DELAY_MAX, model.pace.units, model.pace.pace).min(DELAY_MAX);
        assert!(told[0] >= drained && told[999] <= 2 * drained, "{told:?}");
        // Some in each tenth.
        let (first, last) = (told[0], told[999]);
        assert!(told.windows(2).all(|pair| pair[1] - pair[0] < (last - first) / 10));
        let soon = Pace::new(model.start).retry_after();
        assert!(soon >= RETRY_SOON && soon <= 2 * RETRY_SOON, "{soon:?}");
    }
}
