//! What the runner shows of itself while it runs: logs, `/status` and `/metrics`, all of rows that are on disk.

use runner_journal::Head;
use tokio::sync::watch;

use crate::driver::Observe;
use crate::machine::{Event, Millis, Run, StateName};

mod actions;
#[cfg(feature = "otlp")]
mod exports;
#[cfg(not(feature = "otlp"))]
#[path = "telemetry/exports_left_out.rs"]
mod exports;
pub mod log_file;
mod logs;
mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod spans;
mod status;

pub use actions::ActionsTelemetry;
pub use exports::Exports;
pub use logs::{Line, also_to, log_to_stderr};
pub use metrics::{Declared, ExposedFamily, Exposition, Kind, Metrics, Sample, classic};
pub use status::{Status, VerdictStatus};

/// RFC 3339 with milliseconds, in UTC.
pub fn rfc3339(at: Millis) -> String {
    match jiff::Timestamp::from_millisecond(at) {
        Ok(timestamp) => format!("{timestamp:.3}"),
        Err(_) => format!("{at} ms"),
    }
}

/// Milliseconds since the Unix epoch, by the system's clock.
pub fn system_clock() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}

/// Sees every row, and shows it.
pub struct Telemetry {
    status: watch::Sender<Status>,
    measure: metrics::Measure,
    entered: Option<StateName>,
}

impl Telemetry {
    /// Shows rows on these.
    pub fn new(status: watch::Sender<Status>, metrics: Metrics) -> Self {
        Self {
            status,
            measure: metrics::Measure::new(metrics),
            entered: None,
        }
    }
}

impl Observe for Telemetry {
    fn recorded(&mut self, run: &Run, event: &Event, head: Head) {
        self.measure.recorded(run, event, head);
        let status = Status::of(run, head);
        logs::log(run, event, head);
        if self.entered != status.state {
            self.entered = status.state;
            if let Some(state) = status.state {
                tracing::info!("entered {state}");
            }
        }
        self.status.send_replace(status);
    }
}
