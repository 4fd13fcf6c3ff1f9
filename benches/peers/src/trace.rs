//! What `strace` saw of a system: its syncs, and what a loss of power would have taken at each acknowledgement.

use std::collections::{BTreeSet, HashMap};

/// The system calls that are traced: what writes, what syncs.
pub const CALLS: &str = "trace=write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,msync";

/// What a traced run shows of the tasks after the first.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Tasks that began and ended.
    pub tasks: usize,
    /// `fsync` and `fdatasync` that succeeded while one ran.
    pub syncs: usize,
    /// Steps that were acknowledged.
    pub acknowledged: usize,
    /// The most acknowledged steps that were not on disk at an acknowledgement.
    pub exposed: usize,
}

/// A write to a log that no sync has made durable yet.
struct Write {
    process: u32,
    path: String,
    /// The acknowledgement that followed; none until one does.
    acknowledged: Option<usize>,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Running,
    Done,
}

#[derive(Default, PartialEq)]
enum Task {
    #[default]
    None,
    Running,
}

#[derive(Default)]
struct Reader {
    seen: Seen,
    begun: usize,
    /// Every acknowledgement, of the first task too: a step of it can be lost as well.
    acknowledgements: usize,
    /// Those of steps before which nothing was written: no sync can save them.
    unwritten: usize,
    wrote: bool,
    /// By number, in order.
    writes: Vec<(usize, Write)>,
    next: usize,
    /// Syncs that run, by process: the writes that they make durable.
    syncs: HashMap<u32, Vec<usize>>,
    task: Task,
}

/// Reads a trace of `strace -f -y`. Only files below `directory` count.
pub fn read(trace: &str, directory: &str) -> Seen {
    let mut reader = Reader::default();
    for line in trace.lines() {
        reader.line(line, directory);
    }
    reader.seen
}

impl Reader {
    fn line(&mut self, line: &str, directory: &str) -> Option<()> {
        let (process, call) = line.trim_start().split_once(' ')?;
        let process = process.parse().ok()?;
        let call = call.trim_start();
        if let Some(resumed) = call.strip_prefix("<... ") {
            self.ends(process, resumed.split(' ').next()?, succeeded(call));
            return Some(());
        }
        let (name, arguments) = call.split_once('(')?;
        if name.starts_with("write") && arguments.starts_with("2<") {
            self.told(arguments.split('"').nth(1)?);
            return Some(());
        }
        let path = arguments.split_once('<')?.1.split_once('>')?.0;
        if !path.starts_with(directory) {
            return Some(());
        }
        self.begins(process, name, path);
        if !call.ends_with("<unfinished ...>") {
            self.ends(process, name, succeeded(call));
        }
        Some(())
    }

    fn begins(&mut self, process: u32, name: &str, path: &str) {
        if name.contains("sync") {
            let covered = self
                .writes
                .iter()
                .filter(|(_, write)| write.path == path && write.state == State::Done);
            self.syncs.insert(process, covered.map(|(number, _)| *number).collect());
        } else if path.ends_with("-wal") {
            // The database itself is written from a log that was synced before: what it lacks, the log has.
            let write = Write {
                process,
                path: path.to_owned(),
                acknowledged: None,
                state: State::Running,
            };
            self.writes.push((self.next, write));
            self.next += 1;
            self.wrote = true;
        }
    }

    fn ends(&mut self, process: u32, name: &str, succeeded: bool) {
        if !name.contains("sync") {
            for (_, write) in self.writes.iter_mut().filter(|(_, write)| write.process == process) {
                write.state = State::Done;
            }
            return;
        }
        let Some(covered) = self.syncs.remove(&process).filter(|_| succeeded) else {
            return;
        };
        self.writes.retain(|(number, _)| covered.binary_search(number).is_err());
        if self.task == Task::Running && self.begun > 1 {
            self.seen.syncs += 1;
        }
    }

    /// What the system's process said about itself.
    fn told(&mut self, what: &str) {
        match what {
            r"begin\n" => {
                self.begun += 1;
                // What made the database, and a log of it that is gone by now, is no step. Where a step needs what
                // stands before it in its own log, a sync of that log covers both.
                self.writes.retain(|(_, write)| write.acknowledged.is_some());
                self.wrote = false;
                self.task = Task::Running;
            }
            r"end\n" => {
                self.task = Task::None;
                self.seen.tasks += usize::from(self.begun > 1);
            }
            r"ack\n" => self.acknowledged(),
            _ => {}
        }
    }

    fn acknowledged(&mut self) {
        self.acknowledgements += 1;
        self.unwritten += usize::from(!std::mem::take(&mut self.wrote));
        for (_, write) in &mut self.writes {
            write.acknowledged.get_or_insert(self.acknowledgements);
        }
        let pending: BTreeSet<_> = self.writes.iter().filter_map(|(_, write)| write.acknowledged).collect();
        self.seen.exposed = self.seen.exposed.max(pending.len() + self.unwritten);
        self.seen.acknowledged += usize::from(self.begun > 1);
    }
}

fn succeeded(call: &str) -> bool {
    call.ends_with("= 0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traced(lines: &[&str]) -> Seen {
        let text: Vec<_> = lines
            .iter()
            .map(|line| line.replace("LOG", "12</d/x.db-wal>"))
            .collect();
        read(&text.join("\n"), "/d")
    }

    const BEGIN: &str = r#"7 write(2</dev/pts/0>, "begin\n", 6) = 6"#;
    const ACK: &str = r#"7 write(2</dev/pts/0>, "ack\n", 4) = 4"#;
    const END: &str = r#"7 write(2</dev/pts/0>, "end\n", 4) = 4"#;
    const WRITE: &str = r#"7 pwrite64(LOG, "x", 1, 0) = 1"#;
    const SYNC: &str = "7 fdatasync(LOG) = 0";

    #[test]
    fn a_step_that_is_synced_before_it_is_acknowledged_is_not_exposed() {
        let seen = traced(&[BEGIN, WRITE, SYNC, ACK, END, BEGIN, WRITE, SYNC, ACK, END]);
        let expected = Seen {
            tasks: 1,
            syncs: 1,
            acknowledged: 1,
            exposed: 0,
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn steps_that_are_acknowledged_first_are_exposed_until_a_sync() {
        let seen = traced(&[BEGIN, WRITE, ACK, WRITE, ACK, WRITE, SYNC, ACK, END]);
        assert_eq!(seen.exposed, 2);
    }

    #[test]
    fn a_sync_that_fails_or_is_of_another_file_saves_nothing() {
        let failed = "7 fdatasync(LOG) = -1 EIO (Input/output error)";
        let other = "7 fdatasync(13</d/y.db-wal>) = 0";
        assert_eq!(traced(&[BEGIN, WRITE, failed, other, ACK]).exposed, 1);
    }

    #[test]
    fn a_sync_does_not_cover_what_is_written_while_it_runs() {
        let (begins, ends) = ("8 fdatasync(LOG <unfinished ...>", "8 <... fdatasync resumed>) = 0");
        assert_eq!(traced(&[BEGIN, begins, WRITE, ends, ACK]).exposed, 1);
        assert_eq!(traced(&[BEGIN, WRITE, begins, ACK, ends]).exposed, 1);
        assert_eq!(traced(&[BEGIN, WRITE, begins, ends, ACK]).exposed, 0);
    }

    #[test]
    fn a_step_before_which_nothing_was_written_is_exposed_for_ever() {
        assert_eq!(traced(&[BEGIN, WRITE, SYNC, ACK, ACK, WRITE, SYNC, ACK]).exposed, 1);
    }

    #[test]
    fn what_was_written_before_a_task_is_no_step_of_it() {
        let making = r#"7 pwrite64(9</d/x.db.new-wal>, "x", 1, 0) = 1"#;
        assert_eq!(traced(&[making, BEGIN, WRITE, SYNC, ACK]).exposed, 0);
        assert_eq!(traced(&[BEGIN, WRITE, ACK, END, BEGIN, WRITE, SYNC, ACK]).exposed, 1);
        assert_eq!(traced(&[making, BEGIN, ACK]).exposed, 1);
    }
}
