//! Whom TLS trusts: the system's roots as the HTTP client finds them, and `RUNNER_CA_FILE`.

use super::{Check, CheckName, Here};
use crate::adapters::http::{HttpOptions, build_client};

pub(super) fn check(here: &Here<'_>) -> Check {
    let name = CheckName::Certificates;
    let ca_file = &here.settings.options.ca_file;
    let system = rustls_native_certs::load_native_certs().certs.len();
    let extra = ca_file
        .as_ref()
        .map(|path| format!(", and those in {}", path.display()))
        .unwrap_or_default();
    let found = format!("{system} roots of the system{extra}");
    let client = build_client(&HttpOptions {
        ca_file: ca_file.clone(),
        ..HttpOptions::default()
    });
    match client {
        Err(error) => Check::fail(
            name,
            format!("{found}: {error}"),
            "install ca-certificates, or name a PEM file with roots in RUNNER_CA_FILE",
        ),
        Ok(_) if system == 0 => Check::warn(
            name,
            found,
            "install ca-certificates if peers outside are to be trusted",
        ),
        Ok(_) => Check::ok(name, found),
    }
}
