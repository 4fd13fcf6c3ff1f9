use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn listener(allow: &[&str]) -> Listener {
    Listener {
        inbox: mpsc::channel(1).0,
        status: watch::Sender::new(Status::starting()).subscribe(),
        metrics: Metrics::new(),
        task_token: None,
        api_allow: allow.iter().map(|&host| host.to_owned()).collect(),
    }
}

fn allowed(allow_list: &[&str], url: &str) -> Result<(), StatusCode> {
    let url = url.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    allow(&listener(allow_list), &url).map_err(|refused| refused.status)
}

#[test]
fn a_link_local_address_is_refused_in_every_spelling_also_where_it_is_allowed() {
    for host in [
        "169.254.169.254",
        "169.254.169.254.",
        "169.254.169.254:8081",
        "169.254.43518",
        "169.16689662",
        "2852039166",
        "0xa9fea9fe",
        "0xA9.0xFE.0xA9.0xFE",
        "0251.0376.0251.0376",
        "025177524776",
        "169.254.0xa9.0376",
        "%31%36%39.254.169.254",
        "169。254。169。254",
        "１６９.254.169.254",
        "169.254.0.0",
        "169.254.255.255",
        "[fe80::1]",
        "[FE80::1]:80",
        "[febf:ffff::1]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[0:0:0:0:0:FFFF:169.254.169.254]",
        "[::169.254.169.254]",
    ] {
        for allow_list in [&[][..], &["169.254.169.254"]] {
            let refused = allowed(allow_list, &format!("http://{host}/x"));
            assert_eq!(refused, Err(StatusCode::FORBIDDEN), "{host}");
        }
    }
    // The control: their neighbours get in. A zone is no part of a URL's address.
    for host in [
        "169.253.255.255",
        "169.255.0.0",
        "10.0.0.1",
        "[fec0::1]",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "api",
    ] {
        assert_eq!(allowed(&[], &format!("http://{host}")), Ok(()), "{host}");
    }
    assert_eq!(allowed(&[], "http://[fe80::1%25eth0]"), Err(StatusCode::BAD_REQUEST));
}

#[test]
fn the_allow_list_names_hosts_whatever_their_port_and_spelling() {
    let list = ["api.example", "127.0.0.1", "[::1]", "xn--bcher-kva.example"];
    for url in [
        "http://api.example",
        "https://API.Example:8081/x",
        "http://api.example.",
        "http://127.0.0.1:9",
        "http://2130706433",
        "http://0x7f.1",
        "http://[0:0::1]:8081",
        "http://b\u{fc}cher.example",
        "http://B\u{dc}CHER.example",
    ] {
        assert_eq!(allowed(&list, url), Ok(()), "{url}");
    }
    for url in [
        "http://example",
        "http://xapi.example",
        "http://api.example.org",
        "http://api.example..",
        "http://127.0.0.2",
        "http://[::2]",
        "http://[::ffff:127.0.0.1]",
        "http://localhost",
        "http://\u{430}pi.example",
    ] {
        assert_eq!(allowed(&list, url), Err(StatusCode::FORBIDDEN), "{url}");
    }
    assert_eq!(allowed(&["api.example."], "http://api.example"), Ok(()));
    assert_eq!(
        allowed(&list, "http://api.example@127.0.0.2"),
        Err(StatusCode::BAD_REQUEST),
        "what looks like a host and is a user"
    );
}

proptest! {
    #[test]
    fn no_bytes_break_the_parser_and_what_it_takes_is_safe(bytes in vec(any::<u8>(), 0..300)) {
        holds(&bytes)?;
    }

    #[test]
    fn no_json_breaks_the_parser_and_what_it_takes_is_safe(
        id in prop_oneof!["\\PC{0,20}", "[A-Za-z0-9._-]{1,210}", "[a-z](\\.\\.|/|-|\\.lock|\u{0}|\n| )[a-z]?"],
        scheme in prop_oneof![Just("http"), Just("https"), Just("HTTP"), Just("file"), Just("")],
        rest in prop_oneof!["(:|//|///|://)[a-z0-9.:@\\[\\]%?#/\\\\-]{0,40}", "://\\PC{0,40}"],
        further in "\\PC{0,10}",
    ) {
        let url = format!("{scheme}{rest}");
        holds(json!({"taskID": id, "apiURL": url, further: 1}).to_string().as_bytes())?;
        // Twice the same field is no task: two readers could read two of them.
        let twice = format!("{{\"taskID\":{},\"taskID\":\"b\",\"apiURL\":\"http://a\"}}", Value::from(id));
        prop_assert!(parse(twice.as_bytes(), None).is_err());
    }

    #[test]
    fn no_header_breaks_the_trace(parent in "\\PC{0,70}", state in "[\\x20-\\x7e\\t]{0,300}") {
        let mut headers = HeaderMap::new();
        for (name, value) in [("traceparent", parent), ("tracestate", state)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        if let Some(trace) = trace(&headers) {
            prop_assert!(HeaderValue::from_str(trace.parent()).is_ok());
        }
    }
}

/// What is taken is a segment, a file's and a branch's name, and an address that comes back as it went.
fn holds(body: &[u8]) -> Result<(), TestCaseError> {
    let taken = match parse(body, None) {
        Ok(taken) => taken,
        Err(refused) => {
            prop_assert_eq!(refused.status, StatusCode::BAD_REQUEST);
            return Ok(());
        }
    };
    let id = taken.task_id.as_str();
    prop_assert!(id.len() <= 200 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
    prop_assert!(!id.starts_with(['-', '.']) && !id.contains("..") && !id.ends_with(['.', '-']));
    let url = url::Url::parse(taken.api_url.as_str()).map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert!(matches!(url.scheme(), "http" | "https") && url.host().is_some());
    prop_assert!(url.username().is_empty() && url.password().is_none());
    prop_assert!(url.query().is_none() && url.fragment().is_none());
    let again: Option<ApiUrl> = taken.api_url.as_str().parse().ok();
    prop_assert_eq!(again, Some(taken.api_url));
    Ok(())
}
