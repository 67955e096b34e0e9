//! Black-box tests: clusters of real processes, driven through gRPC, signals and their command lines only.

mod bad_input;
mod claim;
mod command_line;
mod damage;
mod data_directory;
mod durability;
mod errors;
mod exactly_once;
mod foretold;
mod golden_directories;
mod grpcurl;
mod hostile;
mod leaderless;
mod lifecycle;
mod load;
mod operator;
mod overload;
mod own_writes;
mod partial;
mod pipeline;
mod probes;
mod quorum;
mod semantics;
mod snapshots;
mod tour;
mod traces;
