//! What has no answer in time.

use std::time::Instant;

use super::Pipeline;
use super::window::{Detour, Road, UnderWay};
use crate::api::error::ApiError;
use crate::api::limits::GivenBack;
use crate::api::node::Node;
use crate::api::operation::Operation;
use crate::node::{Mark, ReadError, WriteError};

/// After so many sweeps with nothing under way, a second, a stream gives up the memory that it has used.
const IDLE_SWEEPS: u32 = 100;

impl<N: Node> Pipeline<N> {
    /// Looks after the requests that are due: those whose deadline has passed are answered, and reads that this node,
    /// which follows, was given so long to answer go to the leader.
    pub(super) fn sweep(&mut self) {
        // What has an answer already gets it.
        self.take_answers();
        self.idle_sweeps = if self.window.is_empty() { self.idle_sweeps + 1 } else { 0 };
        if self.idle_sweeps == IDLE_SWEEPS {
            // A stream that is idle costs little, whatever it was used for; one that is empty between two frames keeps
            // what it will use again.
            self.idle_sweeps = 0;
            self.window.shrink();
            self.answers.shrink();
            self.answered = Vec::new();
            self.ready.shrink_to_fit();
        }
        let now = Instant::now();
        let mut given_back = GivenBack::default();
        for mark in self.window.due(now) {
            self.look_after(mark, now, &mut given_back);
        }
        self.window.settle(given_back);
    }

    fn look_after(&mut self, mark: Mark, now: Instant, given_back: &mut GivenBack) {
        let Some(UnderWay { road: Road::Batch { pending, place, detour }, identity, deadline, .. }) =
            self.window.get_mut(mark)
        else {
            return;
        };
        // Whatever is due is given up, so that the loop need not take it up.
        let is_untouched = pending.abandon(now);
        if *deadline > now
            && let Some(detour) = detour.take()
        {
            let Detour { begun, get, .. } = *detour;
            self.shared.router.note_silence(begun);
            return self.run_in_task(mark, Operation::Read(get), given_back);
        }
        let error = if is_untouched {
            ApiError::DeadlineExceeded
        } else if identity.is_leaderless {
            self.shared.router.no_majority()
        } else if identity.is_read() {
            ReadError::DeadlineExceeded.into()
        } else {
            let (term, index) = pending.position(*place);
            WriteError::DeadlineExceeded { term, index }.into()
        };
        self.end(mark, Err(error), None, given_back);
    }
}
