use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tar::{Builder, EntryType, Header};

use super::InvalidDestination as No;
use super::*;
use crate::ids::PlainHttp;
use crate::machine::VerdictKind;

fn about() -> Manifest {
    Manifest {
        format: FORMAT,
        task_id: "t-1".parse().unwrap(),
        runner: "0".to_owned(),
        at: "1970-01-01T00:00:01.000Z".to_owned(),
        state: "Reported".to_owned(),
        verdict: ManifestVerdict {
            event: VerdictKind::Completed,
            reason: None,
            message: "Opened it".to_owned(),
        },
        boots: 1,
        journal_head: "0".repeat(64),
        files: Vec::new(),
        left_out: Vec::new(),
    }
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// An archive with a journal and a long transcript that does not compress.
fn made(path: &Path) -> Bundle {
    let mut contents = Contents::default();
    contents.take_file(JOURNAL, file_of(b"a journal")).unwrap();
    let mut noise = vec![0; 1024 * 1024];
    let mut rng = fastrand::Rng::with_seed(7);
    rng.fill(&mut noise);
    contents
        .take_file("agent/transcript-1.jsonl.zst", file_of(&noise))
        .unwrap();
    contents.leave_out("change.diff", "it is a test");
    contents.write(about(), 1, &mut File::create(path).unwrap()).unwrap()
}

/// An archive of anybody's making.
fn forged(entries: &[(&str, EntryType, &[u8])]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let encoder = zstd::stream::write::Encoder::new(file.reopen().unwrap(), 1).unwrap();
    let mut tar = Builder::new(encoder);
    for (name, kind, bytes) in entries {
        let mut header = Header::new_gnu();
        // By hand: the library would not write what leads out.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
    file
}

fn unpacked(entries: &[(&str, EntryType, &[u8])]) -> Result<Opened, UnreadableBundle> {
    Opened::unpack(forged(entries).path())
}

#[test]
fn what_was_archived_comes_out_as_it_was_and_the_same_twice_is_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a"), dir.path().join("b"));
    let bundle = made(&first);
    assert_eq!(made(&second), bundle);
    let bytes = std::fs::read(&first).unwrap();
    assert_eq!(std::fs::read(&second).unwrap(), bytes);
    assert_eq!(bundle.bytes, bytes.len() as u64);
    assert_eq!(
        bundle.sha256,
        hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes))
    );
    assert!(is_bundle(&first));
    let opened = Opened::unpack(&first).unwrap();
    assert!(opened.problems.is_empty(), "{:?}", opened.problems);
    assert_eq!(std::fs::read(opened.journal()).unwrap(), b"a journal");
    let manifest = opened.manifest.clone().unwrap();
    let paths: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, [JOURNAL, "agent/transcript-1.jsonl.zst"]);
    assert_eq!(manifest.left_out[0].path, "change.diff");
    let kept = opened.directory().to_owned();
    drop(opened);
    assert!(!kept.exists(), "what was unpacked is gone with it");
}

#[test]
fn an_archive_that_is_cut_anywhere_gives_what_came_before_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    made(&path);
    let bytes = std::fs::read(&path).unwrap();
    for (part, what) in [
        (2, "within agent/transcript-1.jsonl.zst"),
        (50, "within agent/transcript-1.jsonl.zst"),
    ] {
        std::fs::write(&path, &bytes[..bytes.len() / part]).unwrap();
        let opened = Opened::unpack(&path).unwrap();
        assert_eq!(std::fs::read(opened.journal()).unwrap(), b"a journal", "1/{part}");
        assert!(opened.problems[0].contains(what), "1/{part}: {:?}", opened.problems);
        assert!(
            opened.problems[1].contains("transcript-1.jsonl.zst is cut"),
            "{:?}",
            opened.problems
        );
    }
    // Before the journal there is nothing to look at, and never a panic.
    for length in (4..600).step_by(7) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        match Opened::unpack(&path) {
            Ok(opened) => assert!(!opened.problems.is_empty(), "{length}"),
            Err(UnreadableBundle::NoJournal { problems }) => assert!(!problems.is_empty(), "{length}"),
            Err(other) => panic!("{length}: {other}"),
        }
    }
}

#[test]
fn a_file_that_is_not_what_was_archived_is_named() {
    let manifest = Manifest {
        files: vec![
            Listed {
                path: JOURNAL.to_owned(),
                bytes: 2,
                sha256: "0".repeat(64),
            },
            Listed {
                path: JOURNAL_LOG.to_owned(),
                bytes: 1,
                sha256: "0".repeat(64),
            },
        ],
        format: FORMAT + 1,
        ..about()
    };
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let opened = unpacked(&[
        (MANIFEST, EntryType::Regular, &manifest),
        (JOURNAL, EntryType::Regular, b"no"),
        ("more.txt", EntryType::Regular, b""),
    ]);
    let problems = opened.unwrap().problems.join("\n");
    for said in [
        "it is of format 2, and this runner knows 1",
        "journal.db is not what was archived",
        "journal.db-wal is missing",
        "more.txt is not in its manifest.json",
    ] {
        assert!(problems.contains(said), "{said}: {problems}");
    }
}

#[test]
fn what_leads_out_of_the_directory_or_is_no_plain_file_is_refused_by_name() {
    let journal = (JOURNAL, EntryType::Regular, b"x".as_slice());
    let long = "a".repeat(90);
    for (name, kind) in [
        ("../out", EntryType::Regular),
        ("/tmp/out", EntryType::Regular),
        ("agent/../../out", EntryType::Regular),
        ("agent/./out", EntryType::Regular),
        ("agent//out", EntryType::Regular),
        ("a/b", EntryType::Regular),
        (".hidden", EntryType::Regular),
        ("", EntryType::Regular),
        ("new\nline", EntryType::Regular),
        ("journal.db-shm", EntryType::Regular),
        ("journal.db-journal", EntryType::Regular),
        ("journal.db.lock", EntryType::Regular),
        (JOURNAL, EntryType::Regular),
        ("link", EntryType::Symlink),
        ("link", EntryType::Link),
        ("device", EntryType::Char),
        ("device", EntryType::Block),
        ("fifo", EntryType::Fifo),
        ("agent", EntryType::Directory),
        (long.as_str(), EntryType::GNULongName),
        ("pax", EntryType::XHeader),
        ("sparse", EntryType::GNUSparse),
    ] {
        let refused = unpacked(&[journal, (name, kind, b"")]);
        match refused {
            Err(UnreadableBundle::Hostile { name: named, .. }) => assert_eq!(named, name, "{kind:?}"),
            other => panic!("{name:?} {kind:?}: {other:?}"),
        }
    }
}

#[test]
fn a_bomb_is_refused_by_its_size_and_by_its_number_of_files() {
    let zeros = vec![0; 8 * 1024 * 1024];
    let bomb = forged(&[(JOURNAL, EntryType::Regular, &zeros)]);
    let limit = 4 * 1024 * 1024;
    assert!(bomb.as_file().metadata().unwrap().len() < 64 * 1024);
    let refused = Opened::unpack_within(bomb.path(), limit);
    assert!(
        matches!(&refused, Err(UnreadableBundle::TooLarge(what)) if what == "4 MiB"),
        "{refused:?}"
    );
    assert!(Opened::unpack_within(bomb.path(), 8 * 1024 * 1024).is_ok());
    let names: Vec<String> = (0..=FILES_LIMIT).map(|number| format!("f{number}")).collect();
    let many: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), EntryType::Regular, b"".as_slice()))
        .collect();
    let refused = unpacked(&many);
    assert!(
        matches!(&refused, Err(UnreadableBundle::TooLarge(what)) if what == "256 files"),
        "{refused:?}"
    );
    let manifest = vec![b' '; 1024 * 1024 + 1];
    let refused = unpacked(&[(MANIFEST, EntryType::Regular, &manifest)]);
    assert!(matches!(&refused, Err(UnreadableBundle::TooLarge(_))), "{refused:?}");
}

#[test]
fn what_grows_while_it_is_archived_is_as_it_was_and_what_shrinks_breaks_nothing_silently() {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("runner.log"), dir.path().join("out"));
    std::fs::write(&path, "one\n").unwrap();
    let mut contents = Contents::default();
    contents.take_file(JOURNAL, file_of(b"x")).unwrap();
    contents.take("runner.log", &path).unwrap();
    contents.take("absent", &dir.path().join("absent")).unwrap();
    contents.take("directory", dir.path()).unwrap();
    let mut log = File::options().append(true).open(&path).unwrap();
    log.write_all(b"two\n").unwrap();
    assert_eq!(contents.left_out().len(), 1, "{:?}", contents.left_out());
    contents.write(about(), 1, &mut File::create(&out).unwrap()).unwrap();
    let opened = Opened::unpack(&out).unwrap();
    let mut text = String::new();
    let kept = opened.directory().join("runner.log");
    File::open(kept).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "one\n");
    assert!(opened.problems.is_empty(), "{:?}", opened.problems);
    let mut contents = Contents::default();
    contents.take("runner.log", &path).unwrap();
    log.set_len(1).unwrap();
    let refused = contents.write(about(), 1, &mut File::create(&out).unwrap());
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn nobody_waits_any_more_and_the_work_ends() {
    let given_up = Arc::new(AtomicBool::new(false));
    let mut contents = Contents::new(Arc::clone(&given_up));
    contents.take_file(JOURNAL, file_of(b"x")).unwrap();
    given_up.store(true, Ordering::Relaxed);
    assert!(contents.take_file("more", file_of(b"x")).is_err());
    assert!(contents.write(about(), 1, &mut tempfile::tempfile().unwrap()).is_err());
}

#[test]
fn an_archive_goes_to_a_folder_or_to_an_address_and_the_name_is_the_tasks() {
    let parse = |text: &str| Destination::parse(text, PlainHttp::LoopbackOnly);
    let task = "t-1".parse().unwrap();
    for folder in ["file:///archive/", "file:///archive", " file:///archive/ "] {
        assert_eq!(parse(folder).unwrap().folder().unwrap(), Path::new("/archive"));
    }
    for (given, url) in [
        ("https://h.example/dir/", "https://h.example/dir/t-1.tar.zst"),
        (
            "https://h.example/dir/?sig=x",
            "https://h.example/dir/t-1.tar.zst?sig=x",
        ),
        ("https://h.example", "https://h.example/t-1.tar.zst"),
        ("https://h.example/f?sig=x", "https://h.example/f?sig=x"),
        ("http://127.0.0.1:9/f", "http://127.0.0.1:9/f"),
    ] {
        match parse(given).unwrap() {
            Destination::Put(put) => assert_eq!(put.url(&task).as_str(), url),
            other @ Destination::Folder(_) => panic!("{other:?}"),
        }
    }
    for (given, why) in [
        ("/archive", No::NotAUrl),
        ("archive", No::NotAUrl),
        ("s3://bucket/key", No::Scheme("s3".to_owned())),
        ("ftp://h.example/", No::Scheme("ftp".to_owned())),
        ("file://host/archive", No::Folder),
        ("file:///archive?x", No::Folder),
        ("http://h.example/f", No::PlainHttp),
        ("https://h.example/f#x", No::Fragment),
    ] {
        assert_eq!(parse(given).unwrap_err(), why, "{given}");
    }
    assert!(Destination::parse("http://h.example/f", PlainHttp::Anywhere).is_ok());
}

#[test]
fn of_an_address_that_is_a_key_nothing_but_the_host_is_shown() {
    let shown = |text: &str| {
        let destination = Destination::parse(text, PlainHttp::LoopbackOnly).unwrap();
        let redactor = crate::redact::Redactor::new();
        for secret in destination.secrets() {
            redactor.add(&secret);
        }
        (format!("{destination:?}"), redactor)
    };
    let (debug, redactor) = shown("https://u:hunter22@h.example:8443/b/k?X-Sig=0123456789abcdef%2Fx&X-E=60");
    assert_eq!(debug, "Put(h.example:8443)");
    for part in [
        "0123456789abcdef%2Fx",
        "0123456789abcdef/x",
        "hunter22",
        "/b/k?X-Sig=0123456789abcdef%2Fx&X-E=60",
    ] {
        assert!(!redactor.redact(&format!("a {part} b")).contains(part), "{part}");
    }
    let (_, redactor) = shown("https://h.example/upload/0123456789abcdef");
    assert!(!redactor.redact("/upload/0123456789abcdef").contains("0123456789abcdef"));
    let (_, redactor) = shown("https://h.example/a-folder-of-everybodys/");
    assert_eq!(
        redactor.redact("https://h.example/a-folder-of-everybodys/t"),
        "https://h.example/a-folder-of-everybodys/t"
    );
}
