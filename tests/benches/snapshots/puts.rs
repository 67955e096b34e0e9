//! What became of each put of a load, kept so that to note one more never holds up the load.

use tokio::time::Instant;

use std::time::Duration;

/// One acknowledged put.
#[derive(Clone, Copy, Debug)]
pub(super) struct Put {
    /// When it was sent, or should have been.
    pub(super) begin: Instant,
    /// Until it was acknowledged.
    pub(super) latency: Duration,
}

/// How many puts a block has: a tenth of a mebibyte.
const BLOCK_PUTS: usize = 4 << 10;

/// Puts, in no order. They lie in blocks that never grow: one list that doubles would copy 25 MiB at the millionth put,
/// into memory that the kernel has to clear first, and every put that is due meanwhile would count as a slow one.
#[derive(Default, Debug)]
pub(super) struct Puts {
    blocks: Vec<Vec<Put>>,
}

impl Puts {
    pub(super) fn push(&mut self, put: Put) {
        match self.blocks.last_mut() {
            Some(block) if block.len() < BLOCK_PUTS => block.push(put),
            _ => {
                let mut block = Vec::with_capacity(BLOCK_PUTS);
                block.push(put);
                self.blocks.push(block);
            }
        }
    }

    /// Adds those of another list.
    pub(super) fn append(&mut self, mut other: Puts) {
        self.blocks.append(&mut other.blocks);
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.iter().map(Vec::len).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Put> {
        self.blocks.iter().flatten()
    }
}
