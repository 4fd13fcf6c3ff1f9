//! The text of `/metrics` as OTLP's message: names, values and buckets are those of the text, because they are read from it.
//!
//! As OpenTelemetry's specification has it for OpenMetrics: a counter is a monotonic sum, a histogram has explicit bounds, an info
//! is a sum that is 1. Names keep their unit: who makes Prometheus' names of them appends no unit that is there already, so that
//! the same alert rules are good for both ways.

use std::mem;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::exposition::{Exposition, Family, Kind, Sample};
use crate::machine::Millis;
use crate::telemetry::otlp::{attribute, nanos, scope};
use crate::telemetry::spans::Value;

/// From when to when a text counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::telemetry) struct Span {
    /// When the counters began at 0.
    pub(in crate::telemetry) from: Millis,
    /// When the text was made.
    pub(in crate::telemetry) to: Millis,
}

/// A request that tells of all of it.
pub(in crate::telemetry) fn request(resource: &Resource, text: &Exposition, span: Span) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource.clone()),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope()),
                metrics: text.families.iter().map(|family| metric(family, span)).collect(),
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

fn metric(family: &Family, span: Span) -> Metric {
    let numbers = |from| -> Vec<NumberDataPoint> {
        let of = |sample| number(family, sample, from, span.to);
        family.samples.iter().map(of).collect()
    };
    let sum = |is_monotonic, from| {
        Data::Sum(Sum {
            data_points: numbers(from),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic,
        })
    };
    let (name, data) = match family.kind {
        Kind::Counter => (family.name.clone(), sum(true, Some(span.from))),
        Kind::Info => (format!("{}_info", family.name), sum(false, None)),
        Kind::Gauge => {
            let data_points = numbers(None);
            (family.name.clone(), Data::Gauge(Gauge { data_points }))
        }
        Kind::Histogram => {
            let histogram = Histogram {
                data_points: histograms(family, span),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
            };
            (family.name.clone(), Data::Histogram(histogram))
        }
    };
    Metric {
        name,
        description: family.help.clone(),
        unit: ucum(family.unit.as_deref()).to_owned(),
        metadata: Vec::new(),
        data: Some(data),
    }
}

/// A unit's name in UCUM. What is no unit there is in braces.
fn ucum(unit: Option<&str>) -> &'static str {
    match unit {
        Some("seconds") => "s",
        Some("bytes") => "By",
        Some("usd") => "{USD}",
        Some(_) | None => "",
    }
}

fn number(family: &Family, sample: &Sample, from: Option<Millis>, to: Millis) -> NumberDataPoint {
    // What is counted is whole, always: a series must not change its type from one request to the next.
    let measured = matches!(family.unit.as_deref(), Some("seconds" | "usd"));
    NumberDataPoint {
        attributes: attributes(&sample.labels),
        start_time_unix_nano: from.map(nanos).unwrap_or_default(),
        time_unix_nano: nanos(to),
        value: Some(if measured {
            Number::AsDouble(sample.value)
        } else {
            Number::AsInt(whole(sample.value))
        }),
        ..NumberDataPoint::default()
    }
}

/// The samples of each label set, which stand together in the text, as one point.
fn histograms(family: &Family, span: Span) -> Vec<HistogramDataPoint> {
    let mut points: Vec<HistogramDataPoint> = Vec::new();
    for sample in &family.samples {
        let (bound, labels): (Vec<_>, Vec<_>) = sample.labels.iter().cloned().partition(|(name, _)| name == "le");
        let attributes = attributes(&labels);
        if points.last().is_none_or(|point| point.attributes != attributes) {
            points.push(HistogramDataPoint {
                attributes,
                start_time_unix_nano: nanos(span.from),
                time_unix_nano: nanos(span.to),
                ..HistogramDataPoint::default()
            });
        }
        let Some(point) = points.last_mut() else { continue };
        match (sample.suffix.as_str(), bound.first()) {
            ("_sum", _) => point.sum = Some(sample.value),
            ("_count", _) => point.count = whole(sample.value).unsigned_abs(),
            (_, Some((_, bound))) => {
                point.bucket_counts.push(whole(sample.value).unsigned_abs());
                // The last bucket has no bound.
                point
                    .explicit_bounds
                    .extend(bound.parse().ok().filter(|bound: &f64| bound.is_finite()));
            }
            (_, None) => {}
        }
    }
    for point in &mut points {
        // The text counts all that is below a bound, OTLP what is between two.
        let mut below = 0;
        for count in &mut point.bucket_counts {
            let up_to = mem::replace(&mut below, *count);
            *count -= up_to;
        }
    }
    points
}

#[expect(clippy::cast_possible_truncation, reason = "a count: whole, and far below 2^53")]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

fn attributes(labels: &[(String, String)]) -> Vec<KeyValue> {
    let labels = labels.iter();
    labels
        .map(|(name, value)| attribute(name, Value::Text(value.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { from: 1000, to: 2000 };

    fn made(text: &str) -> Vec<Metric> {
        let text = Exposition::read(text).unwrap();
        let request = request(&Resource::default(), &text, SPAN);
        request.resource_metrics[0].scope_metrics[0].metrics.clone()
    }

    #[test]
    fn a_counter_is_a_cumulative_monotonic_sum_from_the_start_of_the_process() {
        let text = "\
# HELP runner_events What.
# TYPE runner_events counter
runner_events_total{result=\"sent\"} 3
# HELP runner_cost_usd What.
# TYPE runner_cost_usd counter
# UNIT runner_cost_usd usd
runner_cost_usd_total 0.25
";
        let metrics = made(text);
        let Some(Data::Sum(sum)) = &metrics[0].data else {
            panic!("{metrics:?}");
        };
        assert_eq!(
            (metrics[0].name.as_str(), metrics[0].unit.as_str()),
            ("runner_events", "")
        );
        assert!(sum.is_monotonic);
        assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative);
        let point = &sum.data_points[0];
        assert_eq!(
            (point.start_time_unix_nano, point.time_unix_nano),
            (1_000_000_000, 2_000_000_000)
        );
        assert_eq!(point.value, Some(Number::AsInt(3)));
        assert_eq!(point.attributes[0].key, "result");
        let Some(Data::Sum(cost)) = &metrics[1].data else {
            panic!("{metrics:?}");
        };
        assert_eq!(metrics[1].unit, "{USD}");
        assert_eq!(cost.data_points[0].value, Some(Number::AsDouble(0.25)));
    }

    #[test]
    fn a_histogram_has_a_point_a_label_set_and_counts_between_its_bounds() {
        let text = "\
# HELP runner_took_seconds What.
# TYPE runner_took_seconds histogram
# UNIT runner_took_seconds seconds
runner_took_seconds_sum{effect=\"a\"} 4.5
runner_took_seconds_count{effect=\"a\"} 3
runner_took_seconds_bucket{le=\"1.0\",effect=\"a\"} 1
runner_took_seconds_bucket{le=\"2.0\",effect=\"a\"} 1
runner_took_seconds_bucket{le=\"+Inf\",effect=\"a\"} 3
runner_took_seconds_sum{effect=\"b\"} 0.0
runner_took_seconds_count{effect=\"b\"} 0
runner_took_seconds_bucket{le=\"1.0\",effect=\"b\"} 0
runner_took_seconds_bucket{le=\"2.0\",effect=\"b\"} 0
runner_took_seconds_bucket{le=\"+Inf\",effect=\"b\"} 0
";
        let metrics = made(text);
        assert_eq!(metrics[0].unit, "s");
        let Some(Data::Histogram(histogram)) = &metrics[0].data else {
            panic!("{metrics:?}");
        };
        assert_eq!(histogram.data_points.len(), 2);
        let point = &histogram.data_points[0];
        assert_eq!((point.sum, point.count), (Some(4.5), 3));
        assert_eq!(point.explicit_bounds, [1.0, 2.0]);
        assert_eq!(point.bucket_counts, [1, 0, 2]);
        assert_eq!(histogram.data_points[1].attributes.len(), 1);
    }

    #[test]
    fn a_gauge_has_no_start_and_an_info_is_a_sum_of_1() {
        let text = "\
# HELP runner_boots What.
# TYPE runner_boots gauge
runner_boots 2
# HELP runner_build What.
# TYPE runner_build info
runner_build_info{version=\"1\"} 1
";
        let metrics = made(text);
        let Some(Data::Gauge(gauge)) = &metrics[0].data else {
            panic!("{metrics:?}");
        };
        assert_eq!(gauge.data_points[0].start_time_unix_nano, 0);
        assert_eq!(gauge.data_points[0].value, Some(Number::AsInt(2)));
        let Some(Data::Sum(info)) = &metrics[1].data else {
            panic!("{metrics:?}");
        };
        assert_eq!(metrics[1].name, "runner_build_info");
        assert!(!info.is_monotonic);
    }

    /// How many points a request has.
    fn points(request: &ExportMetricsServiceRequest) -> u64 {
        let scopes = request
            .resource_metrics
            .iter()
            .flat_map(|resource| &resource.scope_metrics);
        let count = |metric: &Metric| match &metric.data {
            Some(Data::Gauge(gauge)) => gauge.data_points.len(),
            Some(Data::Sum(sum)) => sum.data_points.len(),
            Some(Data::Histogram(histogram)) => histogram.data_points.len(),
            Some(Data::ExponentialHistogram(_) | Data::Summary(_)) | None => 0,
        };
        scopes
            .flat_map(|scope| &scope.metrics)
            .map(|metric| count(metric) as u64)
            .sum()
    }

    #[test]
    fn whatever_the_text_shows_is_in_the_request() {
        let text = super::super::Metrics::new().encode().unwrap();
        let text = Exposition::read(&text).unwrap();
        let request = request(&Resource::default(), &text, SPAN);
        let made = &request.resource_metrics[0].scope_metrics[0].metrics;
        assert_eq!(made.len(), text.families.len());
        let shown = |family: &Family| match family.kind {
            Kind::Histogram => family.samples.iter().filter(|sample| sample.suffix == "_count").count(),
            Kind::Counter | Kind::Gauge | Kind::Info => family.samples.len(),
        };
        assert_eq!(points(&request), text.families.iter().map(shown).sum::<usize>() as u64);
    }
}
