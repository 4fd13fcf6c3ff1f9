//! OpenTelemetry's variables, read as its specification has them: what cannot be used is ignored, with a warning.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::percent_decode_str;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::redact::Redactor;
use crate::trace::{Root, Sampler};

/// The longest time-out of a request that is taken.
const TIMEOUT_LIMIT: Duration = Duration::from_mins(5);
/// The most items that a queue may be told to hold.
const QUEUE_LIMIT: usize = 65_536;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumIter, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Signal {
    /// Spans.
    Traces,
    /// Numbers.
    Metrics,
    /// The lines of the log.
    Logs,
}

impl Signal {
    /// Its name in a variable's.
    fn word(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
        }
    }

    /// Where it goes below a common endpoint.
    fn path(self) -> &'static str {
        match self {
            Self::Traces => "v1/traces",
            Self::Metrics => "v1/metrics",
            Self::Logs => "v1/logs",
        }
    }
}

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
}

/// Where a signal goes, and how.
#[derive(Clone)]
pub(super) struct Destination {
    /// Without user info: that is in the headers.
    pub(super) url: Url,
    /// Each marked as sensitive.
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    pub(super) encoding: Encoding,
    pub(super) compression: Compression,
}

impl Destination {
    /// The address for a person: what may be a credential is left out.
    pub(super) fn shown(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.to_string()
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination")
            .field("url", &self.shown())
            .field("headers", &self.headers.len())
            .finish_non_exhaustive()
    }
}

/// How items are gathered before they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The longest that one waits for others.
    pub delay: Duration,
    /// How many may wait. What comes when there are as many is dropped, and counted.
    pub queue: usize,
    /// How many go into one request.
    pub batch: usize,
}

/// Everything that the variables say.
pub(super) struct Settings {
    traces: Option<Destination>,
    metrics: Option<Destination>,
    logs: Option<Destination>,
    spans: Pace,
    records: Pace,
    pub(super) metric_interval: Duration,
    pub(super) sampler: Sampler,
}

impl Settings {
    /// Reads them. The warnings name variables, and never what a secret one holds.
    pub(super) fn from_env(env: &dyn Fn(&str) -> Option<OsString>, redactor: &Redactor) -> (Self, Vec<String>) {
        let mut reader = Reader {
            env,
            redactor,
            warnings: Vec::new(),
        };
        let on = reader.is_on();
        let mut destination = |signal| if on { reader.destination(signal) } else { None };
        let (traces, metrics, logs) = (
            destination(Signal::Traces),
            destination(Signal::Metrics),
            destination(Signal::Logs),
        );
        if traces.is_none() && metrics.is_none() && logs.is_none() {
            // What is said of the rest is of no weight.
            let nothing = Settings {
                traces,
                metrics,
                logs,
                spans: SPANS,
                records: RECORDS,
                metric_interval: METRIC_INTERVAL,
                sampler: Sampler::ParentBased(Root::AlwaysOn),
            };
            return (nothing, reader.warnings);
        }
        let settings = Settings {
            traces,
            metrics,
            logs,
            spans: reader.pace("OTEL_BSP", SPANS),
            records: reader.pace("OTEL_BLRP", RECORDS),
            metric_interval: reader.millis("OTEL_METRIC_EXPORT_INTERVAL", METRIC_INTERVAL),
            sampler: reader.sampler(),
        };
        (settings, reader.warnings)
    }

    pub(super) fn any(&self) -> bool {
        self.traces.is_some() || self.metrics.is_some() || self.logs.is_some()
    }

    pub(super) fn destination(&self, signal: Signal) -> Option<&Destination> {
        match signal {
            Signal::Traces => self.traces.as_ref(),
            Signal::Metrics => self.metrics.as_ref(),
            Signal::Logs => self.logs.as_ref(),
        }
    }

    pub(super) fn pace(&self, signal: Signal) -> Pace {
        match signal {
            Signal::Traces | Signal::Metrics => self.spans,
            Signal::Logs => self.records,
        }
    }
}

/// The specification's defaults.
const SPANS: Pace = Pace {
    delay: Duration::from_secs(5),
    queue: 2048,
    batch: 512,
};
const RECORDS: Pace = Pace {
    delay: Duration::from_secs(1),
    ..SPANS
};
const METRIC_INTERVAL: Duration = Duration::from_mins(1);
const TIMEOUT: Duration = Duration::from_secs(10);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(30);

struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<OsString>,
    redactor: &'a Redactor,
    warnings: Vec<String>,
}

impl Reader<'_> {
    /// A variable's value. An empty one is as good as none.
    fn text(&mut self, name: &str) -> Option<String> {
        let value = (self.env)(name)?;
        let Ok(text) = value.into_string() else {
            self.warnings.push(format!("{name} is not UTF-8 and is ignored"));
            return None;
        };
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The signal's own variable, else the common one; with the name of the one that it is.
    fn of_signal(&mut self, signal: Signal, what: &str) -> Option<(String, String)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.word());
        let common = format!("OTEL_EXPORTER_OTLP_{what}");
        [own, common]
            .into_iter()
            .find_map(|name| self.text(&name).map(|text| (name, text)))
    }

    fn is_on(&mut self) -> bool {
        let disabled = self.text("OTEL_SDK_DISABLED");
        match disabled.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => true,
            Some("true") => false,
            Some(_) => {
                self.ignored("OTEL_SDK_DISABLED", "true or false");
                true
            }
        }
    }

    fn ignored(&mut self, name: &str, allowed: &str) {
        self.warnings
            .push(format!("{name} is ignored: its value is not {allowed}"));
    }

    fn destination(&mut self, signal: Signal) -> Option<Destination> {
        let (name, url) = self.endpoint(signal)?;
        let exporter = format!("OTEL_{}_EXPORTER", signal.word());
        match self.text(&exporter).as_deref() {
            None | Some("otlp") => {}
            Some("none") => return None,
            Some(_) => {
                self.warnings.push(format!(
                    "{exporter} asks for an exporter that this runner does not have, so no {signal} are sent: otlp and none \
                     are allowed"
                ));
                return None;
            }
        }
        let encoding = self.encoding(signal)?;
        let (url, mut headers) = self.without_user_info(&name, url);
        headers.extend(self.headers(signal));
        if let Some((name, _)) = self.of_signal(signal, "CERTIFICATE") {
            self.warnings.push(format!(
                "{name} is ignored: RUNNER_CA_FILE names further roots for every connection of the runner"
            ));
        }
        let timeout = match self.of_signal(signal, "TIMEOUT") {
            Some((name, text)) => self.parse_millis(&name, &text).unwrap_or(TIMEOUT),
            None => TIMEOUT,
        };
        let pace = match signal {
            Signal::Traces => "OTEL_BSP_EXPORT_TIMEOUT",
            Signal::Logs => "OTEL_BLRP_EXPORT_TIMEOUT",
            Signal::Metrics => "OTEL_METRIC_EXPORT_TIMEOUT",
        };
        let export = self.millis(pace, EXPORT_TIMEOUT);
        Some(Destination {
            url,
            headers,
            timeout: timeout.min(export).min(TIMEOUT_LIMIT),
            encoding,
            compression: self.compression(signal),
        })
    }

    /// A signal's own endpoint is taken as it is; a common one is what the signal's path goes below.
    fn endpoint(&mut self, signal: Signal) -> Option<(String, Url)> {
        let (name, text) = self.of_signal(signal, "ENDPOINT")?;
        let text = if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
            format!("{}/{}", text.trim_end_matches('/'), signal.path())
        } else {
            text
        };
        match Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some((name, url)),
            Ok(_) | Err(_) => {
                let allowed = format!("a URL with http:// or https://, so no {signal} are sent");
                self.ignored(&name, &allowed);
                None
            }
        }
    }

    fn encoding(&mut self, signal: Signal) -> Option<Encoding> {
        let Some((name, text)) = self.of_signal(signal, "PROTOCOL") else {
            return Some(Encoding::Protobuf);
        };
        match text.as_str() {
            "http/protobuf" => Some(Encoding::Protobuf),
            "http/json" => Some(Encoding::Json),
            "grpc" => {
                self.warnings.push(format!(
                    "{name} is grpc, which this runner does not speak, so no {signal} are sent: set it to http/protobuf, and \
                     the endpoint to the collector's port for HTTP (4318 by default)"
                ));
                None
            }
            _ => {
                self.ignored(&name, "http/protobuf or http/json");
                Some(Encoding::Protobuf)
            }
        }
    }

    fn compression(&mut self, signal: Signal) -> Compression {
        match self.of_signal(signal, "COMPRESSION") {
            None => Compression::None,
            Some((_, text)) if text == "none" => Compression::None,
            Some((_, text)) if text == "gzip" => Compression::Gzip,
            Some((name, _)) => {
                self.ignored(&name, "gzip or none");
                Compression::None
            }
        }
    }

    /// A name and a password in an address are a header, and are no part of what is shown.
    fn without_user_info(&mut self, name: &str, mut url: Url) -> (Url, HeaderMap) {
        let mut headers = HeaderMap::new();
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        if !url.username().is_empty() || url.password().is_some() {
            let password = decoded(url.password().unwrap_or_default());
            let pair = format!("{}:{password}", decoded(url.username()));
            let value = format!("Basic {}", BASE64.encode(&pair));
            self.secret(&password);
            self.secret(&value);
            match sensitive(&value) {
                Some(value) => drop(headers.insert(AUTHORIZATION, value)),
                None => self.ignored(name, "one with user info that fits into a header"),
            }
            // Only an address without a host refuses this.
            let _ = url.set_username("");
            let _ = url.set_password(None);
        }
        let values: Vec<String> = url.query_pairs().map(|(_, value)| value.into_owned()).collect();
        for value in values {
            self.secret(&value);
        }
        (url, headers)
    }

    /// `name=value,…`, percent-encoded. Any of them may be a credential.
    fn headers(&mut self, signal: Signal) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some((variable, text)) = self.of_signal(signal, "HEADERS") else {
            return headers;
        };
        for (at, pair) in text.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty()) {
            let parsed = pair.split_once('=').and_then(|(name, value)| {
                let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
                self.secret(&value);
                self.secret(value.split_whitespace().last().unwrap_or_default());
                Some((HeaderName::from_str(name.trim()).ok()?, sensitive(&value)?))
            });
            match parsed {
                Some((name, value)) => drop(headers.insert(name, value)),
                None => self.warnings.push(format!(
                    "{variable} has something at place {} that is not NAME=VALUE: it is left out",
                    at + 1
                )),
            }
        }
        headers
    }

    fn secret(&self, text: &str) {
        self.redactor.add_bytes(text.as_bytes());
    }

    fn millis(&mut self, name: &str, default: Duration) -> Duration {
        match self.text(name) {
            Some(text) => self.parse_millis(name, &text).unwrap_or(default),
            None => default,
        }
    }

    fn parse_millis(&mut self, name: &str, text: &str) -> Option<Duration> {
        let millis = text.parse().ok().filter(|millis: &u64| *millis > 0);
        if millis.is_none() {
            self.ignored(name, "a number of milliseconds above 0");
        }
        millis.map(Duration::from_millis)
    }

    fn count(&mut self, name: &str, default: usize) -> usize {
        let Some(text) = self.text(name) else {
            return default;
        };
        if let Ok(count @ 1..=QUEUE_LIMIT) = text.parse() {
            count
        } else {
            self.ignored(name, &format!("a number from 1 to {QUEUE_LIMIT}"));
            default
        }
    }

    fn pace(&mut self, prefix: &str, default: Pace) -> Pace {
        let queue = self.count(&format!("{prefix}_MAX_QUEUE_SIZE"), default.queue);
        let batch = self.count(&format!("{prefix}_MAX_EXPORT_BATCH_SIZE"), default.batch);
        Pace {
            delay: self.millis(&format!("{prefix}_SCHEDULE_DELAY"), default.delay),
            queue,
            batch: batch.min(queue),
        }
    }

    fn sampler(&mut self) -> Sampler {
        let name = "OTEL_TRACES_SAMPLER";
        match self.text(name).as_deref() {
            None | Some("parentbased_always_on") => Sampler::ParentBased(Root::AlwaysOn),
            Some("parentbased_always_off") => Sampler::ParentBased(Root::AlwaysOff),
            Some("parentbased_traceidratio") => Sampler::ParentBased(Root::Ratio(self.ratio())),
            Some("always_on") => Sampler::AlwaysOn,
            Some("always_off") => Sampler::AlwaysOff,
            Some("traceidratio") => Sampler::Ratio(self.ratio()),
            Some(_) => {
                self.ignored(
                    name,
                    "always_on, always_off or traceidratio, or one of them with parentbased_ before it",
                );
                Sampler::ParentBased(Root::AlwaysOn)
            }
        }
    }

    fn ratio(&mut self) -> f64 {
        let name = "OTEL_TRACES_SAMPLER_ARG";
        let Some(text) = self.text(name) else {
            return 1.0;
        };
        match text.parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
            Ok(_) | Err(_) => {
                self.ignored(name, "a number from 0 to 1");
                1.0
            }
        }
    }
}

/// A header's value that no debug output shows.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests;
