//! Quorate's Protobuf interfaces: the code generated from the .proto files beside this crate's manifest, and their
//! descriptors for server reflection. No logic.

/// The client interface.
pub mod kv {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("kv.v1");
    }
}

/// The interface between nodes.
pub mod raft {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("raft.v1");
    }
}

/// The operator's interface.
pub mod admin {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("admin.v1");
    }
}

/// The encoded `FileDescriptorSet` of all packages.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("descriptors");
