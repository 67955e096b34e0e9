//! Power cuts and failures at every call of the disk while a snapshot takes the place of an older one: there is always
//! one, and each that is listed is whole.

use std::io::ErrorKind;

use engine::disk::{Disk, Fault, MemoryDisk, Operation, Unsynced};
use engine::kv::Store;
use engine::snapshot::{self, Receiver, Removal, SnapshotError};
use raft::Index;

use super::harness::{Numbers, assert_same, load, meta, put, random_store, small_sections, take, verify};

const OLD: u64 = 100;
const NEW: u64 = 140;

/// A store as it was and as it became.
struct States {
    old: Store,
    new: Store,
}

impl States {
    fn new() -> States {
        let old = random_store(31, OLD, 40, 60);
        let mut new = old.clone();
        for number in OLD..NEW {
            put(&mut new, format!("key-{number:06}").as_bytes(), b"new");
        }
        States { old, new }
    }

    /// The old snapshot, durable.
    fn disk(&self) -> MemoryDisk {
        let disk = MemoryDisk::new();
        take(&disk, &meta(OLD), &self.old).unwrap();
        disk
    }

    /// Takes the new snapshot, reads it back, publishes it, and removes the old one.
    fn replace(&self, disk: &MemoryDisk) -> Result<(), SnapshotError> {
        snapshot::remove_leftovers(disk)?;
        let mut writer = snapshot::Writer::begin(disk, &meta(NEW))?;
        for (tag, section) in small_sections(&self.new, 20) {
            writer.section(tag, &section)?;
        }
        self.publish(disk, writer.finish()?)
    }

    /// The same, with a file that comes from a peer.
    fn receive(&self, disk: &MemoryDisk) -> Result<(), SnapshotError> {
        snapshot::remove_leftovers(disk)?;
        let peer = MemoryDisk::new();
        let stored = take(&peer, &meta(NEW), &self.new).unwrap();
        let mut receiver = Receiver::begin(disk, stored.index, stored.bytes)?;
        while !receiver.is_complete() {
            let at = receiver.received_bytes();
            let piece = snapshot::read_piece(&peer, stored.index, at, 1_000).unwrap().unwrap();
            assert!(receiver.write(at, &piece.bytes)?);
        }
        self.publish(disk, receiver.finish()?)
    }

    fn publish(&self, disk: &MemoryDisk, written: snapshot::Written) -> Result<(), SnapshotError> {
        let verified = verify(disk, written)?;
        let stored = snapshot::publish(disk, &verified)?;
        for older in snapshot::list(disk)? {
            if older.index < stored.index {
                let mut rest = Some(Removal::begin(disk, older.index)?);
                while let Some(removal) = rest {
                    rest = removal.step(disk)?;
                }
            }
        }
        Ok(())
    }

    /// Checks what a start finds: the old snapshot, the new, or both, all whole; and that it goes on from there.
    /// Returns how many there are.
    fn check(&self, disk: &MemoryDisk, done: bool) -> usize {
        let leftovers = snapshot::remove_leftovers(disk).unwrap();
        assert!(leftovers <= 1);
        let stored = snapshot::list(disk).unwrap();
        assert!(!stored.is_empty(), "neither the old nor the new");
        for stored in &stored {
            let (found_meta, found) = load(disk, &stored.name).expect("what has its name is whole");
            assert_eq!(found_meta, meta(stored.index.get()));
            assert_same(&found, if stored.index.get() == OLD { &self.old } else { &self.new });
        }
        if done {
            assert_eq!(stored.len(), 1);
            assert_eq!(stored[0].index, Index::new(NEW));
        }
        self.replace(disk).expect("it can be done again");
        stored.len()
    }
}

/// Says of each thing that was not synced whether it survives.
type Choice = Box<dyn FnMut(&Unsynced) -> bool>;

fn choices() -> Vec<Choice> {
    let counted = |rule: fn(u64) -> bool| -> Choice {
        let mut count = 0;
        Box::new(move |_| {
            count += 1;
            rule(count)
        })
    };
    let mut choices = vec![
        counted(|_| false),
        counted(|_| true),
        counted(|count| count % 2 == 0),
        counted(|count| count % 2 == 1),
        counted(|count| count != 1),
        counted(|count| count != 2),
        counted(|count| count == 2),
        // Names without contents, and contents without names.
        Box::new(|unsynced| !matches!(unsynced, Unsynced::Sector { .. })),
        Box::new(|unsynced| matches!(unsynced, Unsynced::Sector { .. })),
    ];
    for seed in 1..=4 {
        let mut numbers = Numbers(seed * 7919);
        choices.push(Box::new(move |_| numbers.below(3) != 0));
    }
    choices
}

type Run = fn(&States, &MemoryDisk) -> Result<(), SnapshotError>;

const RUNS: [Run; 2] = [States::replace, States::receive];

#[test]
fn a_power_cut_at_any_step_leaves_the_old_or_the_new() {
    let states = States::new();
    for run in RUNS {
        let before = states.disk();
        let whole = before.fork();
        run(&states, &whole).unwrap();
        let changes = whole.changes() - before.changes();
        assert!(changes > 6, "{changes} changes");
        assert_eq!(whole.unsynced(), vec![], "what is done survives");
        let mut both = 0;
        for steps in 0..=changes {
            let disk = before.fork();
            disk.halt_after(steps);
            let done = run(&states, &disk).is_ok();
            assert_eq!(done, steps == changes);
            for mut keep in choices() {
                let disk = disk.fork();
                disk.crash(&mut keep);
                both += usize::from(states.check(&disk, done) == 2);
            }
            // The process ends, and the machine goes on: then the power fails after all.
            disk.restart();
            states.check(&disk, done);
        }
        assert!(both > 0, "sometimes both are there");
    }
}

#[test]
fn a_failure_at_any_call_leaves_the_old_or_the_new() {
    let states = States::new();
    let operations = [
        Operation::List,
        Operation::Open,
        Operation::Create,
        Operation::Rename,
        Operation::Remove,
        Operation::SyncDirectory,
        Operation::Length,
        Operation::Read,
        Operation::Write,
        Operation::SyncData,
    ];
    for run in RUNS {
        let before = states.disk();
        let whole = before.fork();
        run(&states, &whole).unwrap();
        for operation in operations {
            let calls = whole.calls(operation) - before.calls(operation);
            assert!(calls > 0, "{operation:?} is called");
            for nth in 1..=calls {
                let disk = before.fork();
                disk.fail(operation, nth, Fault::Error(ErrorKind::Other));
                let error = run(&states, &disk).expect_err("the failure is seen");
                assert!(matches!(error, SnapshotError::Io { .. }), "{operation:?} {nth}: {error}");
                assert!(!error.is_storage_full());
                for mut keep in choices() {
                    let disk = disk.fork();
                    disk.crash(&mut keep);
                    states.check(&disk, false);
                }
            }
        }
    }
}

#[test]
fn a_full_disk_at_any_byte_leaves_the_old_and_can_be_tried_again() {
    let states = States::new();
    for run in RUNS {
        let before = states.disk();
        let whole = before.fork();
        run(&states, &whole).unwrap();
        let bytes = snapshot::list(&whole).unwrap()[0].bytes;
        for room in (0..bytes).step_by(7).chain([bytes - 1]) {
            let disk = before.fork();
            disk.fill_up(room);
            let error = run(&states, &disk).expect_err("there is no room");
            assert!(error.is_storage_full(), "{error}");
            let names: Vec<u64> = snapshot::list(&disk).unwrap().iter().map(|stored| stored.index.get()).collect();
            assert_eq!(names, vec![OLD]);
            snapshot::abandon_writing(&disk, Index::new(NEW)).unwrap();
            snapshot::abandon_receiving(&disk, Index::new(NEW)).unwrap();
            assert_eq!(disk.free_bytes().unwrap(), room, "what was given up takes no room");
            disk.clear_out();
            states.check(&disk, false);
        }
        let disk = before.fork();
        disk.fill_up(bytes);
        run(&states, &disk).expect("there is just enough room");
    }
}

#[test]
fn a_failed_sync_or_write_is_never_passed_over() {
    for (operation, fault) in
        [(Operation::SyncData, Fault::Error(ErrorKind::Other)), (Operation::Write, Fault::Short(100))]
    {
        let disk = MemoryDisk::new();
        let mut writer = snapshot::Writer::begin(&disk, &meta(1)).unwrap();
        disk.fail(operation, 1, fault);
        let section = vec![1; 5 << 20];
        let first = writer.section(16, &section).unwrap_err();
        assert_eq!(first.is_storage_full(), operation == Operation::Write);
        let changes = disk.changes();
        assert_eq!(writer.section(16, b"more").unwrap_err().to_string(), first.to_string());
        assert_eq!(writer.finish().unwrap_err().to_string(), first.to_string());
        let mut receiver = Receiver::begin(&disk, Index::new(2), 10 << 20).unwrap();
        disk.fail(operation, 1, fault);
        let first = receiver.write(0, &section).unwrap_err();
        assert_eq!(receiver.write(receiver.received_bytes(), b"more").unwrap_err().to_string(), first.to_string());
        assert_eq!(receiver.finish().unwrap_err().to_string(), first.to_string());
        assert!(disk.changes() <= changes + 4, "nothing was written after an error");
    }
}
