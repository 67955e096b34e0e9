//! The end of a node's service: first it is not ready any more, and from one moment on nothing new is begun.

use tokio::sync::watch;

/// How far a node is with ending.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Stage {
    /// It serves.
    Serving,
    /// It serves whoever still asks it, and tells load balancers to ask others.
    Leaving,
    /// It begins nothing new.
    Draining,
}

/// Says whether the node is about to end. Clones share the answer.
#[derive(Clone, Debug)]
pub struct Drain {
    stage: watch::Sender<Stage>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { stage: watch::Sender::new(Stage::Serving) }
    }
}

impl Drain {
    /// Of a node that serves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on the node is not ready. It serves as before.
    pub fn announce(&self) {
        self.advance(Stage::Leaving);
    }

    /// From now on new requests are refused, and the node is not ready. What is under way goes on.
    pub fn start(&self) {
        self.advance(Stage::Draining);
    }

    fn advance(&self, stage: Stage) {
        self.stage.send_if_modified(|current| {
            let is_later = *current < stage;
            *current = stage.max(*current);
            is_later
        });
    }

    /// Whether new requests are refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.stage.borrow() == Stage::Draining
    }

    /// Whether the node is about to end, whether or not it still takes requests.
    pub(super) fn is_announced(&self) -> bool {
        *self.stage.borrow() != Stage::Serving
    }

    /// To wait on for what comes next.
    pub(super) fn subscribe(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }
}
