//! What may touch what.
//!
//! Crates keep most walls by themselves; this keeps those inside a crate, and the ones that a dependency would quietly
//! open.

use crate::source::{Finding, Source};

/// A folder, and what its code must not name.
struct Wall {
    folder: &'static str,
    /// Within the folder, places that the wall does not hold for.
    except: &'static [&'static str],
    /// Paths of Rust items, matched at their beginning: `raft::` does not match `proto::raft::`.
    banned: &'static [&'static str],
    because: &'static str,
}

const WALLS: [Wall; 13] = [
    Wall {
        folder: "server/raft/src/",
        except: &[],
        banned: &["std::", "tokio::", "tracing::", "log::", "prost::", "proto::", "rand::", "println!"],
        because: "the core knows no clock, no I/O, no byte format and no randomness of its own",
    },
    Wall {
        folder: "server/engine/src/",
        except: &[],
        banned: &["tokio::", "tonic::", "prost::", "proto::", "rand::", "std::thread", "Instant", "SystemTime"],
        because: "the engine is synchronous and deterministic",
    },
    Wall {
        folder: "server/engine/src/",
        except: &["server/engine/src/disk/"],
        banned: &["std::fs", "fs::", "File::open", "rustix::"],
        because: "the disk module is the one door to the file system",
    },
    Wall {
        folder: "server/engine/src/kv/",
        except: &[],
        banned: &["std::io", "HashMap", "HashSet", "crate::wal", "crate::disk", "crate::snapshot", "crate::replica"],
        because: "the state machine cannot see a client, a file, or an order that differs between replicas",
    },
    Wall {
        folder: "server/engine/src/replica/",
        except: &[],
        banned: &["std::io", "HashMap", "HashSet", "crate::wal", "crate::disk", "crate::snapshot"],
        because: "the replica has no files, and its order must not differ between runs",
    },
    Wall {
        folder: "server/engine/src/wal/",
        except: &[],
        banned: &["HashMap", "HashSet", "crate::kv", "crate::snapshot", "crate::replica"],
        because: "the log does not know what is in its entries",
    },
    Wall {
        folder: "server/engine/src/snapshot/",
        except: &[],
        banned: &["HashMap", "HashSet", "crate::kv", "crate::wal", "crate::replica"],
        because: "a snapshot's file does not know what is in its sections",
    },
    Wall {
        folder: "server/src/node/",
        except: &[],
        banned: &["proto::", "prost::", "tonic::", "crate::api"],
        because: "the loop drives the engine and knows no wire format",
    },
    Wall {
        folder: "server/src/transport/",
        except: &[],
        banned: &[
            "engine::kv",
            "engine::wal",
            "engine::replica",
            "engine::disk",
            "engine::Engine",
            "crate::api",
            "crate::node",
        ],
        because: "the transport carries messages and does not know what they do",
    },
    Wall {
        folder: "server/src/api/",
        except: &[],
        banned: &["raft::", "engine::wal", "engine::replica", "engine::disk", "engine::Engine", "crate::transport"],
        because: "the api speaks to clients through the node's handle alone",
    },
    Wall {
        folder: "client-cli/",
        except: &[],
        banned: &["quorate_server::", "engine::", "raft::"],
        because: "a client knows the interface and nothing of the server",
    },
    Wall {
        folder: "",
        except: &["tests/tidy/"],
        banned: &["unbounded_channel", "std::sync::mpsc::channel", "mpsc::unbounded"],
        because: "no queue is unbounded",
    },
    Wall {
        folder: "server/",
        // They stamp lines and spans for people, of several processes, and decide nothing.
        except: &["server/src/story.rs", "server/src/telemetry/tracer.rs"],
        banned: &["SystemTime"],
        because: "a wall clock jumps; nothing may depend on one",
    },
];

pub(crate) fn modules_touch_only_what_they_may(source: &Source) -> Vec<Finding> {
    if !source.is_rust() {
        return Vec::new();
    }
    let walls = WALLS.iter().filter(|wall| {
        source.path.starts_with(wall.folder) && !wall.except.iter().any(|except| source.path.starts_with(except))
    });
    let banned: Vec<_> = walls.flat_map(|wall| wall.banned.iter().map(|name| (*name, wall.because))).collect();
    let crossings = source.code().flat_map(|(number, line)| {
        let crossed = banned.iter().filter(move |(name, _)| names(line, name));
        crossed.map(move |(name, because)| source.finding(number, format!("`{name}`: {because}")))
    });
    if source.is_test() { Vec::new() } else { crossings.collect() }
}

/// Whether a line of code names an item by a path that begins so.
fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

pub(crate) fn raft_is_no_std(source: &Source) -> Vec<Finding> {
    if source.path == "server/raft/src/lib.rs" && !source.code().any(|(_, line)| line == "#![no_std]") {
        return vec![source.finding(1, "the core does without the standard library: #![no_std] is missing")];
    }
    Vec::new()
}

#[test]
fn a_crossed_wall_is_found() {
    let found = |path, text| modules_touch_only_what_they_may(&Source::snippet(path, text)).len();
    assert_eq!(found("server/raft/src/a.rs", "use std::time::Instant;"), 1);
    assert_eq!(found("server/engine/src/kv/a.rs", "let map: HashMap<u8, u8>;"), 1);
    assert_eq!(found("server/engine/src/wal/a.rs", "std::fs::read(path)"), 1);
    assert_eq!(found("server/engine/src/disk/real.rs", "std::fs::read(path)"), 0);
    assert_eq!(found("server/src/api/a.rs", "use raft::Term;"), 1);
    assert_eq!(found("server/src/api/a.rs", "use proto::raft::v1::Entry;"), 0);
    assert_eq!(found("server/src/node/a.rs", "fn f() -> tonic::Status"), 1);
    assert_eq!(found("server/src/node/a.rs", "// as tonic::Status says"), 0);
    assert_eq!(found("client-cli/src/a.rs", "let (sender, receiver) = unbounded_channel();"), 1);
    assert_eq!(found("server/src/node/a.rs", "let now = SystemTime::now();"), 1);
}

#[test]
fn a_core_with_the_standard_library_is_found() {
    assert_eq!(raft_is_no_std(&Source::snippet("server/raft/src/lib.rs", "//! Raft.\n")).len(), 1);
    assert_eq!(raft_is_no_std(&Source::snippet("server/raft/src/lib.rs", "//! Raft.\n#![no_std]\n")).len(), 0);
}
