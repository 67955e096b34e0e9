//! Shows that the checker is right: against brute force, against histories that are right or wrong by construction, and
//! on the cases that every checker has to know; and that what is written can be judged again.

mod agreement;
mod brute_force;
mod classics;
mod mutation;
mod random;
mod round_trip;
mod subjects;
