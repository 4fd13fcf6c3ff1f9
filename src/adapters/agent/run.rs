//! Runs a launched agent to its end: drains it whatever happens, holds it to its bounds, and judges it. And what the files
//! of an earlier run prove after the runner itself was killed.

use std::fs;
use std::future::Future;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::AgentKind;
use super::activity::Seen;
use super::judge::{Judgement, judge};
use super::stream::{AgentReport, Conclusion, Stream, StreamEnd};
use super::transcript::{Transcript, read_transcript};
use crate::crash::{self, CrashPoint, Inside};
use crate::process::{Ended, Exit, Launch, LaunchError, ReportError, Running, Stopped, read_report};
use crate::redact::{Redactor, Scrub};

/// How much of the end of standard error is kept, in bytes.
const STDERR_LIMIT: usize = 8 * 1024;
/// How long the pipes may stay open after the supervisor has ended. Only a lost supervisor leaves somebody who has them.
const DRAIN: Duration = Duration::from_secs(2);
const CHUNK: usize = 64 * 1024;
/// A read that brought less than a page came of small writes, and is not followed by the next one at once: an agent that writes
/// line by line would have to wake its reader for each of them.
const SMALL: usize = 4 * 1024;
const PAUSE: Duration = Duration::from_millis(1);

/// How long an agent may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// By the clock on the wall, from the start.
    pub timeout: Duration,
    /// Without a word on either output.
    pub idle: Option<Duration>,
    /// After it has said its last word: some were seen to hang there.
    pub linger: Duration,
}

impl Bounds {
    /// A time-out on the wall clock, no bound on silence, and ten seconds after the last word.
    pub const fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            idle: None,
            linger: Duration::from_secs(10),
        }
    }
}

/// Somebody wants an agent to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order<R> {
    /// Why.
    pub reason: R,
    /// How quickly.
    pub haste: Haste,
}

/// Whether an agent that is to end may say goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// TERM, the grace, KILL.
    InOrder,
    /// KILL.
    AtOnce,
}

/// Which bound ended an agent. `R` is what the one who stopped it gave as the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy<R> {
    /// None: it ended.
    Itself,
    /// Its time was over.
    TimeOut,
    /// It was silent for too long.
    Idle,
    /// It was told to stop.
    Stop(R),
    /// It had said its last word and did not go.
    LingeredAfterResult,
}

/// How an agent's run ended.
#[derive(Debug)]
pub struct AgentEnd<R> {
    /// What it means.
    pub judgement: Judgement,
    /// How its processes ended.
    pub ended: Ended,
    /// Which bound ended it.
    pub by: EndedBy<R>,
    /// The end of its standard error.
    pub stderr: String,
    /// Why not all that it printed is in its transcript. It is stopped when that is found out.
    pub unkept: Option<Unkept>,
}

/// A transcript that cannot be written: the disk is full, most likely.
#[derive(Debug, Error)]
#[error("write the transcript {path}: {source}")]
pub struct Unkept {
    /// The transcript.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Why a run has no end that could be judged. When it is returned, the agent has been told to end.
#[derive(Debug, Error)]
pub enum RunError {
    /// It could not be started, or how it ended could not be learnt.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// There is a transcript already: each attempt has its own.
    #[error("the transcript {path} is there already, from an earlier attempt")]
    TranscriptExists {
        /// The transcript.
        path: PathBuf,
    },
    /// The transcript cannot be made, and nothing was started.
    #[error(transparent)]
    Transcript(Unkept),
}

/// Starts the agent and goes with it to its end, when all of its processes are dead and its transcript is on the disk.
/// `stop` ends it. Dropped half way, it kills the agent. No secret that `redactor` knows is in the transcript, in
/// what is said of the agent's doings, or in what it is judged to have said.
pub async fn run<R, S, A>(
    kind: AgentKind,
    launch: &Launch,
    transcript: &Path,
    bounds: Bounds,
    stop: S,
    mut see: A,
    redactor: Redactor,
) -> Result<AgentEnd<R>, RunError>
where
    S: Future<Output = Order<R>>,
    A: FnMut(Seen) + Send,
{
    let kept = Transcript::create(transcript, &redactor).map_err(|source| not_made(transcript, source))?;
    let mut watch = Watch {
        scrub: redactor.stream(),
        transcript: kept,
        stream: Stream::new(redactor),
        stderr: Vec::new(),
        unwritten: false,
    };
    let running = launch.start()?;
    crash::at(CrashPoint::Inside(Inside::AgentStarted));
    let (by, ended) = watch.follow(running, bounds, stop, &mut see).await?;
    let rest = watch.scrub.finish();
    watch.stderr.extend(rest);
    let end = watch.stream.finish(&mut |activity| see(Seen::Does(activity)));
    let written = watch.transcript.finish().await;
    let unkept = written.err().map(|source| Unkept {
        path: transcript.to_owned(),
        source,
    });
    let stderr = String::from_utf8_lossy(&watch.stderr).into_owned();
    Ok(AgentEnd {
        judgement: judge(kind, &ended, &end, &stderr),
        ended,
        by,
        stderr,
        unkept,
    })
}

fn not_made(path: &Path, source: io::Error) -> RunError {
    let path = path.to_owned();
    if source.kind() == ErrorKind::AlreadyExists {
        RunError::TranscriptExists { path }
    } else {
        RunError::Transcript(Unkept { path, source })
    }
}

struct Watch {
    transcript: Transcript,
    stream: Stream,
    stderr: Vec<u8>,
    scrub: Scrub,
    /// Whether the transcript takes no more.
    unwritten: bool,
}

/// What one turn of the loop brought.
enum Woke<R> {
    Stdout(usize),
    Stderr(usize),
    Bound(EndedBy<R>, Haste),
    Ended(Result<Ended, LaunchError>),
}

impl Watch {
    async fn follow<R, S: Future<Output = Order<R>>>(
        &mut self,
        running: Running,
        bounds: Bounds,
        stop: S,
        see: &mut (dyn FnMut(Seen) + Send),
    ) -> Result<(EndedBy<R>, Ended), LaunchError> {
        let Running {
            mut stdout,
            mut stderr,
            mut supervision,
        } = running;
        let mut stop = pin!(stop);
        let (mut out, mut err) = (vec![0; CHUNK], vec![0; CHUNK]);
        let (mut out_open, mut err_open) = (true, true);
        let mut by = None;
        let mut concluded = None;
        let deadline = after(Instant::now(), bounds.timeout);
        let mut heard = Instant::now();
        let mut read_again = heard;
        let ended = loop {
            let quiet_until = bounds.idle.map_or(deadline, |idle| after(heard, idle));
            let linger_until = concluded.map_or(deadline, |since| after(since, bounds.linger));
            let woke = tokio::select! {
                read = read_where_room(&self.transcript, read_again, &mut stdout, &mut out), if out_open => Woke::Stdout(read.unwrap_or(0)),
                read = stderr.read(&mut err), if err_open => Woke::Stderr(read.unwrap_or(0)),
                ended = supervision.ended() => Woke::Ended(ended),
                order = &mut stop, if by.is_none() => Woke::Bound(EndedBy::Stop(order.reason), order.haste),
                () = sleep_until(deadline), if by.is_none() => Woke::Bound(EndedBy::TimeOut, Haste::InOrder),
                () = sleep_until(linger_until), if by.is_none() && concluded.is_some() => {
                    Woke::Bound(EndedBy::LingeredAfterResult, Haste::InOrder)
                }
                () = sleep_until(quiet_until), if by.is_none() && bounds.idle.is_some() => {
                    Woke::Bound(EndedBy::Idle, Haste::InOrder)
                }
            };
            match woke {
                Woke::Ended(ended) => break ended,
                Woke::Bound(bound, haste) => {
                    by = Some(bound);
                    match haste {
                        Haste::InOrder => supervision.stop(),
                        Haste::AtOnce => supervision.kill(),
                    }
                }
                Woke::Stdout(read) => {
                    heard = Instant::now();
                    out_open = read > 0;
                    read_again = if read < SMALL { heard + PAUSE } else { heard };
                    self.take(&out[..read], see);
                    if self.unwritten {
                        supervision.stop();
                    }
                    concluded = match self.stream.conclusion() {
                        Conclusion::Concluded => concluded.or_else(|| {
                            // What a successor would judge by.
                            self.transcript.hurry();
                            Some(heard)
                        }),
                        Conclusion::Open | Conclusion::Waiting => None,
                    };
                }
                Woke::Stderr(read) => {
                    heard = Instant::now();
                    err_open = read > 0;
                    self.complain(&err[..read]);
                }
            }
        };
        // What is still in the pipes. They end, because nobody has them any more; a lost supervisor is the exception.
        let until = Instant::now() + DRAIN;
        while out_open
            && let Ok(Ok(read @ 1..)) = timeout_at(
                until,
                read_where_room(&self.transcript, read_again, &mut stdout, &mut out),
            )
            .await
        {
            self.take(&out[..read], see);
        }
        while err_open && let Ok(Ok(read @ 1..)) = timeout_at(until, stderr.read(&mut err)).await {
            self.complain(&err[..read]);
        }
        Ok((by.unwrap_or(EndedBy::Itself), ended?))
    }

    fn take(&mut self, bytes: &[u8], see: &mut (dyn FnMut(Seen) + Send)) {
        self.unwritten |= !self.transcript.write(bytes);
        let before = self.stream.turns();
        self.stream.feed(bytes, &mut |activity| see(Seen::Does(activity)));
        let turns = self.stream.turns();
        if turns != before {
            see(Seen::Turns(turns));
        }
    }

    fn complain(&mut self, bytes: &[u8]) {
        // Before it is cut: half a secret is not known any more.
        self.stderr.extend(self.scrub.feed(bytes));
        let surplus = self.stderr.len().saturating_sub(STDERR_LIMIT);
        self.stderr.drain(..surplus);
    }
}

/// What cannot be kept yet is left in the pipe.
async fn read_where_room(
    transcript: &Transcript,
    not_before: Instant,
    mut stdout: impl AsyncRead + Unpin,
    out: &mut [u8],
) -> io::Result<usize> {
    // The timer would take a millisecond for a moment that is over, too.
    if Instant::now() < not_before {
        sleep_until(not_before).await;
    }
    transcript.room().await;
    stdout.read(out).await
}

/// A moment that far away, or one that nobody lives to see.
fn after(moment: Instant, wait: Duration) -> Instant {
    const A_YEAR: Duration = Duration::from_hours(365 * 24);
    moment + wait.min(A_YEAR)
}

/// What the files of an agent's run prove after the runner was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It ran to its end, and this is how.
    Finished {
        /// What it means.
        judgement: Box<Judgement>,
        /// How its processes ended.
        ended: Ended,
    },
    /// It did not, or nothing proves it.
    NotFinished {
        /// How long it ran, as far as the files show.
        ran: Duration,
        /// What it said of its run until then.
        report: Box<AgentReport>,
    },
}

/// Why the files of a run could not be read.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The transcript.
    #[error("read the transcript {path}: {source}")]
    Transcript {
        /// The transcript.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The supervisor's report.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Looks at what a run left. `started` is when its intent was journaled. The caller holds `agent.lock`, so no supervisor
/// is still writing. A run is finished only where the report says that all processes are dead, and for `claude` the
/// transcript ends in a result, for `command` it exited with 0 by itself: the exit of a command whose pipe was torn by
/// the runner's death says nothing else.
pub fn probe(kind: AgentKind, transcript: &Path, report: &Path, started: SystemTime) -> Result<Probe, ProbeError> {
    let unreadable = |source| ProbeError::Transcript {
        path: transcript.to_owned(),
        source,
    };
    let ended = read_report(report)?;
    let (end, last_write) = match fs::metadata(transcript) {
        Ok(data) => {
            let written = data.modified().map_err(unreadable)?;
            (Some(read_all(transcript).map_err(unreadable)?), Some(written))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => (None, None),
        Err(error) => return Err(unreadable(error)),
    };
    if let (Some(ended), Some(end)) = (&ended, &end) {
        let proven = match kind {
            AgentKind::Claude => end.conclusion == Conclusion::Concluded,
            AgentKind::Command => ended.exit == Exit::Code(0) && ended.stopped == Stopped::No,
        };
        if proven && ended.failure.is_none() {
            return Ok(Probe::Finished {
                judgement: Box::new(judge(kind, ended, end, "")),
                ended: ended.clone(),
            });
        }
    }
    let by_transcript = last_write.and_then(|written| written.duration_since(started).ok());
    let ran = ended.map(|ended| ended.ran).or(by_transcript).unwrap_or_default();
    let report = end.map(|end| end.report).unwrap_or_default();
    Ok(Probe::NotFinished {
        ran,
        report: Box::new(report),
    })
}

fn read_all(transcript: &Path) -> io::Result<StreamEnd> {
    let mut file = read_transcript(transcript)?;
    // What is in there was redacted when it was written.
    let mut stream = Stream::new(Redactor::new());
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(stream.finish(&mut |_| {})),
            read => stream.feed(&chunk[..read], &mut |_| {}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Room(tempfile::TempDir);

    impl Room {
        fn new(transcript: &str, report: Option<&str>) -> Self {
            let room = Self(tempfile::tempdir().unwrap());
            let kept = zstd::encode_all(transcript.as_bytes(), 0).unwrap();
            fs::write(room.transcript(), kept).unwrap();
            if let Some(report) = report {
                fs::write(room.report(), report).unwrap();
            }
            room
        }
        fn transcript(&self) -> PathBuf {
            self.0.path().join("transcript.jsonl.zst")
        }
        fn report(&self) -> PathBuf {
            self.0.path().join("report.json")
        }
        fn probe(&self, kind: AgentKind) -> Probe {
            probe(
                kind,
                &self.transcript(),
                &self.report(),
                SystemTime::now() - Duration::from_mins(1),
            )
            .unwrap()
        }
    }

    const RESULT: &str = "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"done\"}\n";
    const CLEAN: &str = r#"{"exit":{"code":0},"stragglers":0,"ranMs":5000,"stopped":"no"}"#;
    const ABANDONED: &str = r#"{"exit":{"signal":9},"stragglers":2,"ranMs":7000,"stopped":"abandoned"}"#;

    #[test]
    fn a_run_with_a_result_and_a_report_is_finished_even_if_it_was_abandoned_after_it() {
        for report in [CLEAN, ABANDONED] {
            let found = Room::new(RESULT, Some(report)).probe(AgentKind::Claude);
            let Probe::Finished { judgement, .. } = found else {
                panic!("{found:?}");
            };
            assert!(matches!(*judgement, Judgement::Succeeded(_)), "{judgement:?}");
        }
    }

    #[test]
    fn a_result_without_a_report_proves_nothing_and_is_charged_up_to_its_last_write() {
        let found = Room::new(RESULT, None).probe(AgentKind::Claude);
        let Probe::NotFinished { ran, .. } = found else {
            panic!("{found:?}");
        };
        assert!(
            ran >= Duration::from_secs(59) && ran < Duration::from_mins(2),
            "{ran:?}"
        );
    }

    #[test]
    fn a_report_without_a_result_is_not_finished_and_its_time_is_known() {
        let found = Room::new("", Some(ABANDONED)).probe(AgentKind::Claude);
        let Probe::NotFinished { ran, .. } = found else {
            panic!("{found:?}");
        };
        assert_eq!(ran, Duration::from_secs(7));
    }

    #[test]
    fn a_command_is_finished_only_by_exit_0_of_its_own() {
        let finished = Room::new("text\n", Some(CLEAN)).probe(AgentKind::Command);
        assert!(matches!(finished, Probe::Finished { .. }), "{finished:?}");
        for report in [ABANDONED, &CLEAN.replace("\"code\":0", "\"code\":1")] {
            let found = Room::new(RESULT, Some(report)).probe(AgentKind::Command);
            assert!(matches!(found, Probe::NotFinished { .. }), "{found:?}");
        }
    }

    #[test]
    fn nothing_at_all_is_not_finished_and_costs_no_time() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path();
        let found = probe(AgentKind::Claude, &path.join("t"), &path.join("r"), SystemTime::now()).unwrap();
        let nothing = Probe::NotFinished {
            ran: Duration::ZERO,
            report: Box::default(),
        };
        assert_eq!(found, nothing);
    }
}
