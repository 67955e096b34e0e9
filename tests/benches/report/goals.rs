//! The goals that the project has set itself against etcd and against the bare roads, and what was measured of each.

use super::{Place, Ratios, Report, Row};
use crate::{generator::Mode, system::System, workload::Workload};
use std::fmt::Write as _;

/// Numbers in flight of the goals.
const ALONE: usize = 1;
const SOME: usize = 64;
const MANY: usize = 1000;

/// What a figure must be.
#[derive(Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

/// One goal.
struct Goal {
    what: String,
    wanted: Wanted,
    /// `None` if it was not measured.
    measured: Option<f64>,
}

impl Report {
    /// The table of goals; only those that were measured.
    pub(super) fn goals(&self) -> String {
        let mut text = String::new();
        for Goal { what, wanted, measured } in self.all_goals() {
            let Some(measured) = measured else { continue };
            let (wanted, is_met) = match wanted {
                Wanted::AtLeast(bound) => (format!("≥ {bound}"), measured >= bound),
                Wanted::AtMost(bound) => (format!("≤ {bound}"), measured <= bound),
            };
            let met = if is_met { "yes" } else { "no" };
            writeln!(text, "| {what} | {wanted} | {measured:.2} | {met} |").expect(super::tables::WRITES);
        }
        if text.is_empty() {
            return text;
        }
        format!("| goal | wanted | measured | met |\n|---|--:|--:|---|\n{text}")
    }

    fn all_goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for in_flight in [SOME, MANY] {
            let put = self.row(System::Quorate, Workload::Put, in_flight);
            let get = self.row(System::Quorate, Workload::Get, in_flight);
            goals.push(to_etcd(format!("put, unary, {in_flight} in flight: operations/s to etcd"), put, at_least(2.5)));
            goals.push(to_echo(format!("put, unary, {in_flight} in flight: operations/s to echo"), put, at_least(0.6)));
            goals.push(to_etcd(format!("get, unary, {in_flight} in flight: operations/s to etcd"), get, at_least(1.6)));
            goals.push(to_echo(
                format!("get, unary, {in_flight} in flight: operations/s to echo"),
                get,
                at_least(0.85),
            ));
            let what = format!("put, unary, {in_flight} in flight: CPU of all nodes to etcd");
            goals.push(goal(what, put, |ratios| ratios.system_cpu, at_most(0.3)));
        }
        for system in [System::Pipeline, System::Library] {
            let name = system.name();
            let put = self.row(system, Workload::Put, MANY);
            let get = self.row(system, Workload::Get, MANY);
            goals.push(to_etcd(format!("put, {name}, {MANY} in flight: operations/s to etcd"), put, at_least(8.0)));
            goals.push(to_etcd(format!("get, {name}, {MANY} in flight: operations/s to etcd"), get, at_least(15.0)));
            let what = format!("put, {name}, {MANY} in flight: CPU of all nodes to etcd");
            goals.push(goal(what, put, |ratios| ratios.system_cpu, at_most(0.08)));
        }
        let alone = self.row(System::Quorate, Workload::Put, ALONE);
        goals.push(goal("put, one client: p50 to etcd".to_owned(), alone, |ratios| ratios.p50, at_most(0.45)));
        goals.push(Goal {
            what: "put, one client: p50 to two unary hops and one fdatasync".to_owned(),
            wanted: at_most(1.5),
            measured: alone.and_then(|put| {
                let hop = self.row(System::Echo, Workload::Echo, ALONE)?.figures.p50_ms;
                Some(put.figures.p50_ms / (2.0 * hop + self.setting.sync_ms))
            }),
        });
        let some = self.row(System::Quorate, Workload::Put, SOME);
        goals.push(goal(format!("put, unary, {SOME} in flight: p99 to etcd"), some, |ratios| ratios.p99, at_most(0.4)));
        let memory = self.memory_medians.iter().find(|row| row.system == System::Quorate);
        goals.push(Goal {
            what: format!("memory of the largest node after {} puts to etcd", self.setting.keys),
            wanted: at_most(0.5),
            measured: memory.and_then(|row| row.to_etcd),
        });
        goals
    }

    fn row(&self, system: System, workload: Workload, in_flight: usize) -> Option<&Row> {
        let place = Place::new(system, workload, Mode::Closed { in_flight });
        self.medians.iter().find(|row| row.place == place)
    }
}

fn at_least(bound: f64) -> Wanted {
    Wanted::AtLeast(bound)
}

fn at_most(bound: f64) -> Wanted {
    Wanted::AtMost(bound)
}

fn goal(what: String, row: Option<&Row>, figure: fn(&Ratios) -> f64, wanted: Wanted) -> Goal {
    Goal { what, wanted, measured: row.and_then(|row| row.to_etcd.as_ref()).map(figure) }
}

fn to_etcd(what: String, row: Option<&Row>, wanted: Wanted) -> Goal {
    goal(what, row, |ratios| ratios.operations_per_second, wanted)
}

fn to_echo(what: String, row: Option<&Row>, wanted: Wanted) -> Goal {
    let measured = row.and_then(|row| row.to_echo.as_ref()).map(|ratios| ratios.operations_per_second);
    Goal { what, wanted, measured }
}
