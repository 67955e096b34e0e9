//! Shows that the checker is right: against brute force, against histories that are right or wrong by construction, and
//! on the cases that every checker has to know.

mod agreement;
mod brute_force;
mod classics;
mod mutation;
mod random;
mod subjects;
