//! The metrics that a real receiver gets are those that a scraper gets.

use std::collections::BTreeMap;

use runner::telemetry::{ExposedFamily, Exposition, Kind};
use serde_json::Value;

use super::tap::Tap;
use crate::harness::Outside;
use crate::metrics::scrape_to_the_end;

/// What goes on between the last scrape and the last request.
const GOES_ON: [&str; 4] = [
    "process_cpu_seconds",
    "process_resident_memory_bytes",
    "runner_otlp_exports",
    "runner_otlp_dropped_items",
];

/// A series, and its values: one, or what a histogram has, with its buckets as the text counts them.
type Series = BTreeMap<String, Vec<f64>>;

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_at_the_end_what_a_scraper_got_by_name_value_and_bucket() {
    let Some(mut tap) = Tap::start().await else { return };
    let outside = Outside::start().await;
    let bench = tap
        .bench(&outside)
        .with("OTEL_METRICS_EXPORTER", "otlp")
        .with("RUNNER_METRICS_LINGER", "1m");
    let mut serving = bench.start();
    serving.assign(&outside.assignment()).await;
    let (scrapes, code) = scrape_to_the_end(&mut serving).await;
    assert_eq!(code, Some(0), "{}", serving.log());
    let text = Exposition::read(scrapes.last().unwrap()).unwrap();
    let received = tap.until(|received| !received.metrics.is_empty()).await;

    let mut expected = Series::new();
    for family in text.families.iter().filter(|f| !GOES_ON.contains(&f.name.as_str())) {
        expected.extend(scraped_series(family));
    }
    let mut found = Series::new();
    for metric in &received.metrics {
        let name = metric["name"].as_str().unwrap();
        if !GOES_ON.contains(&name) {
            found.extend(received_series(metric));
        }
    }
    assert!(expected.len() > 60, "{expected:#?}");
    assert_eq!(found, expected, "received, then scraped");

    let one = |name: &str| received.metrics.iter().find(|metric| metric["name"] == name).unwrap();
    let sum = &one("runner_effect_attempts")["sum"];
    assert_eq!(sum["isMonotonic"], true, "{sum}");
    let point = &sum["dataPoints"][0];
    let started = text.family("process_start_time_seconds").unwrap().samples[0].value;
    let from = number(&point["startTimeUnixNano"]) / 1e9;
    assert!((from - started).abs() < 0.1, "{from} and {started}");
    assert!(number(&point["timeUnixNano"]) > number(&point["startTimeUnixNano"]));
    assert_eq!(one("runner_effect_duration_seconds")["unit"], "s");
    assert_eq!(one("runner_journal_appended_bytes")["unit"], "By");
    assert!(
        one("runner_boots")["description"]
            .as_str()
            .unwrap()
            .starts_with("Starts of the runner")
    );
}

fn key(name: &str, mut labels: Vec<(String, String)>) -> String {
    labels.sort();
    format!("{name} {labels:?}")
}

fn scraped_series(family: &ExposedFamily) -> Series {
    let name = match family.kind {
        Kind::Info => format!("{}_info", family.name),
        Kind::Counter | Kind::Gauge | Kind::Histogram => family.name.clone(),
    };
    let mut series = Series::new();
    for sample in &family.samples {
        let labels = sample.labels.iter().filter(|(name, _)| name != "le").cloned().collect();
        series.entry(key(&name, labels)).or_default().push(sample.value);
    }
    series
}

fn received_series(metric: &Value) -> Series {
    let data = ["gauge", "sum", "histogram"]
        .iter()
        .find_map(|data| metric.get(data))
        .unwrap();
    let mut series = Series::new();
    for point in data["dataPoints"].as_array().unwrap() {
        let labels = point["attributes"].as_array().into_iter().flatten().map(|attribute| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&attribute["key"]), text(&attribute["value"]["stringValue"]))
        });
        let labels = labels.collect();
        let values = match point.get("bucketCounts") {
            Some(counts) => {
                let mut below = 0.0;
                let counts = counts.as_array().unwrap().iter().map(|count| {
                    below += number(count);
                    below
                });
                [number(&point["sum"]), number(&point["count"])]
                    .into_iter()
                    .chain(counts)
                    .collect()
            }
            None => vec![point.get("asInt").or_else(|| point.get("asDouble")).map_or(0.0, number)],
        };
        series.insert(key(metric["name"].as_str().unwrap(), labels), values);
    }
    series
}

/// A number, or the text that JSON has for a long one.
fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .or_else(|| value.as_str()?.parse().ok())
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// Without this, the comparison above would fail now and then, by the last bit of a sum.
#[test]
fn a_number_is_read_as_it_was_written() {
    let read: f64 = serde_json::from_str("0.11878323299999999").unwrap();
    assert_eq!(read.to_string(), "0.11878323299999999");
}
