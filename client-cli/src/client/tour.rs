//! In which order one request goes round the endpoints.

use crate::{Endpoint, backoff, backoff::Backoff};
use std::{collections::HashMap, time::Duration};

/// The endpoints of one request: where a leader was named, there first; then each in turn.
#[derive(Debug)]
pub(crate) struct Tour {
    stops: Vec<Stop>,
    hint: Option<Endpoint>,
    /// Endpoints that gave no answer, and in which round: a hint to one is not followed again within that round.
    silent: HashMap<Endpoint, u32>,
    backoff: Backoff,
    /// Attempts since the last pause.
    hurried: usize,
}

#[derive(Debug)]
struct Stop {
    endpoint: Endpoint,
    tries: u32,
}

impl Tour {
    /// A tour over `endpoints`, in that order, that begins at `leader` if it is known.
    pub(crate) fn new(endpoints: impl IntoIterator<Item = Endpoint>, leader: Option<Endpoint>) -> Tour {
        Tour {
            stops: endpoints.into_iter().map(|endpoint| Stop { endpoint, tries: 0 }).collect(),
            hint: leader,
            silent: HashMap::new(),
            backoff: Backoff::default(),
            hurried: 0,
        }
    }

    /// Whom to ask next.
    pub(crate) fn next(&mut self) -> Endpoint {
        let round = self.rounds();
        if let Some(hint) = self.hint.take()
            && self.silent.get(&hint) != Some(&round)
        {
            self.ask(&hint);
            return hint;
        }
        // min_by_key takes the first of equals, which keeps the order.
        let stop = self.stops.iter_mut().min_by_key(|stop| stop.tries).expect("Options refuses an empty list");
        stop.tries += 1;
        stop.endpoint.clone()
    }

    /// Whom to ask beside `asked`, if there is anyone who is `fit`.
    pub(crate) fn other(&self, asked: &Endpoint, fit: impl Fn(&Endpoint) -> bool) -> Option<Endpoint> {
        let others = self.stops.iter().filter(|stop| stop.endpoint != *asked && fit(&stop.endpoint));
        others.min_by_key(|stop| stop.tries).map(|stop| stop.endpoint.clone())
    }

    /// `endpoint` is asked out of turn.
    pub(crate) fn ask(&mut self, endpoint: &Endpoint) {
        if let Some(stop) = self.stops.iter_mut().find(|stop| stop.endpoint == *endpoint) {
            stop.tries += 1;
        }
    }

    /// The endpoints are these now: those that stay keep their turn, and new ones come next.
    pub(crate) fn renew(&mut self, endpoints: Vec<Endpoint>) {
        if endpoints.len() == self.stops.len() && self.stops.iter().all(|stop| endpoints.contains(&stop.endpoint)) {
            return;
        }
        let rounds = self.rounds();
        self.stops.retain(|stop| endpoints.contains(&stop.endpoint));
        for endpoint in endpoints {
            if !self.stops.iter().any(|stop| stop.endpoint == endpoint) {
                self.stops.push(Stop { endpoint, tries: rounds });
            }
        }
    }

    /// A node said that `leader` leads.
    pub(crate) fn heard_of(&mut self, leader: Endpoint) {
        self.hint = Some(leader);
    }

    /// `endpoint` gave no answer.
    pub(crate) fn fell_silent(&mut self, endpoint: &Endpoint) {
        let round = self.rounds();
        self.silent.insert(endpoint.clone(), round);
    }

    /// How often every endpoint was tried.
    pub(crate) fn rounds(&self) -> u32 {
        self.stops.iter().map(|stop| stop.tries).min().unwrap_or(0)
    }

    /// Whether there is nowhere else to go than to `endpoint`.
    pub(crate) fn is_only(&self, endpoint: &Endpoint) -> bool {
        self.stops.iter().all(|stop| stop.endpoint == *endpoint)
    }

    /// How long to wait before the next attempt: as long as the server asked, or not at all for as many attempts as
    /// there are other endpoints (hints that lead in a circle count, too), and then longer each time.
    pub(crate) fn pause(&mut self, asked: Option<Duration>) -> Duration {
        match asked {
            Some(asked) if !asked.is_zero() => {
                self.hurried = 0;
                backoff::asked(asked)
            }
            _ if self.hurried + 1 < self.stops.len().max(2) => {
                self.hurried += 1;
                Duration::ZERO
            }
            _ => {
                self.hurried = 0;
                self.backoff.pause()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> Endpoint {
        format!("127.0.0.1:{port}").parse().expect("it is well formed")
    }

    fn tour(leader: Option<u16>) -> Tour {
        Tour::new([1, 2, 3].map(endpoint), leader.map(endpoint))
    }

    #[test]
    fn each_endpoint_is_asked_in_turn() {
        let mut tour = tour(None);
        let ports: Vec<u16> = (0..6).map(|_| tour.next().port()).collect();
        assert_eq!(ports, [1, 2, 3, 1, 2, 3]);
        assert_eq!(tour.rounds(), 2);
    }

    #[test]
    fn a_known_leader_is_asked_first_and_not_again_in_its_round() {
        let mut tour = tour(Some(2));
        assert_eq!([tour.next(), tour.next(), tour.next(), tour.next()].map(|e| e.port()), [2, 1, 3, 1]);
    }

    #[test]
    fn a_hint_is_followed_even_outside_of_the_configuration() {
        let mut tour = tour(None);
        assert_eq!(tour.next().port(), 1);
        tour.heard_of(endpoint(9));
        assert_eq!(tour.next().port(), 9);
        assert_eq!(tour.next().port(), 2);
    }

    #[test]
    fn a_hint_to_a_silent_endpoint_waits_for_the_next_round() {
        let mut tour = tour(Some(3));
        assert_eq!(tour.next().port(), 3);
        tour.fell_silent(&endpoint(3));
        for expected in [1, 2] {
            tour.heard_of(endpoint(3));
            assert_eq!(tour.next().port(), expected);
        }
        tour.heard_of(endpoint(3));
        assert_eq!(tour.next().port(), 3, "a new round has begun");
    }

    #[test]
    fn an_endpoint_that_ends_a_round_in_silence_is_not_asked_twice_in_a_row() {
        let mut tour = tour(None);
        let last = [tour.next(), tour.next(), tour.next()][2].clone();
        tour.fell_silent(&last);
        tour.heard_of(last);
        assert_eq!(tour.next().port(), 1);
    }

    #[test]
    fn other_endpoints_are_tried_at_once_and_then_with_pauses() {
        let mut tour = tour(None);
        let pauses: Vec<bool> = (0..6).map(|_| tour.pause(None).is_zero()).collect();
        assert_eq!(pauses, [true, true, false, true, true, false]);
        assert!(tour.pause(Some(Duration::from_millis(5))) >= Duration::from_millis(5));
    }

    #[test]
    fn hints_in_a_circle_do_not_spin() {
        let mut tour = Tour::new([endpoint(1)], None);
        let pauses: Vec<bool> = (0..4).map(|_| tour.pause(Some(Duration::ZERO)).is_zero()).collect();
        assert_eq!(pauses, [true, false, true, false]);
    }

    #[test]
    fn another_is_one_that_is_fit_and_was_asked_least() {
        let mut tour = tour(None);
        assert_eq!(tour.next().port(), 1);
        let fit = |at: &Endpoint| at.port() != 2;
        assert_eq!(tour.other(&endpoint(1), fit).map(|at| at.port()), Some(3));
        tour.ask(&endpoint(3));
        assert_eq!(tour.next().port(), 2, "the third had its turn");
        assert_eq!(tour.next().port(), 1);
        assert_eq!(tour.other(&endpoint(1), |_| false), None);
        assert!(!tour.is_only(&endpoint(1)));
        let only = Tour::new([endpoint(1)], None);
        assert!(only.is_only(&endpoint(1)) && !only.is_only(&endpoint(2)), "a leader elsewhere is not the only one");
    }

    #[test]
    fn new_endpoints_take_the_place_of_those_that_are_gone() {
        let mut tour = tour(None);
        for _ in 0..3 {
            tour.next();
        }
        tour.renew([4, 3].map(endpoint).to_vec());
        let ports: Vec<u16> = (0..4).map(|_| tour.next().port()).collect();
        assert_eq!((ports, tour.rounds()), (vec![3, 4, 3, 4], 3));
    }
}
