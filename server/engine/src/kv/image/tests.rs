//! What only damage in memory brings about.

use super::{Image, ImageError, Revision, Store};
use crate::kv::command::{self, Command};
use crate::kv::{ImageLoader, PutMode};
use bytes::Bytes;
use raft::Index;

fn store() -> Store {
    let mut store = Store::new();
    for number in 1..=50_u64 {
        let key = Bytes::from(number.to_be_bytes().to_vec());
        let command = Command::Put { key, value: Bytes::from_static(b"value"), mode: PutMode::Upsert };
        let encoded = command::encode(&command.into(), number).expect("it is within the limits");
        store.apply(Index::new(number), &encoded).expect("it is of this version");
    }
    store
}

/// Writes out all there is, and loads it as far as it goes.
fn write_out(store: Store) -> (Result<(), ImageError>, Result<Store, ImageError>) {
    let (mut image, mut loader) = (Image::new(store), ImageLoader::new());
    loop {
        match image.next_section() {
            Ok(Some(section)) => loader.section(section.tag, section.bytes).expect("the bytes are well formed"),
            Ok(None) => return (Ok(()), loader.finish()),
            Err(error) => {
                assert_eq!(image.next_section(), Err(error), "an error stays");
                return (Err(error), loader.finish());
            }
        }
    }
}

#[test]
fn damaged_memory_is_not_written_out_as_if_it_were_whole() {
    let (written, loaded) = write_out(store());
    assert_eq!(written, Ok(()));
    assert_eq!(loaded.map(|loaded| loaded.state_hash()), Ok(store().state_hash()));

    let key = Bytes::from(17_u64.to_be_bytes().to_vec());
    let mut flipped = store();
    let mut record = flipped.records.get(&key).expect("it was written").clone();
    record.value = Bytes::from_static(b"valve");
    flipped.records.insert(key.clone(), record);
    let mut lost = store();
    lost.records.remove(&key);
    let mut counted = store();
    counted.revision = Revision::new(52);
    counted.last_index = Index::new(51);
    for damaged in [flipped, lost] {
        let (written, loaded) = write_out(damaged);
        assert!(matches!(written, Err(ImageError::Hash { .. })), "{written:?}");
        assert!(matches!(loaded, Err(ImageError::Hash { .. })), "and who loads it nevertheless finds it, too");
    }
    // What is kept beside the keys is hashed when it is asked for; only other replicas can see that it is wrong.
    assert_eq!(write_out(counted).0, Ok(()));
}
