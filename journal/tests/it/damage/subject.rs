//! A journal to be damaged: what was written, its files' bytes, and what must hold of whatever is left of it.

use std::fs;
use std::path::PathBuf;

use runner_journal::{Journal, Problem, Row, Snapshot};

use crate::{lived, machine, place};

/// How its runner ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ended {
    /// Closed: everything is in the database.
    Closed,
    /// Killed: the rows are in the log.
    Killed,
}

/// Whether a runner is to open the damaged journal too, which syncs, and costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Read,
    ReadAndOpen,
}

pub(super) struct Subject {
    written: Vec<Row>,
    pub(super) database: Vec<u8>,
    pub(super) log: Option<Vec<u8>>,
    directory: tempfile::TempDir,
    pub(super) seen: Seen,
}

/// What came of all that was done to it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Damaged journals.
    pub(super) damaged: u64,
    /// Rows of them that were called good, each of which was held against what was written.
    pub(super) good: u64,
    /// Of the damaged journals, those that said that something is wrong, or were refused.
    pub(super) told: u64,
    /// Rows that were not told, each of which was named as missing, or its whole file refused.
    pub(super) named: u64,
}

impl Subject {
    pub(super) fn new(ended: Ended) -> Self {
        let (directory, path) = place();
        let journal = lived(&path);
        match ended {
            Ended::Closed => journal.close().unwrap(),
            Ended::Killed => drop(journal),
        }
        let mut written = Vec::new();
        let summary = Snapshot::take(&path).unwrap().read(|row| written.push(row)).unwrap();
        assert!(summary.whole());
        assert_eq!(written.len(), 15);
        let log = fs::read(path.with_file_name("journal.db-wal")).ok();
        assert_eq!(log.is_some(), matches!(ended, Ended::Killed));
        Self {
            written,
            database: fs::read(&path).unwrap(),
            log,
            directory,
            seen: Seen::default(),
        }
    }

    pub(super) fn log(&self) -> &[u8] {
        self.log.as_ref().unwrap()
    }

    fn put(&self, database: Option<&[u8]>, log: Option<&[u8]>) -> PathBuf {
        let directory = self.directory.path().join("copy");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        let path = directory.join("journal.db");
        if let Some(database) = database {
            fs::write(&path, database).unwrap();
        }
        if let Some(log) = log {
            fs::write(path.with_file_name("journal.db-wal"), log).unwrap();
        }
        path
    }

    /// Puts these files in the journal's place, and holds what is told of them against what was written.
    pub(super) fn hold(&mut self, database: Option<&[u8]>, log: Option<&[u8]>, then: Then, what: &str) -> u64 {
        let path = self.put(database, log);
        let good = self.read(&path, what);
        // All rows that were written, or a refusal. Fewer only from the end, which a torn write would look like.
        if then == Then::ReadAndOpen
            && let Ok(opened) = Journal::open(&path, &machine())
        {
            assert!(
                self.written.starts_with(&opened.rows),
                "{what}: went on from other rows"
            );
        }
        good
    }

    pub(super) fn hold_database(&mut self, database: &[u8], then: Then, what: &str) -> u64 {
        let log = self.log.clone();
        self.hold(Some(database), log.as_deref(), then, what)
    }

    pub(super) fn hold_log(&mut self, log: &[u8], then: Then, what: &str) -> u64 {
        let database = self.database.clone();
        self.hold(Some(&database), Some(log), then, what)
    }

    fn read(&mut self, path: &std::path::Path, what: &str) -> u64 {
        self.seen.damaged += 1;
        let every = self.written.len() as u64;
        let Ok(snapshot) = Snapshot::take(path) else {
            self.seen.told += 1;
            self.seen.named += every;
            return 0;
        };
        let mut good = Vec::new();
        let read = snapshot.read(|row| good.push(row)).unwrap();
        for row in &good {
            let index = usize::try_from(row.seq).unwrap() - 1;
            assert_eq!(Some(row), self.written.get(index), "{what}: a wrong row is called good");
        }
        assert!(good.is_sorted_by(|row, next| row.seq < next.seq), "{what}");
        let head = self.written.last().unwrap().hash;
        let summary = snapshot.verify(Some(head)).unwrap();
        let count = good.len() as u64;
        assert_eq!((read.rows, summary.rows), (count, count), "{what}");
        for seq in (1..=every).filter(|seq| good.iter().all(|row| row.seq != *seq)) {
            let problems = &summary.problems;
            assert!(
                problems.iter().any(|problem| names(problem, seq)),
                "{what}: row {seq} is not told, and not named in {problems:?}"
            );
            self.seen.named += 1;
        }
        self.seen.good += count;
        self.seen.told += u64::from(!summary.whole());
        count
    }
}

/// Whether somebody who reads this problem knows that the row is not to be had.
fn names(problem: &Problem, row: u64) -> bool {
    match problem {
        Problem::Altered { from, to }
        | Problem::Missing { from, to }
        | Problem::NotUnderstood { from, to }
        | Problem::Unlinked { from, to } => (*from..=*to).contains(&row),
        Problem::Replaced { seq } | Problem::Illegal { seq, .. } => *seq == row,
        Problem::Unreadable { from, .. } => *from <= row,
        Problem::HeadMissing { last, .. } => last.seq < row,
        Problem::Machine { .. } => true,
        Problem::Edges { .. }
        | Problem::Pages { .. }
        | Problem::Schema { .. }
        | Problem::BlobAltered { .. }
        | Problem::BlobMissing { .. }
        | Problem::Blobs { .. }
        | Problem::DatabaseGone { .. }
        | Problem::More { .. } => false,
    }
}
