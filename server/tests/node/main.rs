//! The shell's parts at work in one process: the node's loop over real and failing disks, clusters of three over real
//! connections, the streams between peers, and forwarding.

mod alone;
mod cluster;
mod disk;
mod forward;
mod member;
mod reads;
mod side;
mod streams;
