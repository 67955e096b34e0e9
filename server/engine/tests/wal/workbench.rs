//! A directory in memory for many trials of the same files: what a trial did to them is undone by copying back only the
//! files that it touched.
//!
//! It knows no power cuts and no failures; [`engine::disk::MemoryDisk`] does, and costs more.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use engine::disk::{Disk, File};

/// What the files are.
struct State {
    names: BTreeMap<String, usize>,
    /// Those of the beginning in their order, then those that were created since.
    files: Vec<Contents>,
    changes: u64,
    names_changed: bool,
}

#[derive(Default)]
struct Contents {
    bytes: Vec<u8>,
    touched: bool,
}

/// The directory. Clones share the same files.
#[derive(Clone)]
pub(crate) struct Workbench {
    state: Arc<Mutex<State>>,
    /// The files as they were in the beginning, sorted by name.
    intact: Arc<Vec<(String, Vec<u8>)>>,
}

impl Workbench {
    pub(crate) fn new(intact: &[(String, Vec<u8>)]) -> Workbench {
        let files = intact.iter().map(|(_, bytes)| Contents { bytes: bytes.clone(), touched: false }).collect();
        let state = State { names: names_of(intact), files, changes: 0, names_changed: false };
        Workbench { state: Arc::new(Mutex::new(state)), intact: Arc::new(intact.to_vec()) }
    }

    /// Lets `damage` change the bytes of some of the files of the beginning, given by their numbers.
    pub(crate) fn damage(&self, file: usize, damage: impl FnOnce(&mut Vec<u8>)) {
        let contents = &mut self.lock().files[file];
        contents.touched = true;
        damage(&mut contents.bytes);
    }

    /// The bytes of one of the files of the beginning.
    pub(crate) fn with_bytes<T>(&self, file: usize, look: impl FnOnce(&[u8]) -> T) -> T {
        look(&self.lock().files[file].bytes)
    }

    /// How many calls changed something.
    pub(crate) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Makes everything what it was in the beginning.
    pub(crate) fn restore(&self) {
        let mut state = self.lock();
        state.files.truncate(self.intact.len());
        for (contents, (_, intact)) in state.files.iter_mut().zip(self.intact.iter()) {
            if contents.touched {
                contents.bytes.clone_from(intact);
                contents.touched = false;
            }
        }
        if state.names_changed {
            state.names = names_of(&self.intact);
            state.names_changed = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn change_names(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.changes += 1;
        state.names_changed = true;
        state
    }
}

fn names_of(intact: &[(String, Vec<u8>)]) -> BTreeMap<String, usize> {
    intact.iter().enumerate().map(|(number, (name, _))| (name.clone(), number)).collect()
}

impl Disk for Workbench {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = *self.lock().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Handle { bench: self.clone(), file }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut state = self.change_names();
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.len();
        state.files.push(Contents::default());
        state.names.insert(name.to_owned(), file);
        Ok(Box::new(Handle { bench: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.change_names();
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change_names().names.remove(name).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }
}

struct Handle {
    bench: Workbench,
    file: usize,
}

impl File for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bench.lock().files[self.file].bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.bench.lock();
        let bytes = &state.files[self.file].bytes;
        // R20: whatever a damaged length says, nobody takes more memory than the file has bytes.
        assert!(buffer.len() <= bytes.len(), "{} bytes asked for of a file of {}", buffer.len(), bytes.len());
        let available = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let read = available.len().min(buffer.len());
        buffer[..read].copy_from_slice(&available[..read]);
        Ok(read)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.bench.lock();
        state.changes += 1;
        let contents = &mut state.files[self.file];
        contents.touched = true;
        let begin = usize::try_from(offset).expect("a file in memory");
        if contents.bytes.len() < begin + bytes.len() {
            contents.bytes.resize(begin + bytes.len(), 0);
        }
        contents.bytes[begin..begin + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.bench.lock();
        state.changes += 1;
        let contents = &mut state.files[self.file];
        contents.touched = true;
        contents.bytes.resize(usize::try_from(bytes).expect("a file in memory"), 0);
        Ok(())
    }
}
