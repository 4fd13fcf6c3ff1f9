//! This process, by the names that every Prometheus client has for it. Looked at when it is asked for.

use std::fmt;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::{Declared, Kind, seconds};
use crate::telemetry::system_clock;

const STARTED: &str = "Start of the process, by Unix time";
const CPU: &str = "Time that the process was on a processor, in user and system mode";
const MEMORY: &str = "Memory of the process that is in RAM";

#[derive(Debug)]
pub(super) struct Process {
    /// The metrics are made first of all: a few milliseconds do not count.
    started: f64,
}

impl Process {
    pub(super) fn new() -> Self {
        Self {
            started: seconds(system_clock()),
        }
    }

    pub(super) fn declared() -> [Declared; 3] {
        let declared = |family: &str, kind, help: &str| Declared {
            family: family.to_owned(),
            kind,
            help: help.to_owned(),
        };
        [
            declared("process_start_time_seconds", Kind::Gauge, STARTED),
            declared("process_cpu_seconds", Kind::Counter, CPU),
            declared("process_resident_memory_bytes", Kind::Gauge, MEMORY),
        ]
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut show = |name, help: &str, unit: Unit, metric: &dyn EncodeMetric| {
            let help = format!("{help}.");
            metric.encode(encoder.encode_descriptor(name, &help, Some(&unit), metric.metric_type())?)
        };
        show(
            "process_start_time",
            STARTED,
            Unit::Seconds,
            &ConstGauge::new(self.started),
        )?;
        if let Some(cpu) = cpu_seconds() {
            show("process_cpu", CPU, Unit::Seconds, &ConstCounter::new(cpu))?;
        }
        if let Some(bytes) = resident_bytes() {
            show("process_resident_memory", MEMORY, Unit::Bytes, &ConstGauge::new(bytes))?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 µs are 285 years")]
fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    Some((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
}

fn resident_bytes() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * sysconf(SysconfVar::PAGE_SIZE).ok()??)
}
