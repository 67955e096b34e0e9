//! The end of a node's service: from one moment on, nothing new is begun.

use tokio::sync::watch;

/// Says whether the node is draining. Clones share the answer.
#[derive(Clone, Debug)]
pub struct Drain {
    draining: watch::Sender<bool>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { draining: watch::Sender::new(false) }
    }
}

impl Drain {
    /// Of a node that serves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on new requests are refused, and the node is not ready. What is under way goes on.
    pub fn start(&self) {
        self.draining.send_replace(true);
    }

    /// Whether new requests are refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// To wait for the start on.
    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }
}
