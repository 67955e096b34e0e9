//! Black-box tests of what befalls disks: real processes on real file systems whose power is cut, whose device fails,
//! which are full, or which stand still. `README.md` says what they need; without it they are skipped, aloud.

mod ballast;
mod device_error;
mod full;
mod power;
mod rig;
mod stall;
