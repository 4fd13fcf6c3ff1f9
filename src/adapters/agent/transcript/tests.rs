use std::fs;
use std::sync::mpsc::{Receiver, sync_channel};

use super::*;
use crate::secret::Secret;

fn read(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    read_transcript(path).unwrap().read_to_end(&mut text).unwrap();
    text
}

/// Reads it until it has as much as is expected, or for long enough.
fn read_until(path: &Path, length: usize) -> Vec<u8> {
    let begun = Instant::now();
    loop {
        let text = read(path);
        if text.len() >= length || begun.elapsed() > Duration::from_mins(1) {
            return text;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Lines that do not compress away.
fn lines(count: u64) -> Vec<u8> {
    let line = |n: u64| {
        format!(
            "{{\"type\":\"user\",\"n\":\"{:x}\"}}\n",
            n.wrapping_mul(0x9E37_79B9_7F4A_7C15)
        )
    };
    (0..count).flat_map(|n| line(n).into_bytes()).collect()
}

#[tokio::test]
async fn what_was_written_is_read_back_without_its_secrets() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("t");
    let redactor = Redactor::new();
    redactor.add(&Secret::new("a-secret-of-some-length"));
    let transcript = Transcript::create(&path, &redactor).unwrap();
    let text = lines(200_000);
    for piece in text.chunks(64 * 1024) {
        transcript.room().await;
        assert!(transcript.write(piece));
    }
    assert!(transcript.write(b"a-secret-of-") && transcript.write(b"some-length"));
    transcript.finish().await.unwrap();
    let kept = read(&path);
    assert!(kept.strip_prefix(text.as_slice()) == Some(b"[redacted]"));
    assert!(fs::metadata(&path).unwrap().len() < text.len() as u64 / 2);
}

#[tokio::test]
async fn it_is_in_the_file_soon_and_at_once_where_there_is_a_hurry() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("t");
    let transcript = Transcript::create(&path, &Redactor::new()).unwrap();
    assert!(transcript.write(b"one\n"));
    assert_eq!(read_until(&path, 4), b"one\n");
    assert!(transcript.write(b"two\n"));
    transcript.hurry();
    assert_eq!(read_until(&path, 8), b"one\ntwo\n");
    transcript.finish().await.unwrap();
}

#[tokio::test]
async fn one_that_was_cut_off_anywhere_is_read_up_to_its_last_flush() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("t");
    let transcript = Transcript::create(&path, &Redactor::new()).unwrap();
    let text = lines(3_000);
    let (before, after) = text.split_at(text.len() / 2);
    assert!(transcript.write(before));
    transcript.hurry();
    assert_eq!(read_until(&path, before.len()), before);
    let flushed = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
    assert!(transcript.write(after));
    transcript.finish().await.unwrap();
    let file = fs::read(&path).unwrap();
    let (cut, noise) = (room.path().join("cut"), [0_u8; 4096]);
    for end in (0..file.len()).step_by(97).chain([flushed, file.len()]) {
        for tail in [&[][..], &noise] {
            fs::write(&cut, [&file[..end], tail].concat()).unwrap();
            let kept = read(&cut);
            if tail.is_empty() {
                assert!(text.starts_with(&kept), "cut at {end}");
            }
            assert!(
                end < flushed || kept.starts_with(before),
                "cut at {end} of {}",
                file.len()
            );
        }
    }
}

#[tokio::test]
async fn an_earlier_one_is_not_written_over_and_a_link_is_not_followed() {
    let room = tempfile::tempdir().unwrap();
    let (path, link) = (room.path().join("t"), room.path().join("l"));
    fs::write(&path, "earlier").unwrap();
    std::os::unix::fs::symlink(room.path().join("elsewhere"), &link).unwrap();
    for path in [&path, &link] {
        let refused = Transcript::create(path, &Redactor::new()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    }
    assert_eq!(fs::read(&path).unwrap(), b"earlier");
}

#[tokio::test]
async fn one_that_is_dropped_writes_what_it_was_given() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("t");
    let transcript = Transcript::create(&path, &Redactor::new()).unwrap();
    assert!(transcript.write(b"one\n"));
    drop(transcript);
    assert_eq!(read_until(&path, 4), b"one\n");
}

/// Writes nothing before it is told to.
struct Slow(Receiver<()>);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Whoever would tell is gone: there is nothing to wait for any more.
        let _ = self.0.recv();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn where_the_disk_is_slow_what_waits_is_bounded_and_nobody_but_the_agent_does() {
    let (go, told) = sync_channel::<()>(0);
    let transcript = Transcript::start(Slow(told), &Redactor::new(), |_| Ok(())).unwrap();
    let piece = lines(2_000);
    let mut waited = 0;
    while tokio::time::timeout(Duration::from_millis(200), transcript.room())
        .await
        .is_ok()
    {
        assert!(transcript.write(&piece));
        waited += piece.len();
        assert!(waited < 64 * 1024 * 1024, "it took all of it");
    }
    assert!(transcript.shared.lock().waiting.len() < ROOM + piece.len());
    drop(go);
    transcript.room().await;
    transcript.finish().await.unwrap();
}

struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn where_the_disk_is_full_the_next_write_says_so_and_the_end_says_why() {
    let transcript = Transcript::start(Full, &Redactor::new(), |_| Ok(())).unwrap();
    while transcript.write(&lines(2_000)) {
        transcript.room().await;
        tokio::task::yield_now().await;
    }
    let error = transcript.finish().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}
