//! Whose telemetry it is, as every request says it.

use std::ffi::OsString;

use opentelemetry_proto::tonic::resource::v1::Resource;
use percent_encoding::percent_decode_str;
use uuid::Uuid;

use super::messages::attribute;
use crate::telemetry::spans::Value;

/// How many attributes the variable may give, and how long one may be, in bytes.
const ATTRIBUTES: usize = 64;
const LENGTH: usize = 1024;

/// The runner, with what `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` say of it: they count.
pub(super) fn from_env(env: &dyn Fn(&str) -> Option<OsString>) -> Resource {
    let text = |name: &str| env(name)?.into_string().ok().filter(|text| !text.trim().is_empty());
    let mut all = vec![
        ("service.name".to_owned(), "runner".to_owned()),
        ("service.version".to_owned(), crate::VERSION.to_owned()),
        ("service.instance.id".to_owned(), instance()),
        ("telemetry.sdk.name".to_owned(), "runner".to_owned()),
        ("telemetry.sdk.language".to_owned(), "rust".to_owned()),
        ("telemetry.sdk.version".to_owned(), crate::VERSION.to_owned()),
    ];
    let mut set = |name: String, value: String| match all.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => all.push((name, value)),
    };
    match text("OTEL_RESOURCE_ATTRIBUTES").map(|text| parse(&text)) {
        Some(Some(given)) => given.into_iter().for_each(|(name, value)| set(name, value)),
        // All or nothing, as the specification has it.
        Some(None) => tracing::warn!("OTEL_RESOURCE_ATTRIBUTES is ignored: it is not NAME=VALUE,…, percent-encoded"),
        None => {}
    }
    if let Some(name) = text("OTEL_SERVICE_NAME") {
        set("service.name".to_owned(), name.trim().to_owned());
    }
    Resource {
        attributes: all
            .into_iter()
            .map(|(name, value)| attribute(name, Value::Text(value)))
            .collect(),
        ..Resource::default()
    }
}

/// This process, told from every other one: by its host, its number and when it began to send.
fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = format!(
        "{}/{}/{}",
        host.trim(),
        std::process::id(),
        jiff::Timestamp::now().as_nanosecond()
    );
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).to_string()
}

fn parse(text: &str) -> Option<Vec<(String, String)>> {
    let mut all = Vec::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let decoded = |text: &str| Some(percent_decode_str(text.trim()).decode_utf8().ok()?.into_owned());
        let (name, value) = (decoded(name)?, decoded(value)?);
        if name.is_empty() || name.len() > LENGTH || value.len() > LENGTH || all.len() == ATTRIBUTES {
            return None;
        }
        all.push((name, value));
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_taken_whole_or_not_at_all() {
        let given = parse("deployment.environment.name=prod%2Feu, team = a b").unwrap();
        assert_eq!(
            given,
            [
                ("deployment.environment.name".to_owned(), "prod/eu".to_owned()),
                ("team".to_owned(), "a b".to_owned())
            ]
        );
        for bad in ["a=b,c", "=b", "a=%ff", &format!("a={}", "x".repeat(1025))] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_the_operator_names_counts() {
        let resource = |env: &'static [(&str, &str)]| {
            let lookup = |name: &str| {
                let found = env.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            };
            let resource = from_env(&lookup);
            let name = resource.attributes.into_iter().find(|a| a.key == "service.name");
            format!("{:?}", name.unwrap().value.unwrap())
        };
        assert!(resource(&[]).contains("\"runner\""));
        assert!(resource(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=a")]).contains("\"a\""));
        let both = &[
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a"),
            ("OTEL_SERVICE_NAME", "b"),
        ];
        assert!(resource(both).contains("\"b\""));
    }
}
