//! Any text around a secret in any of its forms, in pieces of any size: the secret is gone, and redacting again changes
//! nothing.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runner::redact::Redactor;
use runner::secret::Secret;

const SECRET: &str = "a \"secret\"/of+30=bytes or so";

static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| {
    let redactor = Redactor::new();
    redactor.add(&Secret::new(SECRET));
    redactor
});

fn forms() -> [String; 3] {
    let percent = SECRET.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let hex = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    [SECRET.to_owned(), percent, hex]
}

fuzz_target!(|input: (u8, u8, &[u8], &[u8])| {
    let (size, form, before, after) = input;
    let forms = forms();
    let form = &forms[usize::from(form) % forms.len()];
    let text = [before, form.as_bytes(), after].concat();
    let scrub = |text: &[u8], size: usize| {
        let mut stream = REDACTOR.stream();
        let mut clean: Vec<u8> = text.chunks(size).flat_map(|piece| stream.feed(piece)).collect();
        clean.extend(stream.finish());
        clean
    };
    let clean = scrub(&text, text.len());
    assert!(!clean.windows(form.len()).any(|window| window == form.as_bytes()));
    assert_eq!(clean, scrub(&text, usize::from(size) + 1), "pieces do not matter");
    assert_eq!(clean, scrub(&clean, clean.len().max(1)), "once is enough");
});
