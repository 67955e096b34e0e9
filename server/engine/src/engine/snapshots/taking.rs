//! A snapshot of this node's own state on its way to the disk, in steps that each take little of the disk's time.

use raft::Index;

use crate::disk::Disk;
use crate::kv::Image;
use crate::snapshot::{Meta, Stored, Verification, Writer, abandon_writing, publish};

use super::work::TakeError;

/// How many bytes of sections one step writes, about: a millisecond of the disk's time.
const STEP_BYTES: u64 = 1 << 20;

/// How far it is.
pub(super) enum Taking {
    Begin(Meta, Image),
    Write(Index, Writer, Image),
    Verify(Verification),
}

/// Takes a snapshot in one go, for whoever has nothing else to do.
pub(in crate::engine) fn take_whole(disk: &dyn Disk, meta: Meta, image: Image) -> Result<Stored, TakeError> {
    let mut taking = Taking::Begin(meta, image);
    loop {
        match taking.step(disk)? {
            Step::Again(next) => taking = *next,
            Step::Done(stored) => return Ok(stored),
        }
    }
}

/// What a step led to.
pub(super) enum Step {
    /// There is more to do.
    Again(Box<Taking>),
    /// The snapshot is in its place, durable and verified.
    Done(Stored),
}

impl Taking {
    /// Takes the next step. If the disk has no room, what was written is removed.
    pub(super) fn step(self, disk: &dyn Disk) -> Result<Step, TakeError> {
        let index = self.index();
        let result = self.step_once(disk);
        if matches!(&result, Err(TakeError::Snapshot(error)) if error.is_storage_full()) {
            abandon_writing(disk, index)?;
        }
        result
    }

    /// The last index that it covers.
    fn index(&self) -> Index {
        match self {
            Taking::Begin(meta, _) => meta.index,
            Taking::Write(index, _, _) => *index,
            Taking::Verify(verification) => verification.meta().index,
        }
    }

    fn step_once(self, disk: &dyn Disk) -> Result<Step, TakeError> {
        let next = match self {
            Taking::Begin(meta, image) => Taking::Write(meta.index, Writer::begin(disk, &meta)?, image),
            Taking::Write(index, writer, image) => write(disk, index, writer, image)?,
            Taking::Verify(mut verification) => {
                if !verification.step(STEP_BYTES)? {
                    return Ok(Step::Again(Box::new(Taking::Verify(verification))));
                }
                let verified = verification.finish()?.expect("the step said that it came to the end");
                return Ok(Step::Done(publish(disk, &verified)?));
            }
        };
        Ok(Step::Again(Box::new(next)))
    }
}

fn write(disk: &dyn Disk, index: Index, mut writer: Writer, mut image: Image) -> Result<Taking, TakeError> {
    let begin = writer.bytes();
    while writer.bytes() - begin < STEP_BYTES {
        // The end comes only if what was written out is what was applied: its hash is the one that was kept.
        let Some(section) = image.next_section().map_err(TakeError::StateDamaged)? else {
            return Ok(Taking::Verify(Verification::begin(disk, writer.finish()?)?));
        };
        writer.section(section.tag, section.bytes)?;
    }
    Ok(Taking::Write(index, writer, image))
}
