//! The agent's output in pieces of any size: never a panic, and the pieces do not matter. No secret is in what is told of it or
//! kept.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runner::adapters::agent::{Activity, Stream, StreamEnd};
use runner::redact::Redactor;
use runner::secret::Secret;

const SECRET: &str = "a-secret-of-24-bytes-or-so";
static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| {
    let redactor = Redactor::new();
    redactor.add(&Secret::new(SECRET));
    redactor
});

fn read(pieces: &mut dyn Iterator<Item = &[u8]>) -> (StreamEnd, Vec<Activity>) {
    let mut stream = Stream::new(REDACTOR.clone());
    let mut seen = Vec::new();
    for piece in pieces {
        stream.feed(piece, &mut |activity| seen.push(activity));
    }
    let end = stream.finish(&mut |activity| seen.push(activity));
    (end, seen)
}

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (size, before, after) = input;
    let output = [before, SECRET.as_bytes(), after].concat();
    let whole = read(&mut std::iter::once(&output[..]));
    assert!(!format!("{whole:?}").contains(SECRET));
    assert_eq!(whole, read(&mut output.chunks(usize::from(size) + 1)));
});
