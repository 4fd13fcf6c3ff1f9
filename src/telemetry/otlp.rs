//! OTLP over HTTP, as OpenTelemetry's variables ask for it: to where, how, and what an answer means.
//!
//! A collector is a peer like any other: what it answers is read up to a limit, its redirects are not followed, and nobody
//! waits for it but the task that delivers.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Client, StatusCode};
use serde::Serialize;
use strum::IntoEnumIterator;
use thiserror::Error;

use crate::adapters::http::{self, ExchangeError, HttpOptions, HttpSetupError, Proxies, TransportError};
use crate::redact::Redactor;
use crate::telemetry::Metrics;
use crate::text::excerpt;
use crate::trace::Sampler;

pub(super) mod delivery;
mod messages;
mod resource;
pub(super) mod sent;
mod settings;

pub use messages::scope;
pub(in crate::telemetry) use messages::{attribute, nanos};
use settings::{Compression, Destination, Encoding, Settings};
pub use settings::{Pace, Signal};

/// How much of an answer is read, in bytes. A collector says in it what it did not take.
const ANSWER_LIMIT: usize = 64 * 1024;

/// A collector, or up to three of them: one a signal.
pub struct Otlp {
    settings: Settings,
    resource: Resource,
    clients: Clients,
    metrics: Metrics,
}

/// Requests to a collector on this machine go past the proxies.
struct Clients {
    by_environment: Client,
    direct: Client,
}

/// What a collector said to a request that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// How many of its items it did not want nevertheless.
    pub rejected: u64,
}

/// Why a request was not taken. No text here has a header or a credential in it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PostError {
    /// It may be sent again: there was no answer, or it was one of 429, 502, 503 and 504.
    #[error("{cause}")]
    Again {
        /// What happened.
        cause: String,
        /// What the collector asked to be waited for; at most [`http::RETRY_AFTER_LIMIT`].
        after: Option<Duration>,
    },
    /// It is not to be sent again: any other answer.
    #[error("{cause}")]
    Refused {
        /// What the collector said.
        cause: String,
    },
    /// No endpoint is set for this signal.
    #[error("no endpoint is set for {0}")]
    NotSent(Signal),
}

/// What can be sent: a message of OTLP, which has two encodings.
pub trait Payload: Message + Serialize {}

impl<T: Message + Serialize> Payload for T {}

impl Otlp {
    /// What the variables ask for; none where they name no endpoint. Opens and connects nothing. A value that cannot be used
    /// is a warning, as the specification has it; a secret in one is told to the redactor, and is in no warning.
    pub fn from_env(
        env: impl Fn(&str) -> Option<OsString>,
        ca_file: Option<PathBuf>,
        redactor: &Redactor,
    ) -> Result<Option<Self>, HttpSetupError> {
        let (settings, warnings) = Settings::from_env(&env, redactor);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        if !settings.any() {
            return Ok(None);
        }
        let options = HttpOptions {
            ca_file,
            ..HttpOptions::default()
        };
        let client = |proxies| {
            http::build_client(&HttpOptions {
                proxies,
                ..options.clone()
            })
        };
        Ok(Some(Self {
            resource: resource::from_env(&env),
            settings,
            metrics: Metrics::new(),
            clients: Clients {
                by_environment: client(Proxies::Environment)?,
                direct: client(Proxies::Direct)?,
            },
        }))
    }

    /// Whether a signal is sent at all.
    pub fn sends(&self, signal: Signal) -> bool {
        self.settings.destination(signal).is_some()
    }

    /// Whose telemetry it is: the same on every signal.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Which traces are recorded (`OTEL_TRACES_SAMPLER`).
    pub fn sampler(&self) -> Sampler {
        self.settings.sampler
    }

    /// How spans (`OTEL_BSP_…`) or log records (`OTEL_BLRP_…`) are gathered.
    pub fn pace(&self, signal: Signal) -> Pace {
        self.settings.pace(signal)
    }

    /// How often metrics are sent (`OTEL_METRIC_EXPORT_INTERVAL`).
    pub fn metric_interval(&self) -> Duration {
        self.settings.metric_interval
    }

    /// Counts here what becomes of requests and items.
    #[must_use]
    pub fn counted_by(self, metrics: Metrics) -> Self {
        for signal in Signal::iter().filter(|signal| self.sends(*signal)) {
            metrics.export_begins(signal.into());
        }
        Self { metrics, ..self }
    }

    /// Where what becomes of requests and items is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Sends one request, once. It takes no longer than the time-outs say, whatever the collector does.
    pub async fn post(&self, signal: Signal, message: &impl Payload) -> Result<Taken, PostError> {
        let posted = self.exchange(signal, message).await;
        let result = match &posted {
            Ok(_) => "taken",
            Err(PostError::Again { .. }) => "failed",
            Err(PostError::Refused { .. } | PostError::NotSent(_)) => "refused",
        };
        self.metrics.export_ended(signal.into(), result);
        posted
    }

    async fn exchange(&self, signal: Signal, message: &impl Payload) -> Result<Taken, PostError> {
        let Some(to) = self.settings.destination(signal) else {
            return Err(PostError::NotSent(signal));
        };
        let body = body(to, message).map_err(|cause| PostError::Refused { cause })?;
        let client = match Proxies::for_peer(&to.url) {
            Proxies::Environment => &self.clients.by_environment,
            Proxies::Direct => &self.clients.direct,
        };
        let mut request = client
            .post(to.url.clone())
            .timeout(to.timeout)
            .headers(to.headers.clone())
            .header(CONTENT_TYPE, to.encoding.content_type())
            .body(body);
        if to.compression == Compression::Gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        match http::exchange(request, ANSWER_LIMIT).await {
            Ok(answer) if answer.status.is_success() => Ok(Taken {
                rejected: rejected(to.encoding, &answer.body),
            }),
            // It was a success; who says it at such length is not read to the end.
            Err(ExchangeError::TooLarge) => Ok(Taken { rejected: 0 }),
            Ok(answer) => Err(refusal(&answer)),
            Err(ExchangeError::Transport(TransportError::NotSent(why) | TransportError::Lost(why))) => {
                Err(PostError::Again {
                    cause: format!("{}: {why}", to.shown()),
                    after: None,
                })
            }
        }
    }
}

fn body(to: &Destination, message: &impl Payload) -> Result<Vec<u8>, String> {
    let plain = match to.encoding {
        Encoding::Protobuf => message.encode_to_vec(),
        Encoding::Json => serde_json::to_vec(message).map_err(|e| e.to_string())?,
    };
    match to.compression {
        Compression::None => Ok(plain),
        Compression::Gzip => {
            let mut gzip = GzEncoder::new(Vec::new(), Level::fast());
            let written = gzip.write_all(&plain).and_then(|()| gzip.finish());
            written.map_err(|e| e.to_string())
        }
    }
}

/// How many items an answer says were not taken. The answers to all three signals have it at the same place.
fn rejected(encoding: Encoding, answer: &[u8]) -> u64 {
    let count = match encoding {
        Encoding::Protobuf => ExportTraceServiceResponse::decode(answer)
            .ok()
            .and_then(|answer| answer.partial_success)
            .map(|partial| partial.rejected_spans),
        Encoding::Json => serde_json::from_slice::<serde_json::Value>(answer)
            .ok()
            .and_then(|answer| {
                let partial = answer.get("partialSuccess")?.as_object()?;
                let (_, count) = partial.iter().find(|(name, _)| name.starts_with("rejected"))?;
                count.as_i64().or_else(|| count.as_str()?.parse().ok())
            }),
    };
    count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default()
}

/// What an answer that is no success means (OTLP, "Failures").
fn refusal(answer: &http::Answer) -> PostError {
    let said = String::from_utf8_lossy(&answer.body);
    let said = match said.trim() {
        "" => String::new(),
        said => format!(": {}", excerpt(said)),
    };
    let cause = format!("the collector answered {}{said}", answer.status.as_u16());
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => PostError::Again {
            cause,
            after: answer.retry_after(),
        },
        status if status.is_redirection() => PostError::Refused {
            cause: format!("{cause}; redirects are not followed: name the endpoint that it leads to"),
        },
        _ => PostError::Refused { cause },
    }
}

#[cfg(test)]
mod tests;
