//! What is measured: something that can be started, that serves calls at an address, and whose processes can be
//! counted.

use crate::{Options, workload::Workload};
use std::{future::Future, net::SocketAddr, path::PathBuf, pin::Pin};

/// A system that is running.
pub(crate) struct Started {
    /// Where the generator calls.
    pub(crate) address: SocketAddr,
    /// Every process that works for the answers.
    pub(crate) process_ids: Vec<u32>,
    /// Where they keep their data, if they do.
    pub(crate) data: Option<PathBuf>,
}

/// A future that can be used behind `dyn`.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A system under measurement.
pub(crate) trait System {
    /// Its name in the report.
    fn name(&self) -> &'static str;

    /// What it is measured with.
    fn workloads(&self) -> &'static [Workload];

    /// Starts it from nothing and waits until it serves.
    fn start<'a>(&'a mut self, options: &'a Options) -> Boxed<'a, anyhow::Result<Started>>;

    /// Ends its processes and removes its data.
    fn stop(&mut self);
}
