//! The text of `/metrics`, read again: what is sent by OTLP and what older scrapers get is made from that very text, so that the
//! three cannot differ.
//!
//! It reads what this program writes, which is less than OpenMetrics allows: no exemplars, no timestamps, one sample a line.

use std::fmt::Write;

use prometheus_client::metrics::MetricType;
use thiserror::Error;

/// All families of a text, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposition {
    /// The families.
    pub families: Vec<Family>,
}

/// A metric with all of its series.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// As OpenMetrics has it: of a counter without `_total`.
    pub name: String,
    /// For a person.
    pub help: String,
    /// Of which type.
    pub kind: Kind,
    /// The unit that the name ends with, where it has one.
    pub unit: Option<String>,
    /// The series.
    pub samples: Vec<Sample>,
}

/// The types that there are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// It rises, from 0 with the process.
    Counter,
    /// It is as it is.
    Gauge,
    /// How many were at most so large.
    Histogram,
    /// Always 1, with labels that say something.
    Info,
}

impl From<MetricType> for Kind {
    fn from(kind: MetricType) -> Self {
        match kind {
            MetricType::Counter => Self::Counter,
            MetricType::Histogram => Self::Histogram,
            MetricType::Info => Self::Info,
            MetricType::Gauge | MetricType::Unknown => Self::Gauge,
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What follows the family's name: `_total`, `_bucket`, …
    pub suffix: String,
    /// In the order of the text.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
}

/// A line that this program does not write.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {number} of the metrics is none that this program writes: {line}")]
pub struct Unreadable {
    /// From 1.
    pub number: usize,
    /// The line.
    pub line: String,
}

impl Exposition {
    /// Reads the text of [`super::Metrics::encode`].
    pub fn read(text: &str) -> Result<Self, Unreadable> {
        let mut families: Vec<Family> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            take(&mut families, line).ok_or_else(|| Unreadable {
                number: index + 1,
                line: line.to_owned(),
            })?;
        }
        Ok(Self { families })
    }

    /// A family by its name.
    pub fn family(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.name == name)
    }
}

fn take(families: &mut Vec<Family>, line: &str) -> Option<()> {
    if line == "# EOF" {
        return Some(());
    }
    if let Some(rest) = line.strip_prefix("# HELP ") {
        let (name, help) = rest.split_once(' ')?;
        families.push(Family {
            name: name.to_owned(),
            help: help.to_owned(),
            kind: Kind::Gauge,
            unit: None,
            samples: Vec::new(),
        });
        return Some(());
    }
    // Everything else is about the family that came last.
    let family = families.last_mut()?;
    let of_it = |rest: &str| rest.strip_prefix(family.name.as_str()).map(ToOwned::to_owned);
    if let Some(rest) = line.strip_prefix("# TYPE ") {
        family.kind = of_it(rest)?.strip_prefix(' ')?.parse().ok()?;
    } else if let Some(rest) = line.strip_prefix("# UNIT ") {
        family.unit = Some(of_it(rest)?.strip_prefix(' ')?.to_owned());
    } else {
        let sample = sample(&of_it(line)?)?;
        family.samples.push(sample);
    }
    Some(())
}

/// A line without the family's name.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (suffix, rest) = line.split_at(end);
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    Some(Sample {
        suffix: suffix.to_owned(),
        labels,
        value: value.strip_prefix(' ')?.parse().ok()?,
    })
}

/// What is between the braces, and what follows them.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.strip_prefix(',').unwrap_or(rest);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        rest = loop {
            match chars.next()? {
                (at, '"') => break after.get(at + 1..)?,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
    }
}

/// The text as scrapers know it that do not ask for OpenMetrics: a counter is known by the name of its sample, an info is a gauge,
/// and there are no units.
pub fn classic(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.rsplit_once(' ')) {
            let help = help.strip_prefix(name).unwrap_or_default();
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                kind => ("", kind),
            };
            // A String takes everything.
            let _ = writeln!(out, "# HELP {name}{suffix}{help}\n# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP runner_events What the agent did.
# TYPE runner_events counter
runner_events_total{result=\"sent\"} 3
runner_events_total{result=\"a \\\"b\\\" {c}\\\\\"} 1
# HELP runner_events_queued Events that wait.
# TYPE runner_events_queued gauge
runner_events_queued 2
# HELP runner_took_seconds How long it took.
# TYPE runner_took_seconds histogram
# UNIT runner_took_seconds seconds
runner_took_seconds_sum 0.5
runner_took_seconds_count 2
runner_took_seconds_bucket{le=\"0.1\"} 1
runner_took_seconds_bucket{le=\"+Inf\"} 2
# HELP runner_build The program.
# TYPE runner_build info
runner_build_info{version=\"1\"} 1
# EOF
";

    #[test]
    fn a_text_is_read_family_by_family_with_units_and_escapes() {
        let read = Exposition::read(TEXT).unwrap();
        let names: Vec<(&str, Kind)> = read.families.iter().map(|f| (f.name.as_str(), f.kind)).collect();
        assert_eq!(
            names,
            [
                ("runner_events", Kind::Counter),
                ("runner_events_queued", Kind::Gauge),
                ("runner_took_seconds", Kind::Histogram),
                ("runner_build", Kind::Info)
            ]
        );
        let took = read.family("runner_took_seconds").unwrap();
        assert_eq!(took.unit.as_deref(), Some("seconds"));
        assert_eq!(took.samples[3].labels, [("le".to_owned(), "+Inf".to_owned())]);
        let odd = &read.families[0].samples[1];
        assert_eq!(odd.labels[0].1, "a \"b\" {c}\\");
        assert!((odd.value - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn what_is_not_of_the_family_before_it_is_refused_with_its_line() {
        for (line, number) in [
            ("other 1", 7),
            ("runner_events_queued", 7),
            ("runner_events_queued{a=\"b} 1", 7),
        ] {
            let text = TEXT.lines().take(6).chain([line]).collect::<Vec<_>>().join("\n");
            assert_eq!(Exposition::read(&text).unwrap_err().number, number, "{line}");
        }
    }

    #[test]
    fn older_scrapers_get_counters_by_the_name_of_their_samples_and_an_info_as_a_gauge() {
        let classic = classic(TEXT);
        let heads: Vec<&str> = classic.lines().filter(|line| line.starts_with("# TYPE")).collect();
        assert_eq!(
            heads,
            [
                "# TYPE runner_events_total counter",
                "# TYPE runner_events_queued gauge",
                "# TYPE runner_took_seconds histogram",
                "# TYPE runner_build_info gauge"
            ]
        );
        let samples = |text: &str| -> Vec<String> {
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(samples(&classic), samples(TEXT));
        assert!(
            classic.starts_with("# HELP runner_events_total What the agent did.\n"),
            "{classic}"
        );
        assert!(!classic.contains("# UNIT") && !classic.contains("# EOF"));
    }
}
