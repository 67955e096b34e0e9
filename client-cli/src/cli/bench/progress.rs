//! A bar on a terminal while a load runs; nothing elsewhere.

use super::{
    End,
    show::{grouped, milliseconds, per_second},
    tally::Tally,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// A progress bar.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    end: End,
}

impl Progress {
    /// How often it is drawn: often enough to move, and for a reader to keep up with its figures.
    pub(super) const INTERVAL: Duration = Duration::from_millis(200);

    pub(super) fn new(end: End) -> Progress {
        let length = match end {
            End::After(duration) => milliseconds_of(duration),
            End::Count(count) => count,
        };
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("[{bar:24}] {percent:>3} %  {msg}").expect("the template is valid");
        bar.set_style(style.progress_chars("=> "));
        Progress { bar, end }
    }

    pub(super) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    pub(super) fn draw(&self, elapsed: Duration, tally: &Tally) {
        self.bar.set_message(message(elapsed, tally));
        self.bar.set_position(match self.end {
            End::After(_) => milliseconds_of(elapsed),
            End::Count(_) => tally.succeeded() + tally.failure_count(),
        });
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn message(elapsed: Duration, tally: &Tally) -> String {
    let rate = grouped(per_second(tally.succeeded(), elapsed));
    let p99 = tally.latencies().map_or_else(|| "-".to_owned(), |latencies| milliseconds(latencies.p99));
    let failed = match tally.failure_count() {
        0 => String::new(),
        count => format!(", {} failed", grouped(count)),
    };
    format!("{rate}/s, p99 {p99} ms{failed}")
}

fn milliseconds_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_short() {
        let mut tally = Tally::new();
        assert_eq!(message(Duration::from_secs(1), &tally), "0/s, p99 - ms");
        for _ in 0..2_500 {
            tally.succeeded_after(Duration::from_micros(1_500));
        }
        assert_eq!(message(Duration::from_secs(2), &tally), "1,250/s, p99 1.50 ms");
    }
}
