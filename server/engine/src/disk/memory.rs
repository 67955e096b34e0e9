//! A directory in memory that tells what was written from what would survive a power cut, and fails when told to.
//!
//! The fault model, so that a test can say what it proved: bytes written since the last [`File::sync_data`] of a file
//! survive a power cut sector by sector (512 bytes), in any subset that the caller chooses; of a sector that was
//! written several times, any of the versions may survive. Names created, renamed or removed since the last
//! [`Disk::sync_directory`] survive one by one in the same way. A sync that fails loses what it should have written,
//! for ever, while reads go on to show it, as Linux does: only writing the same bytes again makes them syncable again.
//! What is durable stays as it is, unless [`MemoryDisk::damage`] lets it go bad.
//!
//! Nothing in here is random: the same calls give the same state.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::damage::{self, Damage};
use super::unsynced::{
    Change, Inode, NameChange, Unsynced, apply_name_change, change_views, name_change_view, overwrite, to_usize,
};
use super::{Disk, File, SECTOR_BYTES, check_name};

/// A kind of call to the disk, for counting and for injecting errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// [`Disk::list`].
    List,
    /// [`Disk::open`].
    Open,
    /// [`Disk::create`].
    Create,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::sync_directory`].
    SyncDirectory,
    /// [`File::len`].
    Length,
    /// [`File::read_at`].
    Read,
    /// [`File::write_all_at`].
    Write,
    /// [`File::sync_data`].
    SyncData,
    /// [`File::set_len`].
    SetLength,
}

const OPERATIONS: usize = Operation::SetLength as usize + 1;

impl Operation {
    /// Whether the call changes what is on the disk (or what of it would survive).
    fn is_change(self) -> bool {
        !matches!(self, Operation::List | Operation::Open | Operation::Length | Operation::Read)
    }
}

/// How an injected failure looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The call fails with an error of this kind and has no effect, except that a failed [`File::sync_data`] loses
    /// what it should have made durable.
    Error(io::ErrorKind),
    /// A read gives at most this many bytes; a write writes only this many and then fails with `StorageFull`.
    Short(usize),
}

#[derive(Clone, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    inode_next: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    /// Rises with each crash or restart, so that handles from before it are of no use.
    generation: u64,
    calls: [u64; OPERATIONS],
    changes: u64,
    halt_at: Option<u64>,
    faults: Vec<(Operation, u64, Fault)>,
    /// What the files may add up to, in bytes, if there is an end to it.
    capacity: Option<u64>,
    /// How many calls failed because there was no room.
    out_of_room: u64,
}

/// A directory in memory. Clones share the same files; see [`MemoryDisk::fork`] for a copy.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

impl MemoryDisk {
    /// An empty directory.
    #[must_use]
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// An independent copy: files, what of them is synced, counters and planned faults. Cheap until one of the two
    /// writes. Open handles stay with the original.
    #[must_use]
    pub fn fork(&self) -> MemoryDisk {
        MemoryDisk { state: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// Everything that a power cut would lose now, in the order in which [`MemoryDisk::crash`] asks about it: the
    /// directory's changes, then each file's, each oldest first.
    #[must_use]
    pub fn unsynced(&self) -> Vec<Unsynced> {
        let state = self.lock();
        let names = state.name_changes.iter().map(name_change_view);
        let files =
            state.inodes.values().flat_map(|inode| inode.pending.iter().flat_map(|change| change_views(inode, change)));
        names.chain(files).collect()
    }

    /// Cuts the power: of what was not synced only that survives for which `keep` says so. Handles that were open fail
    /// from now on; planned faults and a planned halt are forgotten.
    pub fn crash(&self, keep: &mut dyn FnMut(&Unsynced) -> bool) {
        let mut state = self.lock();
        let state = &mut *state;
        for change in std::mem::take(&mut state.name_changes) {
            if keep(&name_change_view(&change)) {
                apply_name_change(&mut state.durable_names, change);
            }
        }
        for inode in state.inodes.values_mut() {
            for change in std::mem::take(&mut inode.pending) {
                for (number, view) in change_views(inode, &change).into_iter().enumerate() {
                    if keep(&view) {
                        inode.make_durable(&change, Some(number));
                    }
                }
            }
            inode.visible = Arc::clone(&inode.durable);
        }
        state.names = state.durable_names.clone();
        let names = &state.names;
        state.inodes.retain(|inode, _| names.values().any(|named| named == inode));
        state.restart();
    }

    /// Ends the process but not the machine: everything written stays readable and as unsynced as it was. Handles that
    /// were open fail from now on; planned faults and a planned halt are forgotten.
    pub fn restart(&self) {
        self.lock().restart();
    }

    /// Lets the `nth` call of a kind from now on (1 is the next one) fail.
    pub fn fail(&self, operation: Operation, nth: u64, fault: Fault) {
        let mut state = self.lock();
        let at = state.calls[operation as usize] + nth;
        state.faults.push((operation, at, fault));
    }

    /// Lets everything fail once `changes` more calls that change something went through: a crash between two steps.
    pub fn halt_after(&self, changes: u64) {
        let mut state = self.lock();
        state.halt_at = Some(state.changes + changes);
    }

    /// Lets the disk be full once its files have grown by `room_bytes` more, until [`MemoryDisk::clear_out`], crashes
    /// and restarts included. What would take more room fails with `StorageFull`; a write fills what is left. Bytes
    /// that a file already has can be overwritten.
    pub fn fill_up(&self, room_bytes: u64) {
        let mut state = self.lock();
        state.capacity = Some(state.used_bytes() + room_bytes);
    }

    /// Ends what [`MemoryDisk::fill_up`] began.
    pub fn clear_out(&self) {
        self.lock().capacity = None;
    }

    /// The size of all files together, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// How many calls of a kind there were.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        self.lock().calls[operation as usize]
    }

    /// How many calls failed because there was no room, planned failures included.
    #[must_use]
    pub fn calls_out_of_room(&self) -> u64 {
        self.lock().out_of_room
    }

    /// Shows each file's name and size in bytes, in the order of the names. Counts as no call.
    pub fn for_each_file(&self, visit: &mut dyn FnMut(&str, u64)) {
        let state = self.lock();
        for (name, inode) in &state.names {
            visit(name, state.inodes.get(inode).map_or(0, |inode| inode.visible.len() as u64));
        }
    }

    /// How many calls that change something went through.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// What a read of the whole file would give.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let inode = state.names.get(name)?;
        state.inodes.get(inode).map(|inode| inode.visible.to_vec())
    }

    /// Plants a file with these bytes, durably, in place of what was there, behind the back of open handles and
    /// counters: how a test damages a file.
    pub fn plant(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.lock();
        let number = match state.names.get(name) {
            Some(&number) => number,
            None => state.new_inode(),
        };
        state.inodes.insert(number, Inode::with_contents(name, bytes));
        state.names.insert(name.to_owned(), number);
        state.durable_names.insert(name.to_owned(), number);
    }

    /// Takes a file away, durably, behind the back of counters. Returns whether it was there.
    pub fn lose(&self, name: &str) -> bool {
        let mut state = self.lock();
        state.durable_names.remove(name);
        state.names.remove(name).is_some()
    }

    /// Lets durable bytes of a file go bad, behind the back of counters. Meant for the time after a crash: whatever is
    /// unsynced in the same sectors is not touched, and a sync would undo the damage. Returns from where to where bytes
    /// are different now, or `None` if none is: there is no such place, or it held just that before.
    pub fn damage(&self, name: &str, damage: &Damage) -> Option<Range<u64>> {
        let mut state = self.lock();
        let state = &mut *state;
        damage::damage(&mut state.inodes, &state.names, name, damage)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it held the lock has already failed; the state is whole either way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, inode: u64, generation: u64) -> Box<dyn File> {
        Box::new(MemoryFile { disk: self.clone(), inode, generation })
    }
}

impl State {
    fn restart(&mut self) {
        self.generation += 1;
        self.halt_at = None;
        self.faults.clear();
    }

    fn new_inode(&mut self) -> u64 {
        self.inode_next += 1;
        self.inode_next
    }

    /// Counts a call; the fault planned for it, if any.
    fn begin(&mut self, operation: Operation) -> io::Result<Option<Fault>> {
        if self.halt_at.is_some_and(|halt_at| self.changes >= halt_at) {
            return Err(io::Error::other("the machine has stopped"));
        }
        self.calls[operation as usize] += 1;
        let call = self.calls[operation as usize];
        let planned = self.faults.iter().position(|&(of, at, _)| of == operation && at == call);
        if let Some(planned) = planned {
            let (_, _, fault) = self.faults.swap_remove(planned);
            return match fault {
                Fault::Error(kind) if operation != Operation::SyncData => Err(kind.into()),
                fault => Ok(Some(fault)),
            };
        }
        if operation.is_change() {
            self.changes += 1;
        }
        Ok(None)
    }

    fn named(&self, name: &str) -> io::Result<u64> {
        check_name(name)?;
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used_bytes(&self) -> u64 {
        let inodes = self.names.values().filter_map(|inode| self.inodes.get(inode));
        inodes.map(|inode| inode.visible.len() as u64).sum()
    }

    /// By how many bytes files may still grow.
    fn room_bytes(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used_bytes()))
    }

    fn create(&mut self, name: &str) -> io::Result<u64> {
        self.begin(Operation::Create)?;
        check_name(name)?;
        if self.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.room_bytes() == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = self.new_inode();
        self.inodes.insert(inode, Inode::with_contents(name, Vec::new()));
        self.change_names(NameChange::Create { name: name.to_owned(), inode });
        Ok(inode)
    }

    /// Counts a call that found no room.
    fn note_room<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        let out_of_room = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull);
        self.out_of_room += u64::from(out_of_room);
        result
    }

    fn change_names(&mut self, change: NameChange) {
        apply_name_change(&mut self.names, change.clone());
        self.name_changes.push(change);
    }
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.lock();
        state.begin(Operation::List)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        state.begin(Operation::Open)?;
        let inode = state.named(name)?;
        Ok(self.handle(inode, state.generation))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        let created = state.create(name);
        let inode = state.note_room(created)?;
        Ok(self.handle(inode, state.generation))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.begin(Operation::Rename)?;
        check_name(to)?;
        let inode = state.named(from)?;
        if let Some(file) = state.inodes.get_mut(&inode) {
            to.clone_into(&mut file.name);
        }
        state.change_names(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.begin(Operation::Remove)?;
        state.named(name)?;
        state.change_names(NameChange::Remove { name: name.to_owned() });
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().room_bytes())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.begin(Operation::SyncDirectory)?;
        state.name_changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    inode: u64,
    generation: u64,
}

impl MemoryFile {
    /// Runs one call on the file, with the fault planned for it and the bytes by which it may grow.
    fn call<T>(
        &self,
        operation: Operation,
        action: impl FnOnce(&mut Inode, Option<Fault>, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.disk.lock();
        if state.generation != self.generation {
            return Err(io::Error::other("the process that opened this file is gone"));
        }
        let begun = state.begin(operation);
        let fault = state.note_room(begun)?;
        let room_bytes = state.room_bytes();
        let inode = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let result = action(inode, fault, room_bytes);
        state.note_room(result)
    }
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        self.call(Operation::Length, |inode, _, _| Ok(inode.visible.len() as u64))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.call(Operation::Read, |inode, fault, _| {
            let available = usize::try_from(offset).ok().and_then(|offset| inode.visible.get(offset..)).unwrap_or(&[]);
            let limit = if let Some(Fault::Short(bytes)) = fault { bytes } else { buffer.len() };
            let read = available.len().min(buffer.len()).min(limit);
            buffer[..read].copy_from_slice(&available[..read]);
            Ok(read)
        })
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.call(Operation::Write, |inode, fault, room_bytes| {
            let room = (inode.visible.len() as u64).saturating_add(room_bytes).saturating_sub(offset);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let limit = if let Some(Fault::Short(limit)) = fault { limit.min(room) } else { room };
            let written = &bytes[..limit.min(bytes.len())];
            if !written.is_empty() {
                let visible = Arc::make_mut(&mut inode.visible);
                overwrite(visible, to_usize(offset), written);
                let first = to_usize(offset) / SECTOR_BYTES;
                let end = (to_usize(offset) + written.len()).next_multiple_of(SECTOR_BYTES).min(visible.len());
                let sectors = visible[first * SECTOR_BYTES..end].to_vec();
                inode.pending.push(Change::Sectors { first: first as u64, bytes: sectors });
            }
            let is_whole = fault.is_none() && written.len() == bytes.len();
            if is_whole { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(Operation::SyncData, |inode, fault, _| {
            let pending = std::mem::take(&mut inode.pending);
            if let Some(fault) = fault {
                let kind = if let Fault::Error(kind) = fault { kind } else { io::ErrorKind::Other };
                return Err(kind.into());
            }
            pending.iter().for_each(|change| inode.make_durable(change, None));
            Ok(())
        })
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.call(Operation::SetLength, |inode, _, room_bytes| {
            if bytes.saturating_sub(inode.visible.len() as u64) > room_bytes {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Arc::make_mut(&mut inode.visible).resize(to_usize(bytes), 0);
            inode.pending.push(Change::Length(bytes));
            Ok(())
        })
    }
}
