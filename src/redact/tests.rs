use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn knowing(secrets: &[&str]) -> Redactor {
    let redactor = Redactor::new();
    for secret in secrets {
        redactor.add(&Secret::new(*secret));
    }
    redactor
}

/// What comes out of a stream that gets the text in these pieces, cut anywhere.
fn streamed(redactor: &Redactor, text: &[u8], cuts: &[usize]) -> String {
    let mut scrub = redactor.stream();
    let mut out = Vec::new();
    let mut rest = text;
    for cut in cuts {
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        out.extend(scrub.feed(piece));
        rest = after;
    }
    out.extend(scrub.feed(rest));
    out.extend(scrub.finish());
    String::from_utf8(out).unwrap()
}

fn percent(text: &str, plain: fn(u8) -> bool, upper: bool) -> String {
    let byte = |byte: u8| match (plain(byte), upper) {
        (true, _) => char::from(byte).to_string(),
        (false, true) => format!("%{byte:02X}"),
        (false, false) => format!("%{byte:02x}"),
    };
    text.bytes().map(byte).collect()
}

fn json(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Every form that a secret of 8 bytes or more is found in.
fn encoded(secret: &str) -> Vec<String> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let units: Vec<String> = secret.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    let mut forms = vec![
        secret.to_owned(),
        percent(secret, unreserved, true),
        percent(secret, unreserved, false),
        percent(secret, |_| false, true),
        percent(&percent(secret, unreserved, true), unreserved, true),
        url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
        json(secret),
        json(&json(secret)),
        units.concat(),
        hex::encode(secret),
        hex::encode_upper(secret),
    ];
    for before in ["", "x", "xy"] {
        for after in ["", ":", ":z", ":z1"] {
            let text = format!("{before}{secret}{after}");
            for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
                forms.push(engine.encode(&text));
            }
        }
    }
    forms
}

/// Whether what is left of an encoded secret says anything of it: no 8 bytes of its form are there in a row. (What
/// stands beside it in base64 makes fewer.)
fn leaks(shown: &str, form: &str) -> bool {
    let shown = shown.replace(MARKER, "");
    form.as_bytes()
        .windows(8)
        .any(|part| std::str::from_utf8(part).is_ok_and(|part| shown.contains(part)))
}

#[test]
fn a_secret_is_found_in_every_form() {
    for secret in [
        "ghs_canary0123456789",
        "pä\"ss\\wörd/ +\u{1f600}$",
        "12345678",
        "{\"k\":\"aaaaaaa\"}",
    ] {
        let redactor = knowing(&[secret]);
        for form in encoded(secret) {
            let text = format!("before <{form}> after");
            let shown = redactor.redact(&text);
            assert!(!leaks(&shown, &form), "{secret}: {form}: {shown}");
            assert!(shown.starts_with("before <") && shown.ends_with("> after"), "{shown}");
        }
        assert_eq!(
            knowing(&["another secret"]).redact(&hex::encode(secret)),
            hex::encode(secret),
            "the control"
        );
    }
}

#[test]
fn a_long_secret_is_found_piece_by_piece() {
    for length in [128, 129, 135, 136, 700] {
        let secret: String = (0..length)
            .map(|at| char::from(b'a' + u8::try_from(at * at % 23).unwrap()))
            .collect();
        let redactor = knowing(&[&secret]);
        for form in [secret.clone(), hex::encode(&secret), STANDARD.encode(&secret)] {
            let shown = streamed(&redactor, form.as_bytes(), &[13; 100]);
            assert!(!leaks(&shown, &form), "{length}: {shown}");
        }
    }
}

#[test]
fn a_short_secret_is_found_only_as_it_is_and_a_very_short_one_not_at_all() {
    let redactor = knowing(&["hunter2", "abc"]);
    assert_eq!(redactor.redact("hunter2 abc"), "[redacted] abc");
    assert_eq!(redactor.redact(&hex::encode("hunter2")), hex::encode("hunter2"));
}

#[test]
fn shapes_are_known_and_their_beginning_stays() {
    let long = "a1B2".repeat(9);
    let redactor = Redactor::new();
    for (text, shown) in [
        (format!("x ghs_{long} y"), "x ghs_[redacted] y"),
        (format!("ghs_12345_{long}.{long}-x"), "ghs_[redacted]"),
        (format!("(github_pat_{long}_{long})"), "(github_pat_[redacted])"),
        (format!("sk-ant-api03-{long}-_x"), "sk-ant-[redacted]"),
        ("AKIAIOSFODNN7REALKEY".to_owned(), "AKIA[redacted]"),
        ("xoxb-123456789012-abcdef".to_owned(), "xoxb-[redacted]"),
        (
            "Authorization: Bearer abc.def-ghi".to_owned(),
            "Authorization: Bearer [redacted]",
        ),
        (
            r#"{"authorization":"Basic eDpoZWxsbw=="}"#.to_owned(),
            r#"{"authorization":"Basic [redacted]"}"#,
        ),
        (
            r#"\"Authorization\": \"Bearer abcdefgh\""#.to_owned(),
            r#"\"Authorization\": \"Bearer [redacted]\""#,
        ),
        ("https://me:pass@host/x".to_owned(), "https://me:[redacted]@host/x"),
        ("http://:p%40ss@host:80".to_owned(), "http://:[redacted]@host:80"),
    ] {
        assert_eq!(redactor.redact(&text), shown, "{text}");
    }
    for innocent in [
        "ghs_short",
        "ghp_installation_token_lifetime",
        "https://host:8080/path@2x.png",
        "https://me@host/",
        "the line -----BEGIN PRIVATE KEY----- alone",
        "Authorization: Bearer ${TOKEN}",
    ] {
        assert_eq!(redactor.redact(innocent), innocent);
    }
}

#[test]
fn a_private_key_is_taken_out_to_its_last_line() {
    let lines = format!("{}\n", "MIIEvQ+/aBc0".repeat(5)).repeat(60);
    let block = format!("-----BEGIN RSA PRIVATE KEY-----\n{lines}-----END RSA PRIVATE KEY-----");
    let redactor = Redactor::new();
    let expected = "a -----BEGIN RSA PRIVATE KEY-----[redacted] b.";
    for text in [
        format!("a {block} b."),
        format!("a {} b.", json(&block)),
        format!("a {} b.", json(&json(&block))),
    ] {
        assert_eq!(redactor.redact(&text), expected);
        assert_eq!(streamed(&redactor, text.as_bytes(), &[7; 2000]), expected);
    }
    let endless = format!("\"-----BEGIN PRIVATE KEY-----\\n{}\", 1", "A".repeat(100_000));
    assert_eq!(
        redactor.redact(&endless),
        "\"-----BEGIN PRIVATE KEY-----[redacted]\", 1"
    );
}

#[test]
fn a_secret_that_was_cut_is_found() {
    let redactor = knowing(&["ghs_canary0123456789"]);
    assert_eq!(
        redactor.redact("it said: ghs_canary01…; bye"),
        "it said: [redacted]; bye"
    );
    assert_eq!(redactor.redact("ghs_can…"), "ghs_can…");
}

#[test]
fn what_a_match_cuts_of_an_escape_goes_with_it() {
    let redactor = knowing(&["nsecret1", "00e9abcd", "backslash\\", "de00abcd"]);
    for text in [
        r#""\nsecret1""#,
        r#""\\nsecret1""#,
        r#""\u00e9abcd""#,
        r#""backslash\"""#,
        r#""backslash\\""#,
        r#""\ud83d\ude00abcd""#,
    ] {
        let valid: Result<String, _> = serde_json::from_str(text);
        assert!(valid.is_ok(), "{text}");
        let shown = redactor.redact(text);
        assert!(shown.contains(MARKER), "{text}: {shown}");
        let valid: Result<String, _> = serde_json::from_str(&shown);
        assert!(valid.is_ok(), "{text}: {shown}");
    }
}

#[test]
fn secrets_that_overlap_go_as_one() {
    let redactor = knowing(&["abcdefgh", "efghijkl"]);
    assert_eq!(redactor.redact("-abcdefghijkl-"), "-[redacted]-");
}

#[test]
fn a_line_of_json_is_not_held_back() {
    let redactor = knowing(&["ghs_canary0123456789"]);
    let mut scrub = redactor.stream();
    let line = b"{\"type\":\"result\"}\n";
    assert_eq!(scrub.feed(line), line);
    let mut scrub = redactor.stream();
    assert_eq!(scrub.feed(b"x ghs_can"), b"x ");
    assert_eq!(scrub.feed(b"ada\n"), b"ghs_canada\n");
}

#[test]
fn what_is_held_back_is_bounded() {
    let redactor = knowing(&["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"]);
    let mut scrub = redactor.stream();
    let mut out = 0;
    for _ in 0..100 {
        out += scrub.feed(&[b'a'; 1000]).len();
    }
    assert!(out > 90_000, "{out}");
}

#[test]
fn a_secret_that_is_added_is_known_to_all_from_then_on() {
    let redactor = Redactor::new();
    let mut scrub = redactor.clone().stream();
    redactor.add(&Secret::new("opensesame"));
    let mut out = scrub.feed(b"it is opensesame");
    out.extend(scrub.finish());
    assert_eq!(out, b"it is [redacted]");
    assert_eq!(format!("{redactor:?}"), "Redactor");
}

#[test]
fn the_environment_says_what_is_secret() {
    let redactor = Redactor::new();
    redactor.add_environment(&["NPM_TOKEN".to_owned(), "COLOUR".to_owned()], |name| {
        let value = match name {
            "ANTHROPIC_API_KEY" => "key-of-the-model",
            "https_proxy" => "http://me:p%40ssword@proxy:3128",
            "ALL_PROXY" => "me:without-scheme@proxy",
            "NPM_TOKEN" => "npm-token",
            "COLOUR" => "vermilion",
            _ => return None,
        };
        Some(value.into())
    });
    let text = "key-of-the-model p%40ssword p@ssword without-scheme npm-token vermilion";
    assert_eq!(
        redactor.redact(text),
        "[redacted] [redacted] [redacted] [redacted] [redacted] vermilion"
    );
}

/// A secret with anything in it that a marker has not.
fn secret() -> impl Strategy<Value = String> {
    "[ -Z\\\\^-~äß😀\n\t]{8,40}".prop_filter("two that are alike hide each other", |text| {
        !MARKER.contains(text.as_str())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_secret_comes_through_in_any_encoding_cut_anywhere(
        secret in secret(),
        form in 0..59_usize,
        before in "[ -~\n]{0,40}",
        after in "[ -~\n]{0,40}",
        cuts in vec(0..20_usize, 0..20),
    ) {
        let redactor = knowing(&[&secret]);
        let form = &encoded(&secret)[form];
        let text = format!("{before}{form}{after}");
        let shown = streamed(&redactor, text.as_bytes(), &cuts);
        prop_assert!(!shown.contains(form.as_str()), "{}", shown);
        prop_assert!(!shown.contains(&secret), "{}", shown);
        prop_assert!(shown.contains(MARKER));
        prop_assert_eq!(&shown, &redactor.redact(&text));
        prop_assert_eq!(&redactor.redact(&shown), &shown, "once more changes nothing");
        prop_assert!(shown.len() <= text.len() + MARKER.len());
    }

    #[test]
    fn text_without_secrets_is_as_it_was(text in "[a-z\\\\\"äu0-9 \n]{0,200}", cuts in vec(0..20_usize, 0..20)) {
        let redactor = knowing(&["THE SECRET", "ANOTHER/ONE"]);
        prop_assert!(matches!(redactor.redact(&text), Cow::Borrowed(_)));
        prop_assert_eq!(streamed(&redactor, text.as_bytes(), &cuts), text);
    }

    /// Made of what matters, so that much of it matches and much of it nearly does.
    #[test]
    fn however_a_text_is_cut_the_same_comes_out(
        parts in vec(select(vec![
            "ghs_", "canary01", "23456789", "\\", "u00", "67", "hs_canary0123456789", "-----BEGIN PRIVATE KEY-----", "\n",
            "MIIEvQIBADANBgkqhkiG", "-----END ", "PRIVATE KEY-----", "https://me:", "pass", "@", "AKIA", "ABCDEFGHIJKLMNOP",
            "Authorization: ", "Bearer ", "ä", "\"", "67 68 73", "Z2hzX2NhbmFyeTAxMjM0NTY3ODk=", "\\ud83d", "\\ude00", "…",
        ]), 0..30),
        cuts in vec(0..12_usize, 0..60),
    ) {
        let text = parts.concat();
        let redactor = knowing(&["ghs_canary0123456789", "canary01\\23456789"]);
        let shown = redactor.redact(&text);
        prop_assert_eq!(streamed(&redactor, text.as_bytes(), &cuts), shown.as_ref());
        prop_assert!(!shown.contains("ghs_canary0123456789"));
        prop_assert_eq!(redactor.redact(&shown), shown.as_ref());
    }

    #[test]
    fn a_json_string_stays_one(
        secret in secret(),
        before in "[\\PC\n\"\\\\]{0,30}",
        after in "[\\PC\n\"\\\\]{0,30}",
    ) {
        let redactor = knowing(&[&secret]);
        let text = serde_json::to_string(&format!("{before}{secret}{after}")).unwrap();
        let shown = redactor.redact(&text);
        let read: Result<String, _> = serde_json::from_str(&shown);
        prop_assert!(read.is_ok_and(|read| !read.contains(&secret)), "{}: {}", text, shown);
    }
}

/// Found by fuzzing: a secret for a user's name, in front of a password.
#[test]
fn a_secret_inside_of_a_shape_is_found_before_the_shapes_own() {
    let secret = "a-secret-of-24-bytes-or-so";
    let redactor = Redactor::new();
    redactor.add(&Secret::new(secret));
    let text = format!("see https://{secret}:a-password@example.org/ and go on");
    let clean = redactor.redact(&text);
    assert!(!clean.contains(secret) && !clean.contains("a-password"), "{clean}");
    assert!(
        clean.starts_with("see https://") && clean.ends_with("@example.org/ and go on"),
        "{clean}"
    );
    for size in 1..text.len() {
        let mut stream = redactor.stream();
        let mut pieces: Vec<u8> = text
            .as_bytes()
            .chunks(size)
            .flat_map(|piece| stream.feed(piece))
            .collect();
        pieces.extend(stream.finish());
        assert_eq!(String::from_utf8_lossy(&pieces), clean, "in pieces of {size}");
    }
    let exact = redactor.find(text.as_bytes());
    assert!(exact.iter().any(|found| found.kind == Kind::Exact), "{exact:?}");
}
