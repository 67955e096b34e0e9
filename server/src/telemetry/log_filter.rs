//! Which events are logged: what the node was started with, until an operator changes it while it runs.

use std::sync::{Mutex, OnceLock};

use tracing_subscriber::{EnvFilter, Registry, reload};

use super::init::TelemetryError;

/// The filter of the process's logs, once it logs.
static LOG_FILTER: OnceLock<LogFilter> = OnceLock::new();

/// A filter that can be changed.
#[derive(Debug)]
pub(super) struct LogFilter {
    handle: reload::Handle<EnvFilter, Registry>,
    configured: String,
    now: Mutex<String>,
}

/// What is logged, and what was to be logged at the start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFilters {
    /// The filter.
    pub now: String,
    /// The one of the start.
    pub configured: String,
}

/// The filter of the process's logs; none if it does not log.
#[must_use]
pub fn log_filters() -> Option<LogFilters> {
    LOG_FILTER.get().map(LogFilter::filters)
}

/// Logs by another filter from now on; an empty one stands for that of the start. Returns the filter before and the one
/// now.
///
/// # Errors
///
/// The filter is not understood, or the process does not log: nothing has changed.
pub fn update_log_filter(filter: &str) -> Result<(String, String), TelemetryError> {
    match LOG_FILTER.get() {
        Some(log_filter) => log_filter.update(filter),
        None => Err(not_understood(filter, "this process does not log")),
    }
}

impl LogFilter {
    /// A filter, and the layer that it changes.
    pub(super) fn new(configured: &str) -> Result<(reload::Layer<EnvFilter, Registry>, Self), TelemetryError> {
        let (layer, handle) = reload::Layer::new(parse(configured)?);
        let configured = configured.to_owned();
        Ok((layer, Self { handle, now: Mutex::new(configured.clone()), configured }))
    }

    /// Makes this the filter of the process's logs.
    pub(super) fn install(self) -> Result<(), TelemetryError> {
        LOG_FILTER.set(self).map_err(|_| TelemetryError::AlreadyInitialized)
    }

    fn filters(&self) -> LogFilters {
        let now = self.now.lock().expect("nobody panics with the lock").clone();
        LogFilters { now, configured: self.configured.clone() }
    }

    /// See [`update_log_filter`].
    pub(super) fn update(&self, filter: &str) -> Result<(String, String), TelemetryError> {
        let filter = if filter.is_empty() { &self.configured } else { filter };
        let parsed = parse(filter)?;
        // Held until it is done, so that of two changes at once the last one is also the one that is told.
        let mut now = self.now.lock().expect("nobody panics with the lock");
        // Said by the filter before: the one that comes may be silent.
        tracing::warn!(before = *now, now = filter, "an operator changes what is logged");
        self.handle.reload(parsed).map_err(|gone| not_understood(filter, &gone.to_string()))?;
        Ok((std::mem::replace(&mut now, filter.to_owned()), filter.to_owned()))
    }
}

/// Without regular expressions: some of a few bytes take gigabytes, and an operator may send any.
fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder().with_regex(false).parse(filter).map_err(|error| not_understood(filter, &error.to_string()))
}

fn not_understood(filter: &str, cause: &str) -> TelemetryError {
    TelemetryError::LogFilter { filter: filter.to_owned(), cause: cause.to_owned() }
}
