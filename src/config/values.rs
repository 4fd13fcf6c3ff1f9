//! One function a kind of value: what is allowed, and what is said of what is not.

use std::net::SocketAddr;
use std::time::Duration;

use strum::VariantNames;
use url::Url;

use crate::actions::names::InvalidName;
use crate::adapters::agent::MicroUsd;
use crate::adapters::git::Author;
use crate::ids::BranchName;
use crate::policy::{InvalidGlob, ProtectedPaths};
use crate::sandbox::{NoPorts, Ports};

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an address and a port such as 0.0.0.0:8888 or [::1]:8888 are allowed".to_owned())
}

pub(super) fn http_url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        Ok(_) | Err(_) => Err("an absolute http or https URL is allowed".to_owned()),
    }
}

/// A host as URLs have it, so that it can be compared with theirs. One that could not match anything is a mistake.
pub(super) fn host(text: &str) -> Result<String, String> {
    let text = text.trim();
    let host = match text.parse::<std::net::Ipv6Addr>() {
        Ok(ip) => Ok(url::Host::Ipv6(ip)),
        Err(_) => url::Host::parse(text),
    };
    match host {
        Ok(host) if !text.is_empty() => Ok(host.to_string()),
        Ok(_) | Err(_) => {
            Err("host names and addresses are allowed, comma-separated, without scheme and port".to_owned())
        }
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) | Err(_) => Err("a duration such as 90s, 25m or 1h30m is allowed".to_owned()),
    }
}

pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" | "" => Ok(false),
        _ => Err("true, 1, yes, false, 0 and no are allowed".to_owned()),
    }
}

/// A value parser for an enum: what is not one of its names is refused with all of them.
pub(crate) fn one_of<T: std::str::FromStr + VariantNames>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{} are allowed", T::VARIANTS.join(", ")))
}

pub(super) fn branch_prefix(text: &str) -> Result<String, String> {
    match format!("{text}x").parse::<BranchName>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("what git takes at the beginning of a branch's name is allowed".to_owned()),
    }
}

pub(super) fn author(text: &str) -> Result<Author, String> {
    text.parse()
        .map_err(|_| "a name and an address as `Name <name@example.org>` are allowed".to_owned())
}

pub(super) fn protected_paths(text: &str) -> Result<ProtectedPaths, InvalidGlob> {
    text.parse()
}

pub(super) fn usd(text: &str) -> Result<MicroUsd, String> {
    match text.parse::<MicroUsd>() {
        Ok(amount) if amount > MicroUsd::default() => Ok(amount),
        Ok(_) | Err(_) => Err("an amount such as 10 or 2.50 is allowed".to_owned()),
    }
}

pub(super) fn agent_variable(text: &str) -> Result<String, String> {
    let name = text.trim();
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    // The runner's key for its collector, which an agent of anybody's making is not to have.
    let collectors_key = name.starts_with("OTEL_EXPORTER_OTLP_") && name.ends_with("HEADERS");
    if plain && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.starts_with("RUNNER_") && !collectors_key {
        Ok(name.to_owned())
    } else {
        Err(
            "names of variables are allowed, but for those that begin with RUNNER_ and for OTEL_EXPORTER_OTLP_HEADERS"
                .to_owned(),
        )
    }
}

/// A name that its type parses.
pub(super) fn named<T: std::str::FromStr<Err = InvalidName>>(text: &str) -> Result<T, InvalidName> {
    text.parse()
}

pub(super) fn ports(text: &str) -> Result<Ports, String> {
    text.parse().map_err(|error: NoPorts| error.to_string())
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    match text.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("error, warn, info, debug, trace and directives as runner=debug are allowed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_of_nothing_is_refused() {
        assert!(usd("0.000001").is_ok());
        for bad in ["0", "0.00", "-1", "x"] {
            assert!(usd(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_have_units_and_are_not_nothing() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        for bad in ["", "90", "0s", "-1s", "soon"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
