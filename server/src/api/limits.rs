//! How much a client may ask of a node at once. Every limit is here, with the reason for its size.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tonic::transport::Server;

use super::admission::{Leaving, Pace, Queue, Share};
use super::error::ApiError;

/// The largest request that is read, in bytes. It is well above the largest valid one (a key of a kibibyte and a value
/// of a mebibyte), so that an oversized value is answered by our own check, which names the field and the limit, and
/// not by the library's.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// How many calls may be open at once on a connection. More wait in the client. A client that needs more in flight has
/// more connections or a stream.
pub const CONCURRENT_STREAMS_MAX: u32 = 4096;

/// The largest set of headers that is read, in bytes: what other gRPC servers accept, and far above what any of our
/// clients sends.
pub const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;

/// The longest log filter. Each of its directives is compared with every place that logs; ten fit easily.
pub const LOG_FILTER_BYTES_MAX: usize = 1024;

/// How much a stream may have sent that is not read. While the node reads a stream slowly, because it refuses some of
/// it, whatever is in this window waits to be refused too, and takes the node's memory: hence far less than a megabyte.
/// It bounds a stream to as much in a round trip: 25 MB/s over 10 ms. Members that are far apart and want more have a
/// port of their own for each other.
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;

/// How long a connection may be silent before the server asks whether the client is still there.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// How long the client may take to say so. gRPC's own default.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest deadline of a request; a longer one is cut to this. A write that has no outcome after a minute will not
/// get one by waiting, and what waits takes a place.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// How long a call may take from its first byte to its answer's. It is above [`REQUEST_TIMEOUT_MAX`], so that it only
/// ends calls whose request does not arrive: an answer of ours always comes first, and says what became of the call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(65);

/// How long a request waits for a leader to be known and reached. It covers an election at the default timings, after
/// the time that it takes to miss the old leader; a cluster without a majority is reported after it.
pub const LEADER_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long a request that found no leader where one was expected waits for better knowledge, unless it comes sooner.
pub const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How often a request is tried: as often as the pauses fit into [`LEADER_WAIT_MAX`].
pub const ATTEMPTS_MAX: usize = 20;

/// How long a node that follows may take to answer a linearizable read from its own state; then the leader is asked. It
/// is far above the round trips and the sync that such a read waits for, so a follower that keeps up is never given up;
/// and far below an election, so that one that is behind costs its clients little. Of a shorter deadline it is half.
pub const READ_HERE_MAX: Duration = Duration::from_millis(250);

/// How long after a read that had no answer so soon all others go to the leader at once. Whoever is behind may be for
/// long, as while it fetches a snapshot, and each time that its own state is tried again, the reads of a
/// [`READ_HERE_MAX`] are late. Whoever was only held up once loses nothing by it but the leader's time.
pub const READS_ELSEWHERE_FOR: Duration = Duration::from_secs(5);

/// How long a member may take to say whether it would pass requests on: some round trips and a connection. One that is
/// cut off says nothing, and whoever asks has others to ask.
pub const RELAY_ANSWER_MAX: Duration = Duration::from_millis(250);

/// How much memory the requests under way may hold, counted in [`IN_FLIGHT_UNIT_BYTES`].
pub const IN_FLIGHT_UNITS_MAX: usize = 16_384;

/// What a request holds at least, in bytes; with a value, as much more as the value has. So there are at most 16,384
/// requests under way, or 252 with values of a mebibyte, and never more than 256 MiB of them.
pub const IN_FLIGHT_UNIT_BYTES: usize = 16 << 10;

/// How long to wait before trying again when a queue is full or leadership is changing hands: some round trips.
pub const RETRY_SOON: Duration = Duration::from_millis(100);

/// How many requests of one stream may be under way, or answered and not taken by the client: as many as calls on one
/// connection. While there are so many nothing is read from the stream.
pub const STREAM_REQUESTS_MAX: usize = CONCURRENT_STREAMS_MAX as usize;

/// How much the requests of one stream may hold before nothing more is read from it, counted in
/// [`IN_FLIGHT_UNIT_BYTES`]: a quarter of what all may hold, so that one stream that is full of large values waits for
/// its own answers and leaves the others room.
pub const STREAM_UNITS_MAX: usize = IN_FLIGHT_UNITS_MAX / 4;

/// How many answers one frame of a stream holds at most: enough that its own cost vanishes among theirs, and few enough
/// that the list of them is no allocation for which the allocator asks the system.
pub const FRAME_ANSWERS_MAX: usize = 128;

/// When so many bytes of answers are in a frame, the frame is full. It and one answer more, with the largest value, are
/// well below the 4 MiB that a client reads by default.
pub const FRAME_BYTES_MAX: usize = 256 << 10;

/// How many frames of answers may wait for the client to take them: one that is on its way out, and the next.
pub const FRAMES_WAITING_MAX: usize = 2;

/// How often the deadlines of a stream's requests are looked at. An answer that says that a deadline has passed is due
/// up to 20 ms earlier than the client's own clock says so.
pub const STREAM_SWEEP_INTERVAL: Duration = Duration::from_millis(10);

/// How long the members have to tell the status page how they are: more than the half second for which a busy one makes
/// its report wait, and less than a viewer's patience with one that is gone.
pub const INSPECTION_MAX: Duration = Duration::from_millis(800);

/// How old the members' reports may be that a viewer of the status page is told: half the time after which it asks
/// again, so that many viewers cost no more than two.
pub const REPORTS_AGE_MAX: Duration = Duration::from_millis(500);

/// How many of its slowest requests each member tells the status page: with all their spans some twenty kilobytes.
pub const REPORT_SLOW_REQUESTS: u32 = 16;

/// How many connections the HTTP listener serves at once: those of probes, of who collects metrics, of who looks.
pub const PROBE_CONNECTIONS_MAX: usize = 64;

/// How long one of them may last: a probe is one short request.
pub const PROBE_CONNECTION_AGE_MAX: Duration = Duration::from_secs(10);

/// How long the node's loop or its disk may stand still before the node counts as dead. Being restarted does not make a
/// slow disk faster, so this is far above the pauses that a node survives.
pub const LIVENESS_SILENCE_MAX: Duration = Duration::from_secs(30);

/// Sets the limits of a server's connections and calls.
#[must_use]
pub fn configure(server: Server) -> Server {
    server
        .tcp_nodelay(true)
        .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .timeout(CALL_TIMEOUT)
}

/// What a request with a value of `value_bytes` holds, in [`IN_FLIGHT_UNIT_BYTES`].
pub(super) fn in_flight_units(value_bytes: usize) -> usize {
    1 + value_bytes / IN_FLIGHT_UNIT_BYTES
}

/// The requests under way, all connections together, and the queues that some of them wait in.
#[derive(Debug)]
pub struct InFlight {
    units: Semaphore,
    units_max: usize,
    requests: AtomicUsize,
    /// Streams that have requests under way.
    streams: AtomicUsize,
    commands: Mutex<Pace>,
    reads: Mutex<Pace>,
}

/// A request that would like to be under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arriving {
    pub(super) units: usize,
    /// What the stream that it came on holds already; 0 for a call.
    pub(super) held: usize,
    /// Which queue of this node it will wait in; none if another node runs it.
    pub(super) queue: Option<Queue>,
    pub(super) now: Instant,
    pub(super) deadline: Instant,
}

/// What is under way at a moment, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct UnderWay {
    pub(super) requests: usize,
    /// The room that they hold, and how much there is.
    pub(super) bytes: usize,
    pub(super) bytes_max: usize,
    /// The streams that some of them came on.
    pub(super) streams: usize,
}

/// What is not under way any more, to be given back at once.
#[derive(Default, Debug)]
pub(super) struct GivenBack {
    requests: usize,
    units: usize,
    commands: Leaving,
    reads: Leaving,
}

impl InFlight {
    pub(super) fn new() -> Self {
        Self::with_units(IN_FLIGHT_UNITS_MAX)
    }

    pub(super) fn with_units(units: usize) -> Self {
        let pace = || Mutex::new(Pace::new(Instant::now()));
        let (requests, streams) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { units: Semaphore::new(units), units_max: units, requests, streams, commands: pace(), reads: pace() }
    }

    /// What is under way now.
    pub(super) fn under_way(&self) -> UnderWay {
        UnderWay {
            requests: self.requests.load(Ordering::Relaxed),
            bytes: (self.units_max - self.units.available_permits()) * IN_FLIGHT_UNIT_BYTES,
            bytes_max: self.units_max * IN_FLIGHT_UNIT_BYTES,
            streams: self.streams.load(Ordering::Relaxed),
        }
    }

    /// Whether none is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let is_empty = |queue| self.pace(queue).is_empty();
        self.units.available_permits() == self.units_max && is_empty(Queue::Commands) && is_empty(Queue::Reads)
    }

    /// Takes a request in, to be [given back](Self::give_back), or refuses it at once: a longer queue would only hide
    /// the overload.
    pub(super) fn take(&self, arriving: &Arriving) -> Result<(), ApiError> {
        let Arriving { units, held, queue, now, deadline } = *arriving;
        let share = Share { held, streams: self.streams.load(Ordering::Relaxed) };
        let permit = u32::try_from(units).ok().and_then(|units| self.units.try_acquire_many(units).ok());
        let is_shared = |_: &_| self.units_max - self.units.available_permits() <= share.of(self.units_max);
        let Some(permit) = permit.filter(is_shared) else {
            let retry_after = queue.map_or(RETRY_SOON, |queue| self.pace(queue).retry_after());
            return Err(ApiError::Overloaded { retry_after });
        };
        if let Some(queue) = queue {
            let admitted = self.pace(queue).admit(units, share, now, deadline);
            admitted.map_err(|retry_after| ApiError::Overloaded { retry_after })?;
        }
        permit.forget();
        self.requests.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back what was [taken](Self::take).
    pub(super) fn give_back(&self, GivenBack { requests, units, commands, reads }: GivenBack) {
        self.requests.fetch_sub(requests, Ordering::Relaxed);
        self.units.add_permits(units);
        for (queue, leaving) in [(Queue::Commands, commands), (Queue::Reads, reads)] {
            if leaving.units > 0 {
                self.pace(queue).left(leaving);
            }
        }
    }

    /// A stream that had nothing under way has something.
    pub(super) fn stream_begins(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    /// A stream that had something under way has nothing.
    pub(super) fn stream_rests(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a request in until the permit is dropped.
    pub(super) fn admit(&self, arriving: Arriving) -> Result<Permit<'_>, ApiError> {
        self.take(&arriving)?;
        Ok(Permit { in_flight: self, arriving, answered: None })
    }

    fn pace(&self, queue: Queue) -> MutexGuard<'_, Pace> {
        let pace = match queue {
            Queue::Commands => &self.commands,
            Queue::Reads => &self.reads,
        };
        pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GivenBack {
    /// The room of so many requests that have ended.
    pub(super) fn add(&mut self, requests: usize, units: usize) {
        self.requests += requests;
        self.units += units;
    }

    /// How much room.
    pub(super) fn units(&self) -> usize {
        self.units
    }

    /// Something leaves its queue, so long after it came if it was answered.
    pub(super) fn leave(&mut self, queue: Queue, units: usize, answered: Option<Duration>) {
        let leaving = match queue {
            Queue::Commands => &mut self.commands,
            Queue::Reads => &mut self.reads,
        };
        leaving.units += units;
        if let Some(delay) = answered {
            leaving.note_answer(units, delay);
        }
    }

    /// Whether there is nothing to give back.
    pub(super) fn is_empty(&self) -> bool {
        self.units == 0 && self.commands.units == 0 && self.reads.units == 0
    }
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    in_flight: &'a InFlight,
    arriving: Arriving,
    answered: Option<Duration>,
}

impl Permit<'_> {
    /// The request was run and is answered.
    pub(super) fn note_answer(&mut self) {
        self.answered = Some(self.arriving.now.elapsed());
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut given_back = GivenBack::default();
        given_back.add(1, self.arriving.units);
        if let Some(queue) = self.arriving.queue {
            given_back.leave(queue, self.arriving.units, self.answered);
        }
        self.in_flight.give_back(given_back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::admission::DELAY_MAX;
    use engine::kv::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

    #[test]
    fn the_largest_valid_request_is_far_below_the_transports_limit() {
        const { assert!(2 * (KEY_BYTES_MAX + VALUE_BYTES_MAX) < MESSAGE_BYTES_MAX) };
    }

    fn with_value(bytes: usize) -> Arriving {
        let now = Instant::now();
        Arriving {
            units: in_flight_units(bytes),
            held: 0,
            queue: Some(Queue::Commands),
            now,
            deadline: now + DELAY_MAX,
        }
    }

    #[test]
    fn requests_are_admitted_by_what_they_hold() {
        let in_flight = InFlight::with_units(66);
        let large = in_flight.admit(with_value(VALUE_BYTES_MAX)).expect("65 units");
        let small = in_flight.admit(with_value(0)).expect("1 unit");
        assert!(in_flight.admit(with_value(0)).is_err());
        drop(large);
        assert!(in_flight.admit(with_value(VALUE_BYTES_MAX)).is_ok());
        assert!(!in_flight.is_empty());
        let bytes_max = 66 * IN_FLIGHT_UNIT_BYTES;
        let one = UnderWay { requests: 1, bytes: IN_FLIGHT_UNIT_BYTES, bytes_max, streams: 0 };
        assert_eq!(in_flight.under_way(), one);
        drop(small);
        assert!(in_flight.is_empty());
        assert_eq!(in_flight.under_way(), UnderWay { requests: 0, bytes: 0, ..one });
    }

    #[test]
    fn a_request_of_any_size_is_judged() {
        assert!(InFlight::new().admit(with_value(usize::MAX - 1)).is_err());
    }

    #[test]
    fn the_last_of_the_room_is_for_those_who_have_less_than_their_share() {
        let in_flight = InFlight::with_units(80);
        in_flight.stream_begins();
        in_flight.stream_begins();
        let of_stream = |held| Arriving { held, ..with_value(0) };
        for held in 0..70 {
            in_flight.take(&of_stream(held)).expect("an eighth is left");
        }
        assert!(in_flight.take(&of_stream(70)).is_err());
        assert!(in_flight.take(&of_stream(41)).is_err(), "more than half");
        for held in [40, 0] {
            in_flight.take(&of_stream(held)).expect("it has no more than its share");
        }
        // The other stream rests: all is the share of the one that is left.
        in_flight.stream_rests();
        in_flight.take(&of_stream(70)).expect("it is alone");
    }

    #[test]
    fn our_answer_comes_before_the_librarys() {
        assert!(REQUEST_TIMEOUT_MAX < CALL_TIMEOUT);
        assert!(RETRY_PAUSE * u32::try_from(ATTEMPTS_MAX).expect("small") >= LEADER_WAIT_MAX);
    }
}
