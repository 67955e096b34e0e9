//! How fast a stream is read whose requests find no room.
//!
//! To read a request and refuse it takes a good part of what it takes to run one, and a client that sends as fast as
//! the connection carries it would have the node do little else. So a stream of which something was refused is given a
//! pace, as a gap for each request that was read. What is refused makes it longer, a whole frame twice as long; what is
//! taken in makes it shorter, the more so the longer the frame before it was ago. That settles where a minor part of
//! what is read is refused, however large frames are and however many streams there are: the room stays full, clients
//! go on being told, and HTTP/2 holds back the rest.

use std::time::{Duration, Instant};

use crate::api::limits::RETRY_SOON;

/// The shortest gap for a request: nothing is read so fast.
const GAP_MIN: Duration = Duration::from_micros(1);

/// The longest: whoever sends one request and comes again when it was told to is never kept waiting.
const GAP_MAX: Duration = RETRY_SOON;

/// The longest that a stream is left alone, however large its frames are: what a client that is refused is told to wait
/// at most while no queue stands. What it sent before it knew is refused in turn, and a longer pause would delay that.
const PAUSE_MAX: Duration = RETRY_SOON.saturating_mul(2);

/// After so long without a frame one that is taken in would take off the whole gap. It is some pauses, so that a stream
/// that was slowed down too much is not for long.
const RELIEF_TIME: Duration = Duration::from_millis(500);

/// What part of a gap a frame that is taken in takes off, at least and at most: where many frames are read in a
/// millisecond time tells nothing, and after a silence much may be asked for at once.
const RELIEF_MIN: f64 = 0.125;
const RELIEF_MAX: f64 = 0.75;

/// How much is made up for when a frame is read later than it could have been: the runtime's timers know milliseconds
/// only, and there may be other work.
const SLACK: Duration = Duration::from_millis(5);

/// How long a stream is left alone between two frames.
#[derive(Default, Debug)]
pub(super) struct Restraint {
    /// For each request that is read.
    gap: Duration,
    /// The next frame is not read before this.
    until: Option<Instant>,
    /// When the frame before was read.
    noted: Option<Instant>,
}

impl Restraint {
    /// Of the `count` requests of a frame that was read at `arrived` so many were refused for want of room.
    pub(super) fn note(&mut self, arrived: Instant, count: usize, refused: usize) {
        if self.gap.is_zero() && refused == 0 {
            return;
        }
        // A frame of so many requests would be larger than any that is read.
        let [count, refused] = [count.max(1), refused].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let refused = f64::from(refused) / f64::from(count);
        let elapsed = self.noted.map_or(Duration::ZERO, |noted| arrived.saturating_duration_since(noted));
        let relief = (elapsed.div_duration_f64(RELIEF_TIME)).clamp(RELIEF_MIN, RELIEF_MAX);
        let gap = self.gap.max(GAP_MIN).mul_f64(1.0 + refused - (1.0 - refused) * relief);
        self.gap = if gap < GAP_MIN { Duration::ZERO } else { gap.min(GAP_MAX) };
        let begin = self.until.map_or(arrived, |until| until.max(arrived - SLACK));
        self.until = (!self.gap.is_zero()).then(|| begin + self.gap.saturating_mul(count).min(PAUSE_MAX));
        self.noted = Some(arrived);
    }

    /// When the next frame may be read, if that is still to come.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until.filter(|until| Instant::now() < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream whose frames are read as early as may be.
    struct Reader {
        restraint: Restraint,
        now: Instant,
    }

    impl Reader {
        fn new() -> Self {
            Self { restraint: Restraint::default(), now: Instant::now() }
        }

        /// How long the stream was left alone after one more frame.
        fn read(&mut self, count: usize, refused: usize) -> Duration {
            let arrived = self.now;
            self.restraint.note(arrived, count, refused);
            self.now = self.restraint.until.map_or(arrived, |until| until.max(arrived));
            self.now - arrived
        }
    }

    #[test]
    fn nobody_waits_who_is_not_refused() {
        let mut reader = Reader::new();
        for count in [0, 1, 1_000, usize::MAX] {
            assert_eq!(reader.read(count, 0), Duration::ZERO);
        }
    }

    #[test]
    fn each_frame_that_is_refused_doubles_the_gap_and_a_part_of_one_does_in_part() {
        let mut reader = Reader::new();
        for expected_us in [2, 4, 8, 16] {
            reader.read(10, 10);
            assert_eq!(reader.restraint.gap, Duration::from_micros(expected_us));
        }
        reader.read(10, 1);
        assert!(reader.restraint.gap < Duration::from_micros(16), "most was taken in");
        reader.read(10, 5);
        assert!(reader.restraint.gap > Duration::from_micros(16) && reader.restraint.gap < Duration::from_micros(32));
    }

    #[test]
    fn nobody_is_left_alone_for_longer_than_is_said() {
        let mut reader = Reader::new();
        for _ in 0..100 {
            assert!(reader.read(1, 1) <= RETRY_SOON, "a lone request that comes when it was told to does not wait");
        }
        assert_eq!(reader.restraint.gap, GAP_MAX);
        for count in [100, usize::MAX] {
            assert_eq!(reader.read(count, count), PAUSE_MAX);
        }
    }

    #[test]
    fn the_gap_goes_away_when_there_is_room_again() {
        let mut reader = Reader::new();
        while reader.restraint.gap < GAP_MAX {
            reader.read(100, 100);
        }
        let begun = reader.now;
        while reader.read(100, 0) > Duration::ZERO {
            assert!(reader.now - begun < 20 * PAUSE_MAX, "it would never end");
        }
        assert_eq!(reader.restraint.until, None);
    }

    #[test]
    fn after_a_silence_a_frame_that_is_taken_in_counts_for_more() {
        let gap = |silence| {
            let mut reader = Reader::new();
            reader.restraint.gap = GAP_MAX;
            reader.read(1, 1);
            reader.now += silence;
            reader.read(1, 0);
            reader.restraint.gap
        };
        let gaps = [0, 100, 200, 60_000].map(|silence_ms| gap(Duration::from_millis(silence_ms)));
        assert!(gaps.is_sorted_by(|longer, shorter| longer > shorter), "{gaps:?}");
        assert!(gaps[3] >= GAP_MAX.mul_f64(1.0 - RELIEF_MAX), "{gaps:?}");
    }

    #[test]
    fn what_is_read_late_is_made_up_for_and_no_more() {
        let arrived = Instant::now();
        let next = |late| {
            let gap = Duration::from_micros(80);
            let mut restraint = Restraint { gap, until: Some(arrived), noted: Some(arrived) };
            restraint.note(arrived + late, 100, 0);
            restraint.until.expect("it has a gap") - arrived
        };
        let in_time = next(Duration::ZERO);
        assert_eq!(next(Duration::from_millis(1)), in_time, "from when it could have been read");
        assert!(next(Duration::from_millis(200)) > Duration::from_millis(200) - SLACK);
    }

    #[test]
    fn a_stream_settles_at_the_pace_that_there_is_room_for() {
        for (room_per_second, frame) in [(100, 1), (3_000, 40), (3_000, 500), (50_000, 128)] {
            let mut reader = Reader::new();
            let begun = reader.now;
            let (mut admitted, mut refused) = (0, 0);
            while reader.now - begun < Duration::from_secs(60) {
                // What is read takes its time too.
                reader.now += Duration::from_nanos(500) * frame;
                let room = (reader.now - begun).as_nanos() * u128::from(room_per_second) / 1_000_000_000;
                let room = u32::try_from(room).expect("it is far less in a minute");
                let taken = frame.min(room - admitted);
                admitted += taken;
                refused += frame - taken;
                reader.read(frame as usize, (frame - taken) as usize);
            }
            let room = room_per_second * 60;
            assert!(admitted * 10 >= room * 9, "{admitted} of {room} in frames of {frame}");
            assert!(refused * 2 <= admitted, "{refused} refused for {admitted} in frames of {frame}");
        }
    }
}
