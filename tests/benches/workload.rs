//! What the generator asks for: 32-byte keys, 256-byte values unless told otherwise, as every figure in the
//! documentation.

use bytes::Bytes;
use proto::kv::v1::{PutMode, PutRequest};
use std::sync::atomic::{AtomicU64, Ordering};
use tests::rpc;

/// The bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;

/// The bytes of a value.
pub(crate) const VALUE_BYTES: usize = 256;

/// Numbers of keys that puts make start here, so that they never meet the keys of gets.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1 << 40);

/// A kind of load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Workload {
    /// A message that comes back.
    Echo,
    /// A put of a new key, as the system does it most cheaply: Quorate's creates only, etcd's does not look.
    Put,
    /// A put of a new key that would fail if the key existed, where that is another request than [`Workload::Put`].
    Create,
    /// A linearizable get of a key that is there.
    Get,
    /// So many gets of a hundred requests; the rest are puts.
    Mixed {
        /// Gets of a hundred requests.
        gets_percent: u8,
    },
}

impl Workload {
    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Echo => "echo",
            Workload::Put => "put",
            Workload::Create => "create",
            Workload::Get => "get",
            Workload::Mixed { gets_percent: 90 } => "90 % get",
            Workload::Mixed { gets_percent: 50 } => "50 % get",
            Workload::Mixed { .. } => "mixed",
        }
    }

    /// Whether some of its requests must be made durable.
    pub(crate) fn writes(self) -> bool {
        !matches!(self, Workload::Echo | Workload::Get)
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Writes a key that is not there.
    Put {
        /// The new key.
        key: String,
        /// Its value.
        value: Bytes,
    },
    /// The same, and would fail if the key was there.
    Create {
        /// The new key.
        key: String,
        /// Its value.
        value: Bytes,
    },
    /// Writes a key that may be there.
    Overwrite {
        /// The key.
        key: String,
        /// Its value.
        value: Bytes,
    },
    /// Reads a key.
    Get {
        /// The key.
        key: String,
    },
}

/// A kind of load with its keys and values.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    /// The kind.
    pub(crate) workload: Workload,
    /// Keys that are there: the numbers below this.
    pub(crate) keys: u64,
    /// The value of every put.
    pub(crate) value: Bytes,
    /// Whether puts write keys that are there, instead of new ones.
    pub(crate) overwrites: bool,
}

impl Traffic {
    /// Puts make new keys, with values of the usual size.
    pub(crate) fn new(workload: Workload, keys: u64) -> Traffic {
        Traffic { workload, keys, value: value(VALUE_BYTES), overwrites: false }
    }

    /// The next request.
    pub(crate) fn next(&self) -> Operation {
        match self.workload {
            Workload::Echo | Workload::Put => self.put(),
            Workload::Create => Operation::Create { key: new_key(), value: self.value.clone() },
            Workload::Get => self.get(),
            Workload::Mixed { gets_percent } if rand::random_range(0..100) < gets_percent => self.get(),
            Workload::Mixed { .. } => self.put(),
        }
    }

    fn put(&self) -> Operation {
        let value = self.value.clone();
        if self.overwrites {
            return Operation::Overwrite { key: key(rand::random_range(0..self.keys)), value };
        }
        Operation::Put { key: new_key(), value }
    }

    fn get(&self) -> Operation {
        Operation::Get { key: key(rand::random_range(0..self.keys)) }
    }
}

/// A value of so many bytes.
pub(crate) fn value(bytes: usize) -> Bytes {
    Bytes::from(vec![b'v'; bytes])
}

/// A key of 32 bytes.
pub(crate) fn key(number: u64) -> String {
    // Scrambled first, as real keys are in no order: an odd factor keeps them distinct.
    format!("{:016x}{number:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn new_key() -> String {
    key(NEXT_KEY.fetch_add(1, Ordering::Relaxed))
}

/// A put to Quorate.
pub(crate) fn put_with(key: String, value: Bytes, mode: PutMode) -> PutRequest {
    PutRequest { key, value, mode: mode.into(), ..PutRequest::default() }
}

/// A create-only put to Quorate of the key of a number.
pub(crate) fn put_request(number: u64) -> PutRequest {
    static VALUE: [u8; VALUE_BYTES] = [b'v'; VALUE_BYTES];
    PutRequest { value: Bytes::from_static(&VALUE), ..rpc::put_request(&key(number), "") }
}
