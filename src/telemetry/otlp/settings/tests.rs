use super::*;
use crate::secret::Secret;

fn read(env: &[(&str, &str)]) -> (Settings, Vec<String>, Redactor) {
    let redactor = Redactor::new();
    let lookup = |name: &str| {
        let found = env.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    };
    let (settings, warnings) = Settings::from_env(&lookup, &redactor);
    (settings, warnings, redactor)
}

fn url(settings: &Settings, signal: Signal) -> Option<String> {
    settings.destination(signal).map(|to| to.url.to_string())
}

const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

#[test]
fn without_an_endpoint_nothing_is_sent_and_with_one_all_three_signals_are() {
    let (nothing, warnings, _) = read(&[("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_BSP_SCHEDULE_DELAY", "x")]);
    assert!(!nothing.any() && warnings.is_empty(), "{warnings:?}");
    let (all, warnings, _) = read(&[BASE]);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(
        url(&all, Signal::Traces).as_deref(),
        Some("http://collector:4318/v1/traces")
    );
    assert_eq!(
        url(&all, Signal::Metrics).as_deref(),
        Some("http://collector:4318/v1/metrics")
    );
    assert_eq!(
        url(&all, Signal::Logs).as_deref(),
        Some("http://collector:4318/v1/logs")
    );
    let traces = all.destination(Signal::Traces).unwrap();
    assert_eq!(traces.timeout, Duration::from_secs(10));
    assert_eq!(traces.encoding, Encoding::Protobuf);
    assert_eq!(all.pace(Signal::Traces), SPANS);
    assert_eq!(all.pace(Signal::Logs).delay, Duration::from_secs(1));
    assert_eq!(all.metric_interval, Duration::from_mins(1));
}

#[test]
fn a_signals_own_variable_counts_and_its_endpoint_is_taken_as_it_is() {
    let (settings, warnings, _) = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/below/"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://logs/in"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "3000"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "50"),
    ]);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(
        url(&settings, Signal::Traces).as_deref(),
        Some("http://collector:4318/below/v1/traces")
    );
    assert_eq!(url(&settings, Signal::Logs).as_deref(), Some("https://logs/in"));
    assert_eq!(url(&settings, Signal::Metrics), None);
    let (traces, logs) = (
        settings.destination(Signal::Traces).unwrap(),
        settings.destination(Signal::Logs).unwrap(),
    );
    assert_eq!((traces.timeout.as_secs(), logs.timeout.as_secs()), (2, 3));
    assert_eq!((traces.encoding, logs.encoding), (Encoding::Json, Encoding::Protobuf));
    assert_eq!(
        (traces.compression, logs.compression),
        (Compression::Gzip, Compression::Gzip)
    );
    let spans = settings.pace(Signal::Traces);
    assert_eq!(
        (spans.queue, spans.batch),
        (10, 10),
        "a batch is no larger than the queue"
    );
    assert_eq!(settings.pace(Signal::Logs).delay, Duration::from_millis(50));
}

#[test]
fn disabled_is_disabled_and_an_empty_value_is_none() {
    assert!(!read(&[BASE, ("OTEL_SDK_DISABLED", "TRUE")]).0.any());
    let (settings, warnings, _) = read(&[BASE, ("OTEL_SDK_DISABLED", ""), ("OTEL_EXPORTER_OTLP_PROTOCOL", " ")]);
    assert!(settings.any() && warnings.is_empty());
}

#[test]
fn grpc_is_refused_by_name_with_the_way_out() {
    let (settings, warnings, _) = read(&[BASE, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")]);
    assert!(url(&settings, Signal::Traces).is_none() && url(&settings, Signal::Logs).is_some());
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}")
    };
    for part in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "http/protobuf", "4318"] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
}

#[test]
fn what_cannot_be_used_is_ignored_with_a_warning_that_names_the_variable_and_not_the_value() {
    for (name, value) in [
        ("OTEL_SDK_DISABLED", "perhaps-secret"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "ftp://perhaps-secret"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "perhaps-secret"),
        ("OTEL_TRACES_EXPORTER", "perhaps-secret"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "perhaps-secret"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "perhaps-secret"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "perhaps-secret"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "perhaps-secret"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "na me=perhaps-secret"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "perhaps-secret"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "perhaps-secret"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "99999999"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "perhaps-secret"),
        ("OTEL_TRACES_SAMPLER", "perhaps-secret"),
    ] {
        let (settings, warnings, _) = read(&[BASE, (name, value)]);
        let [warning] = warnings.as_slice() else {
            panic!("{name}: {warnings:?}")
        };
        assert!(
            warning.contains(name) && !warning.contains("perhaps-secret"),
            "{warning}"
        );
        assert!(settings.any());
    }
}

#[test]
fn a_credential_is_told_to_the_redactor_and_is_in_no_debug_output() {
    let (settings, warnings, redactor) = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://name:pass%20word-1@collector"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "api-key=key-0123456789, authorization=Bearer%20token-0123456789",
        ),
        (
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
            "https://logs/in?api_key=query-0123456789",
        ),
    ]);
    assert_eq!(warnings, [""; 0]);
    let traces = settings.destination(Signal::Traces).unwrap();
    assert_eq!(traces.headers["api-key"], "key-0123456789");
    assert_eq!(
        traces.headers["authorization"], "Bearer token-0123456789",
        "the variable counts"
    );
    let logs = settings.destination(Signal::Logs).unwrap();
    assert_eq!(traces.url.as_str(), "https://collector/v1/traces");
    let shown = format!("{traces:?} {logs:?} {:?} {}", traces.headers, logs.shown());
    let said = "pass word-1 key-0123456789 token-0123456789 query-0123456789";
    let clean = redactor.clean(said.to_owned());
    for secret in ["pass word-1", "key-0123456789", "token-0123456789", "query-0123456789"] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!clean.contains(secret), "{clean}");
    }
    // The control: a redactor that was told nothing leaves it all.
    let other = Redactor::new();
    other.add(&Secret::new("something-else"));
    assert_eq!(other.clean(said.to_owned()), said);
}

#[test]
fn user_info_of_an_address_is_a_header() {
    let (settings, ..) = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://name:pass%20word-1@collector")]);
    let headers = &settings.destination(Signal::Traces).unwrap().headers;
    // printf 'name:pass word-1' | base64
    assert_eq!(headers["authorization"], "Basic bmFtZTpwYXNzIHdvcmQtMQ==");
}

#[test]
fn samplers_have_their_standard_names() {
    for (name, sampler) in [
        ("always_on", Sampler::AlwaysOn),
        ("always_off", Sampler::AlwaysOff),
        ("traceidratio", Sampler::Ratio(0.25)),
        ("parentbased_always_on", Sampler::ParentBased(Root::AlwaysOn)),
        ("parentbased_always_off", Sampler::ParentBased(Root::AlwaysOff)),
        ("parentbased_traceidratio", Sampler::ParentBased(Root::Ratio(0.25))),
    ] {
        let (settings, warnings, _) = read(&[BASE, ("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", "0.25")]);
        assert_eq!((settings.sampler, warnings), (sampler, Vec::<String>::new()), "{name}");
    }
}
