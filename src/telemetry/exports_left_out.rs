//! Without the feature `otlp`: nothing leaves the process for a collector, and who names one is told so.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use runner_journal::Opened;

use super::metrics::Metrics;
use super::spans::AgentIdentity;
use crate::adapters::http::HttpSetupError;
use crate::driver::Observe;
use crate::redact::Redactor;
use crate::trace::Sampling;

/// The collector's part of telemetry, which this build has none of.
pub struct Exports;

impl Exports {
    /// Says so, where the environment names a collector.
    pub fn start(
        env: impl Fn(&str) -> Option<OsString>,
        _: Option<PathBuf>,
        _: &Path,
        _: AgentIdentity,
        _: &Redactor,
        _: &Metrics,
    ) -> Result<Self, HttpSetupError> {
        let endpoints =
            ["", "_TRACES", "_METRICS", "_LOGS"].map(|signal| format!("OTEL_EXPORTER_OTLP{signal}_ENDPOINT"));
        for name in endpoints {
            if env(&name).is_some_and(|value| !value.is_empty()) {
                tracing::warn!("{name} is ignored: this build of the runner has no OTLP in it");
            }
        }
        Ok(Self)
    }

    /// The operator's trace goes on as it came.
    pub fn sampling(&self) -> Sampling {
        Sampling::PassOn
    }

    /// Nobody.
    pub fn observer(&self, _: &Opened) -> Option<Box<dyn Observe>> {
        None
    }

    /// There is nothing to wait for.
    pub async fn close(self) {}
}
