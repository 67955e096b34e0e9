//! Watches how much room the disk has, off the loop: the question may wait as long as the disk does.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tracing::warn;

use super::snapshot_thread::pause;

/// How often the disk is asked. In this time a fast disk takes a gigabyte or two from everyone who writes to it, and
/// the log far less.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is told where it is not known: as much as one likes. A disk that is full nevertheless says so when it is
/// written to.
const UNKNOWN: u64 = u64::MAX;

/// Tells how many bytes are free, about once a second, until `stopped` is closed or nobody listens.
pub(super) fn watch_space(
    free_bytes: impl FnMut() -> io::Result<u64>,
    stopped: &Receiver<Infallible>,
    tell: impl FnMut(u64) -> bool,
) {
    watch(free_bytes, tell, || pause(stopped, INTERVAL));
}

fn watch(
    mut free_bytes: impl FnMut() -> io::Result<u64>,
    mut tell: impl FnMut(u64) -> bool,
    mut wait: impl FnMut() -> bool,
) {
    let mut warned = false;
    loop {
        let free = free_bytes().unwrap_or_else(|error| {
            if !warned {
                warn!(%error, "the free space of the disk is not known: writes will not be refused when it runs out");
                warned = true;
            }
            UNKNOWN
        });
        if !tell(free) || !wait() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_free_space_is_told_each_time_and_as_unlimited_where_it_is_not_known() {
        let mut answers = [Ok(5), Err(io::Error::other("gone")), Err(io::Error::other("gone")), Ok(7)].into_iter();
        let (mut told, mut waits) = (Vec::new(), 0);
        watch(
            || answers.next().expect("it is asked four times"),
            |bytes| {
                told.push(bytes);
                true
            },
            || {
                waits += 1;
                waits < 4
            },
        );
        assert_eq!(told, [5, u64::MAX, u64::MAX, 7]);
    }

    #[test]
    fn it_ends_when_nobody_listens_or_when_it_is_stopped() {
        watch(|| Ok(1), |_| false, || panic!("nobody listens"));
        let (stop, stopped) = std::sync::mpsc::channel();
        drop(stop);
        let mut told = 0;
        watch_space(
            || Ok(1),
            &stopped,
            |_| {
                told += 1;
                true
            },
        );
        assert_eq!(told, 1);
    }
}
