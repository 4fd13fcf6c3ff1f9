//! The agent's output in pieces of any size: never a panic, the transcript is the output, and the pieces do not matter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runner::adapters::agent::{Stream, StreamEnd};

fn read(pieces: &mut dyn Iterator<Item = &[u8]>) -> (StreamEnd, Vec<u8>) {
    let mut stream = Stream::new(Vec::new());
    for piece in pieces {
        stream.feed(piece, &mut |_| {}).unwrap();
    }
    stream.finish(&mut |_| {})
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, output) = input;
    let (whole, transcript) = read(&mut std::iter::once(output));
    assert_eq!(transcript, output);
    let (in_pieces, _) = read(&mut output.chunks(usize::from(size) + 1));
    assert_eq!(whole, in_pieces);
});
