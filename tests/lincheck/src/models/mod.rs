//! The sequential specifications that come with the checker.

pub mod kv;
pub mod register;
pub mod text;
mod unknown_writes;
