//! The pace of the thread that reads and writes snapshots: it leaves the disk to the log for half of the time, and ends
//! when it is told to.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

/// How long the disk rests at most after a piece of a snapshot was written. A piece that took longer met a disk that
/// is busy with something else.
const REST_MAX: Duration = Duration::from_millis(50);

/// Runs `works` in order. After one that `rests_after`, the disk rests as long as it took, so that a commit of the log
/// is not held up by more than one piece. Ends when there will be no more work, when `run` says so, or as soon as
/// `stopped` is closed: what waits then is not run.
pub(super) fn run_paced<W>(
    works: &Receiver<W>,
    stopped: &Receiver<Infallible>,
    rests_after: impl Fn(&W) -> bool,
    mut run: impl FnMut(W) -> bool,
) {
    for work in works {
        if matches!(stopped.try_recv(), Err(TryRecvError::Disconnected)) {
            return;
        }
        let rests = rests_after(&work);
        let begun = Instant::now();
        if !run(work) || (rests && !pause(stopped, begun.elapsed().min(REST_MAX))) {
            return;
        }
    }
}

/// Waits for so long. False: it was cut short, because `stopped` is closed.
pub(super) fn pause(stopped: &Receiver<Infallible>, duration: Duration) -> bool {
    matches!(stopped.recv_timeout(duration), Err(RecvTimeoutError::Timeout))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn works(numbers: &[u32]) -> Receiver<u32> {
        let (sender, receiver) = channel();
        numbers.iter().for_each(|number| sender.send(*number).expect("the receiver is there"));
        receiver
    }

    #[test]
    fn work_is_run_in_order_until_there_will_be_no_more() {
        let (_stop, stopped) = channel();
        let mut ran = Vec::new();
        run_paced(
            &works(&[1, 2, 3]),
            &stopped,
            |work| *work == 2,
            |work| {
                ran.push(work);
                true
            },
        );
        assert_eq!(ran, [1, 2, 3]);
    }

    #[test]
    fn what_waits_when_it_is_stopped_is_not_run() {
        for rests in [false, true] {
            let (stop, stopped) = channel();
            let (mut stop, mut ran) = (Some(stop), Vec::new());
            run_paced(
                &works(&[1, 2, 3]),
                &stopped,
                |_| rests,
                |work| {
                    if work == 2 {
                        stop = None;
                    }
                    ran.push(work);
                    true
                },
            );
            assert_eq!((ran, stop.is_none()), (vec![1, 2], true));
        }
    }

    #[test]
    fn it_ends_when_nobody_wants_results() {
        let (_stop, stopped) = channel();
        let mut ran = Vec::new();
        run_paced(
            &works(&[1, 2]),
            &stopped,
            |_| false,
            |work| {
                ran.push(work);
                false
            },
        );
        assert_eq!(ran, [1]);
    }

    #[test]
    fn the_disk_rests_as_long_as_the_piece_took() {
        let (_stop, stopped) = channel();
        let piece = Duration::from_millis(5);
        let mut begun = Vec::new();
        run_paced(
            &works(&[1, 2, 3]),
            &stopped,
            |work| *work == 1,
            |_| {
                begun.push(Instant::now());
                std::thread::sleep(piece);
                true
            },
        );
        assert!(begun[1] - begun[0] >= 2 * piece, "the piece and its rest");
    }

    #[test]
    fn a_pause_ends_when_it_is_stopped() {
        let (stop, stopped) = channel();
        assert!(pause(&stopped, Duration::ZERO));
        let pausing = std::thread::spawn(move || pause(&stopped, Duration::MAX));
        drop(stop);
        assert!(!pausing.join().expect("it does not panic"));
    }
}
