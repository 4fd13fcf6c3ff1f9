//! The agent's output in pieces of any size: never a panic, and the pieces do not matter, not to what is understood and not
//! to the transcript, in which no secret is.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runner::adapters::agent::{Stream, StreamEnd};
use runner::redact::{Redacted, Redactor};
use runner::secret::Secret;

const SECRET: &str = "a-secret-of-24-bytes-or-so";
static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| {
    let redactor = Redactor::new();
    redactor.add(&Secret::new(SECRET));
    redactor
});

fn read(pieces: &mut dyn Iterator<Item = &[u8]>) -> (StreamEnd, Vec<u8>) {
    let mut stream = Stream::new(Redacted::new(Vec::new(), &REDACTOR), REDACTOR.clone());
    for piece in pieces {
        stream.feed(piece, &mut |_| {}).unwrap();
    }
    let (end, transcript) = stream.finish(&mut |_| {});
    (end, transcript.finish().unwrap())
}

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (size, before, after) = input;
    let output = [before, SECRET.as_bytes(), after].concat();
    let (whole, transcript) = read(&mut std::iter::once(&output[..]));
    assert!(
        !transcript
            .windows(SECRET.len())
            .any(|window| window == SECRET.as_bytes())
    );
    let (in_pieces, same) = read(&mut output.chunks(usize::from(size) + 1));
    assert_eq!(whole, in_pieces);
    assert_eq!(transcript, same);
});
