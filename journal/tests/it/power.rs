//! A loss of power at any moment: nothing that was acknowledged is lost, and what is there is what was written first.
//!
//! Processes of their own live a journal's life under `strace`; a model of a disk says which files a loss of power
//! could leave after each of their calls; each of these images is opened again.
//!
//! `SEED=N` chooses the images again that a run chose; `PROOF=whole` takes many times as many.

mod disk;
mod trace;

use std::collections::HashSet;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash as _, Hasher};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use runner_journal::{Entry, Finding, Hash, Head, Journal, Row, Snapshot};

use self::disk::{Data, Disk, Image, Kept, lay_out};
use self::trace::Event;
pub(crate) use self::trace::said;
use crate::{boot, enter, intent, machine, note, open, outcome, probe, verdict};

const PATH: &str = "JOURNAL_POWER_PATH";
const ACT: &str = "JOURNAL_POWER_ACT";

type Append = (Vec<Entry>, Vec<u8>);

/// What each process of the life appends, and how it ends.
fn act(number: usize) -> (Vec<Append>, End) {
    let plain = |entries| (entries, Vec::new());
    let large = note(&format!("\"{}\"", "x".repeat(30_000)));
    match number {
        0 => (
            vec![
                plain(vec![boot(), enter("", "A")]),
                plain(vec![intent("x", 1)]),
                (
                    vec![outcome("x", 1, Finding::Done), enter("A", "B")],
                    b"a small blob".to_vec(),
                ),
                plain(vec![intent("y", 1)]),
            ],
            End::Killed,
        ),
        1 => (
            vec![
                plain(vec![boot(), probe("y", 1, Finding::NotDone)]),
                (vec![intent("y", 2)], vec![7; 20_000]),
                plain(vec![large]),
                plain(vec![outcome("y", 2, Finding::Done), enter("B", "C")]),
            ],
            End::Closed,
        ),
        2 => (vec![plain(vec![boot()]), plain(vec![verdict()])], End::Killed),
        // Nothing but the recovery: what the process before left in the log is taken up, and the power goes again.
        3 => (vec![], End::Killed),
        4 => (
            vec![
                plain(vec![boot()]),
                plain(vec![Entry::Ack { body: None }, enter("C", "End")]),
            ],
            End::Closed,
        ),
        _ => (
            vec![plain(vec![boot()]), plain(vec![note("\"after the loss\"")])],
            End::Killed,
        ),
    }
}

const ACTS: usize = 5;
/// What a process does that starts after a loss of power.
const AFTER: usize = ACTS;

enum End {
    Killed,
    Closed,
}

/// The child: lives one act, and says each head that the journal acknowledges, beginning with the one it found.
#[test]
#[ignore = "a child of the test of power loss, which starts it with a path"]
fn child() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let number = std::env::var(ACT).unwrap().parse().unwrap();
    let (appends, end) = act(number);
    let mut journal = open(Path::new(&path));
    say(journal.head());
    for (at_ms, (entries, blob)) in (0..).zip(&appends) {
        let blobs: Vec<&[u8]> = if blob.is_empty() { vec![] } else { vec![blob] };
        say(journal.append(at_ms, entries, &blobs).unwrap());
    }
    match end {
        End::Closed => journal.close().unwrap(),
        End::Killed => kill(getpid(), Signal::SIGKILL).unwrap(),
    }
}

fn say(head: Head) {
    println!("head {} {}", head.seq, head.hash);
}

/// What was done to a disk, and every row that was written by it.
struct Recording {
    root: PathBuf,
    before: Disk,
    /// What had been acknowledged before.
    floor: Head,
    events: Vec<Event>,
    written: Vec<Row>,
}

#[derive(Debug, Default)]
struct Counts {
    images: u64,
    cuts: u64,
    rows: u64,
    second: u64,
}

/// A memory file system where there is one: an image is synced as often as it is opened.
pub(crate) fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        // For the copies that are read, too. Whoever asked for it first has set it.
        let _ = tempfile::env::override_temp_dir(memory);
    }
    tempfile::tempdir().unwrap()
}

fn journal_in(root: &Path) -> PathBuf {
    root.join("state").join("journal.db")
}

fn rows_in(path: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    let summary = Snapshot::take(path).unwrap().read(|row| rows.push(row)).unwrap();
    assert_eq!(summary.problems, vec![]);
    rows
}

fn record(root: &Path, before: Disk, floor: Head, acts: impl IntoIterator<Item = usize>) -> Recording {
    let out = directory();
    let path = journal_in(root);
    let mut events = Vec::new();
    for number in acts {
        let variables = [(PATH, path.to_str().unwrap()), (ACT, &number.to_string())];
        events.extend(trace::record(
            "power::child",
            &variables,
            root,
            &out.path().join("trace"),
        ));
    }
    Recording {
        root: root.to_owned(),
        before,
        floor,
        events,
        written: rows_in(&path),
    }
}

/// What is lost: first the extremes, then whatever the seed says.
fn choice(number: u64, rng: &mut Rng) -> (Data, Kept) {
    let data = [
        Data::Lost,
        Data::Kept,
        Data::Torn,
        Data::Some,
        Data::Reordered,
        Data::Sectors,
        Data::Zeros,
        Data::Garbage,
    ];
    match number {
        0 => (Data::Lost, Kept::None),
        1 => (Data::Kept, Kept::All),
        2 => (Data::Lost, Kept::All),
        3 => (Data::Kept, Kept::None),
        _ => (
            data[rng.usize(2..data.len())],
            [Kept::None, Kept::All, Kept::First, Kept::Any][rng.usize(..4)],
        ),
    }
}

/// Loses the power after every event, in so many ways each. Gives back some of the images that were left.
fn lose_power(recording: &Recording, seed: u64, ways: u64, counts: &mut Counts) -> Vec<(Image, Head)> {
    let mut disk = recording.before.clone();
    let mut floor = recording.floor;
    let mut known = HashSet::new();
    let mut left = Vec::new();
    for cut in 0..=recording.events.len() {
        for number in 0..ways {
            let mut rng = Rng::with_seed(seed ^ (cut as u64) << 32 ^ number);
            let (data, kept) = choice(number, &mut rng);
            let image = disk.lose_power(data, kept, &mut rng);
            let mut hasher = DefaultHasher::new();
            (&image, floor.seq).hash(&mut hasher);
            if known.insert(hasher.finish()) {
                let mut what = format!("SEED={seed}, cut {cut} of {}", recording.events.len());
                write!(
                    what,
                    ", way {number}: {data:?}, names {kept:?}, acknowledged {}",
                    floor.seq
                )
                .unwrap();
                reopen(&image, recording, floor, &what);
                counts.images += 1;
                counts.rows += floor.seq;
                left.push((image, floor));
            }
        }
        counts.cuts += 1;
        if let Some(event) = recording.events.get(cut) {
            disk.take_in(event);
            if let Event::Acknowledge(head) = event {
                assert!(head.seq >= floor.seq);
                assert_eq!(
                    hash_of(&recording.written, head.seq),
                    head.hash,
                    "what was acknowledged was written"
                );
                floor = *head;
            }
        }
    }
    left
}

fn hash_of(rows: &[Row], seq: u64) -> Hash {
    match usize::try_from(seq).unwrap() {
        0 => Hash::ZERO,
        seq => rows[seq - 1].hash,
    }
}

/// Reads and opens what is left: every acknowledged row, in a beginning of what was written, to be gone on with.
fn reopen(image: &Image, recording: &Recording, floor: Head, what: &str) {
    let directory = directory();
    lay_out(image, &recording.root, directory.path());
    let path = journal_in(directory.path());
    let least = usize::try_from(floor.seq).unwrap();
    match Snapshot::take(&path) {
        Ok(snapshot) => {
            let mut read = Vec::new();
            snapshot.read(|row| read.push(row)).unwrap();
            let summary = snapshot.verify(Some(floor.hash)).unwrap();
            assert_eq!(summary.problems, vec![], "{what}");
            assert!(read.len() >= least && recording.written.starts_with(&read), "{what}");
        }
        Err(error) => assert!(error.is_not_a_journal() && floor.seq == 0, "{what}: {error}"),
    }
    let opened = Journal::open(&path, &machine()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert!(
        opened.rows.len() >= least,
        "{what}: {} rows are left",
        opened.rows.len()
    );
    assert!(
        recording.written.starts_with(&opened.rows),
        "{what}: not a beginning of what was written"
    );
    let mut journal = opened.journal;
    let head = journal.append(9, &[boot(), note("\"on\"")], &[b"more"]).unwrap();
    drop(journal);
    let summary = Snapshot::take(&path).unwrap().verify(Some(head.hash)).unwrap();
    assert_eq!((summary.head, summary.problems), (head, vec![]), "{what}");
}

#[test]
fn a_loss_of_power_takes_no_acknowledged_row_and_leaves_a_beginning_of_what_was_written() {
    let whole = crate::whole_proof();
    let (ways, again) = if whole { (150, 40) } else { (7, 4) };
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => Rng::new().u64(..),
    };
    let mut counts = Counts::default();
    let directory = directory();
    let life = record(directory.path(), Disk::default(), Head::EMPTY, 0..ACTS);
    let left = lose_power(&life, seed, ways, &mut counts);

    // And once more, while the journal recovers from the first loss.
    let mut rng = Rng::with_seed(seed);
    for _ in 0..again {
        let (image, floor) = &left[rng.usize(..left.len())];
        let directory = self::directory();
        lay_out(image, &life.root, directory.path());
        let moved = moved(image, &life.root, directory.path());
        let recovery = record(directory.path(), Disk::of(&moved), *floor, [AFTER]);
        let before = counts.images;
        lose_power(&recovery, seed, ways.min(12), &mut counts);
        counts.second += counts.images - before;
    }
    assert!(counts.images >= 500, "{counts:?}");
    let Counts {
        images,
        cuts,
        rows,
        second,
    } = counts;
    println!(
        "proof: power loss: {images} images, {second} of them of a second loss, {cuts} cuts, {rows} acknowledged rows \
         checked, 0 lost"
    );
}

fn moved(image: &Image, from: &Path, to: &Path) -> Image {
    let path = |path: &Path| to.join(path.strip_prefix(from).unwrap());
    image.iter().map(|(name, bytes)| (path(name), bytes.clone())).collect()
}
