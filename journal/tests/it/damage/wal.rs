//! SQLite's write-ahead log from outside: where its frames are, and how to make its checksums right again.

/// A page, as new databases have it.
pub(crate) const PAGE: usize = 4096;
/// The log's own header.
pub(crate) const HEADER: usize = 32;
/// A frame: a header of its own, and a page.
pub(crate) const FRAME: usize = FRAME_HEADER + PAGE;
const FRAME_HEADER: usize = 24;

/// Makes each frame belong to this log again, with the checksums that SQLite would have written.
///
/// SQLite reads no further than to the first frame that does not fit. What was done to a log that is sealed again is for
/// the journal alone to see.
pub(crate) fn seal(log: &mut [u8]) {
    if log.len() < HEADER {
        return;
    }
    let (header, frames) = log.split_at_mut(HEADER);
    let order = if header[3] & 1 == 1 {
        u32::from_be_bytes
    } else {
        u32::from_le_bytes
    };
    let mut sum = checksum([0, 0], &header[..24], order);
    put(&mut header[24..], sum);
    for frame in frames.chunks_exact_mut(FRAME) {
        frame[8..16].copy_from_slice(&header[16..24]);
        sum = checksum(sum, &frame[..8], order);
        sum = checksum(sum, &frame[FRAME_HEADER..], order);
        put(&mut frame[16..], sum);
    }
}

fn put(to: &mut [u8], [first, second]: [u32; 2]) {
    to[..4].copy_from_slice(&first.to_be_bytes());
    to[4..8].copy_from_slice(&second.to_be_bytes());
}

/// Section 4.4 of SQLite's file format.
fn checksum([mut first, mut second]: [u32; 2], bytes: &[u8], order: fn([u8; 4]) -> u32) -> [u32; 2] {
    let (words, _) = bytes.as_chunks::<4>();
    for pair in words.chunks_exact(2) {
        first = first.wrapping_add(order(pair[0])).wrapping_add(second);
        second = second.wrapping_add(order(pair[1])).wrapping_add(first);
    }
    [first, second]
}
