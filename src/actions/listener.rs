//! The official listener, from its start to the end of its last process: told to stop, it lets a job end within the grace.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::crash::{ActionsCrash, Inside};
use super::machine::JobResult;
use super::marks::{Marked, Marks, Moment};
use super::words::{Lines, Said};
use crate::crash;
use crate::process::{Ended, Input, Launch, LaunchError, Running};
use crate::redact::Redactor;
use crate::sandbox::Demand;
use crate::secret::Secret;
use crate::term::{self, Term};
use crate::text::{cut, escape_controls};

/// How often the marks of the job's hooks are looked for. Nobody waits for it: it is for the log, and for who is told to stop.
const LOOK: Duration = Duration::from_millis(250);
/// How long the pipes may stay open after the supervisor has ended.
const DRAIN: Duration = Duration::from_secs(2);
/// Between TERM and KILL, for what outlives the listener.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// The longest part of the grace that a job has to be cancelled in, once its time is over.
const CANCEL: Duration = Duration::from_secs(10);
const CHUNK: usize = 16 * 1024;
/// A line of the listener's is logged up to this many bytes.
const LOGGED: usize = 500;
/// The variables that name the scripts that a job begins and ends with: ours, which leave the marks.
pub const HOOKS: [&str; 2] = ["ACTIONS_RUNNER_HOOK_JOB_STARTED", "ACTIONS_RUNNER_HOOK_JOB_COMPLETED"];

/// Where a listener's files are.
#[derive(Debug, Clone)]
pub struct Place {
    /// Our own binary: the supervisor, and what the hooks call.
    pub runner: PathBuf,
    /// The unpacked official runner.
    pub official: PathBuf,
    /// Ours.
    pub state: PathBuf,
    /// The assignment's id: the marks are that journal's alone.
    pub id: String,
}

impl Place {
    /// The listener's program. `run.sh` around it would turn each exit code into 0.
    pub fn program(&self) -> PathBuf {
        self.official.join("bin/Runner.Listener")
    }

    /// Held for as long as a process of the listener or of the job lives.
    pub fn lock(&self) -> PathBuf {
        self.state.join("listener.lock")
    }

    /// The marks of the job.
    pub fn marks(&self) -> Marks {
        Marks::below(&self.state, &self.id)
    }

    /// How the listener is started with a configuration, in an environment that has nothing else of ours.
    pub fn launch(&self, config: &Secret, mut env: Vec<(String, OsString)>) -> io::Result<Launch> {
        let [started, completed] = self.hooks()?;
        let mut set = |name: &str, value: OsString| env.push((name.to_owned(), value));
        // Not on the command line, which everybody sees in `ps`. The listener takes it out before it starts a job.
        set("ACTIONS_RUNNER_INPUT_JITCONFIG", config.expose().into());
        for (name, script) in HOOKS.into_iter().zip([started, completed]) {
            set(name, script.into());
        }
        // Else a version that is too old ends as anything else does.
        set("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE", "1".into());
        set(
            "GITHUB_ACTIONS_RUNNER_EXTRA_USER_AGENT",
            crate::adapters::http::USER_AGENT.into(),
        );
        Ok(Launch {
            runner: self.runner.clone(),
            program: self.program(),
            args: vec!["run".into()],
            cwd: self.official.clone(),
            env,
            stdin: Input::Null,
            confinement: None,
            require: Demand::BestEffort,
            lock: self.lock(),
            report: self.state.join("listener.json"),
            grace: KILL_GRACE,
            set_aside: 0,
        })
    }

    /// The scripts that a job's hooks are: the official runner takes no program, only a file that ends in `.sh`.
    fn hooks(&self) -> io::Result<[PathBuf; 2]> {
        self.marks().prepare()?;
        let directory = self.state.join("hooks");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let write = |moment: Moment| {
            let path = directory.join(format!("job-{moment}.sh"));
            let script = format!(
                "exec {} actions hook {moment} --marks {}\n",
                quoted(&self.runner),
                quoted(self.marks().directory())
            );
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o700)
                .open(&path)?;
            file.write_all(script.as_bytes())?;
            file.sync_all()?;
            Ok(path)
        };
        let scripts: io::Result<Vec<PathBuf>> = [Moment::Started, Moment::Completed].into_iter().map(write).collect();
        <[PathBuf; 2]>::try_from(scripts?).map_err(|_| io::ErrorKind::Other.into())
    }
}

/// For a shell, as one word.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// How a listener ended, and what it had said.
#[derive(Debug)]
pub struct ListenerEnd {
    /// How its first process ended; all others are dead as well.
    pub ended: Ended,
    /// Whether it had said that it has a job.
    pub had_a_job: HadAJob,
    /// What it said of the job's end.
    pub result: Option<JobResult>,
    /// The last line that it printed, for a person.
    pub last_words: String,
}

/// Whether a listener said that it has a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HadAJob {
    /// It did not.
    No,
    /// It did.
    Yes,
}

/// How far the listener is on its way out.
#[derive(Debug, Clone, Copy)]
enum Going {
    /// Nobody wants it to go.
    No,
    /// It is told at this moment, unless it goes by itself before.
    InterruptAt(Instant),
    /// It was told; it is killed at this moment.
    KillAt(Instant),
    /// It was killed.
    Killed,
}

/// What one turn of the loop brought.
enum Woke {
    Stdout(usize),
    Stderr(usize),
    Looked,
    Told,
    Due,
    Ended(Result<Ended, LaunchError>),
}

struct Watch<'a> {
    marks: &'a Marks,
    term: Term,
    redactor: &'a Redactor,
    going: Going,
    had_a_job: HadAJob,
    seen: Marked,
    result: Option<JobResult>,
    last_words: String,
}

/// Runs the listener to the end of its last process. Dropped half way, it kills all of them.
pub async fn run(launch: &Launch, marks: &Marks, term: Term, redactor: &Redactor) -> Result<ListenerEnd, LaunchError> {
    let running = launch.start()?;
    let mut watch = Watch {
        marks,
        term,
        redactor,
        going: Going::No,
        had_a_job: HadAJob::No,
        seen: Marked::Nothing,
        result: None,
        last_words: String::new(),
    };
    let ended = watch.follow(running).await?;
    Ok(ListenerEnd {
        ended,
        had_a_job: watch.had_a_job,
        result: watch.result,
        last_words: watch.last_words,
    })
}

impl Watch<'_> {
    async fn follow(&mut self, running: Running) -> Result<Ended, LaunchError> {
        let Running {
            mut stdout,
            mut stderr,
            mut supervision,
        } = running;
        let (mut out, mut err) = (vec![0; CHUNK], vec![0; CHUNK]);
        let (mut out_open, mut err_open) = (true, true);
        let (mut said, mut complained) = (Lines::default(), Lines::default());
        let mut told = self.term.told.clone();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.drain();
        let ended = loop {
            let due = match self.going {
                Going::InterruptAt(at) | Going::KillAt(at) => Some(at),
                Going::No | Going::Killed => None,
            };
            let woke = tokio::select! {
                read = stdout.read(&mut out), if out_open => Woke::Stdout(read.unwrap_or(0)),
                read = stderr.read(&mut err), if err_open => Woke::Stderr(read.unwrap_or(0)),
                ended = supervision.ended() => Woke::Ended(ended),
                _ = looks.tick() => Woke::Looked,
                () = term::told(&mut told), if matches!(self.going, Going::No) => Woke::Told,
                () = term::at(due), if due.is_some() => Woke::Due,
            };
            match woke {
                Woke::Ended(ended) => break ended,
                Woke::Stdout(read) => {
                    out_open = read > 0;
                    said.feed(&out[..read], |line| self.line(line));
                }
                Woke::Stderr(read) => {
                    err_open = read > 0;
                    complained.feed(&err[..read], |line| self.complaint(line));
                }
                Woke::Looked => self.look(),
                Woke::Told => self.drain(),
                Woke::Due => match self.going {
                    Going::InterruptAt(_) => {
                        tracing::info!("the listener is told to stop");
                        supervision.interrupt();
                        self.going = Going::KillAt(self.kill_at());
                    }
                    Going::KillAt(_) => {
                        tracing::warn!("the listener does not go, and is killed");
                        supervision.kill();
                        self.going = Going::Killed;
                    }
                    Going::No | Going::Killed => {}
                },
            }
        };
        let until = Instant::now() + DRAIN;
        while out_open && let Ok(Ok(read @ 1..)) = timeout_at(until, stdout.read(&mut out)).await {
            said.feed(&out[..read], |line| self.line(line));
        }
        while err_open && let Ok(Ok(read @ 1..)) = timeout_at(until, stderr.read(&mut err)).await {
            complained.feed(&err[..read], |line| self.complaint(line));
        }
        if let Some(line) = said.finish() {
            self.line(&line);
        }
        if let Some(line) = complained.finish() {
            self.complaint(&line);
        }
        self.look();
        ended
    }

    /// Where the runner was told to stop, sets when the listener is: at once without a job, else when the job's part of the
    /// grace is over.
    fn drain(&mut self) {
        let Some(at) = *self.term.told.borrow() else { return };
        self.look();
        let busy = self.had_a_job == HadAJob::Yes || self.seen != Marked::Nothing;
        self.going = Going::InterruptAt(if busy {
            let until = at + self.term.grace.saturating_sub(self.term.reserve() + self.cancel());
            tracing::info!(
                "told to stop: the job has {:?}",
                until.saturating_duration_since(Instant::now())
            );
            until
        } else {
            tracing::info!("told to stop, and there is no job");
            Instant::now()
        });
    }

    /// How long a job may take to be cancelled.
    fn cancel(&self) -> Duration {
        (self.term.grace / 4).min(CANCEL)
    }

    fn kill_at(&self) -> Instant {
        let cancelled = Instant::now() + self.cancel();
        let end = (*self.term.told.borrow()).map(|at| at + self.term.grace.saturating_sub(self.term.reserve()));
        end.map_or(cancelled, |end| cancelled.min(end))
    }

    /// Says what the marks say, once.
    fn look(&mut self) {
        // One that cannot be read is read by whoever judges.
        let Ok(now) = self.marks.read() else { return };
        if now == self.seen {
            return;
        }
        match (&self.seen, &now) {
            (Marked::Nothing, Marked::Begun(facts)) => {
                tracing::info!(
                    repository = facts.repository,
                    run = facts.run_id,
                    "job {} began",
                    facts.job
                );
                crash::at(ActionsCrash::Inside(Inside::JobBegun));
            }
            (Marked::Nothing | Marked::Begun(_), Marked::Completed(facts, _)) => {
                tracing::info!(
                    repository = facts.repository,
                    run = facts.run_id,
                    "job {} ended",
                    facts.job
                );
                crash::at(ActionsCrash::Inside(Inside::JobCompleted));
            }
            _ => {}
        }
        self.seen = now;
    }

    fn line(&mut self, line: &str) {
        match Said::of(line) {
            Said::Listening => {
                tracing::info!("the listener waits for a job");
                crash::at(ActionsCrash::Inside(Inside::ListenerStarted));
            }
            Said::Running => self.had_a_job = HadAJob::Yes,
            Said::Completed(result) => {
                self.result = Some(result);
                tracing::info!(%result, "the job is over");
                if let Err(error) = self.marks.result(result) {
                    tracing::warn!("the job's result is not kept for a later start: {error}");
                }
            }
            Said::Other => {}
        }
        let shown = self.shown(line);
        if !shown.is_empty() {
            tracing::debug!("listener: {shown}");
            self.last_words = shown;
        }
    }

    fn complaint(&mut self, line: &str) {
        let shown = self.shown(line);
        if !shown.is_empty() {
            tracing::warn!("listener: {shown}");
            self.last_words = shown;
        }
    }

    fn shown(&self, line: &str) -> String {
        cut(&escape_controls(&self.redactor.redact(line.trim())), LOGGED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        assert_eq!(quoted(Path::new("/a b/it's")), "'/a b/it'\\''s'");
    }
}
