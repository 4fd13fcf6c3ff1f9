//! The driver and a real journal against an outside world in memory: single cases here, whole lives that nobody thought of in
//! `model`.

use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;
use runner_journal::{Head, Journal, Snapshot};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;
use crate::machine::{
    Ack, AgentReport, ArchiveEnd, ArchivePatience, Archived, Archiving, Checkout, CommandEnd, CommandRun, Cut, Fact,
    Failure, Handover, Left, Next, NoChanges, PullRequest, StartPatience, TokenFacts, TokenHistory, Trouble,
    VerdictKind,
};
use crate::task::sample;

mod model;
mod outside;

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Luck {
    Good,
    /// Nothing is done, and that is known.
    Refused,
    /// The task is ended elsewhere.
    Gone,
    /// No answer ever comes.
    Hangs,
    /// What runs in the tree comes to a bad end: the agent is cut short, the check is red.
    Bad,
}

/// What is outside, and outlives the runner.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing outside that is there or is not"
)]
#[derive(Debug, Default)]
struct Outside {
    luck: Vec<Luck>,
    calls: usize,
    token_marked: bool,
    tokens_given: u32,
    sealed: bool,
    cloned: bool,
    agent_runs: u32,
    /// The attempt whose agent came to its end.
    agent_done: Option<u32>,
    handed_over: bool,
    pushes: u32,
    pull_requests: u32,
    archives: u32,
    verdicts: Vec<String>,
}

#[derive(Clone, Default)]
struct World {
    outside: Arc<Mutex<Outside>>,
}

impl World {
    fn lucky(luck: Vec<Luck>) -> Self {
        let outside = Outside {
            luck,
            ..Outside::default()
        };
        Self {
            outside: Arc::new(Mutex::new(outside)),
        }
    }
}

fn retry() -> Outcome {
    Outcome::Retry {
        trouble: Trouble::Unreachable,
        cause: "refused".to_owned(),
        after_ms: None,
        left: Left::default(),
    }
}

fn anew() -> Left {
    Left {
        next: Next::BeginAnew,
        ..Left::default()
    }
}

fn done(fact: Fact) -> Outcome {
    Outcome::Done { fact }
}

fn failed(failure: Failure) -> Outcome {
    Outcome::Failed {
        failure,
        cause: String::new(),
        agent: None,
    }
}

fn token_facts() -> TokenFacts {
    TokenFacts {
        sha256_prefix: "0".to_owned(),
        expires_at_ms: Millis::MAX / 2,
    }
}

fn checkout() -> Checkout {
    Checkout {
        base: "a".repeat(40).parse().unwrap(),
        base_branch: "main".parse().unwrap(),
        branch: "runner/t".parse().unwrap(),
    }
}

fn archived() -> Archived {
    Archived {
        to: "/archive/t.tar.zst".to_owned(),
        bytes: 1,
        sha256: "c".repeat(64),
        left_out: Vec::new(),
    }
}

fn exited(code: i32) -> CommandRun {
    CommandRun {
        end: CommandEnd::Exit(code),
        ran_ms: 1,
        output: String::new(),
    }
}

fn handover(cut: Option<Cut>) -> Handover {
    Handover {
        head: Some("b".repeat(40).parse().unwrap()),
        commits: 1,
        files: 1,
        flattened: None,
        cut,
    }
}

impl Outside {
    /// Does an effect for real: each at most once is what the test is about, so nothing here forgives a second time.
    fn work(&mut self, effect: &Effect, attempt: u32) -> Outcome {
        match effect {
            Effect::Start { .. } => done(Fact::Started { told: true }),
            Effect::Data => done(Fact::Data { task: sample() }),
            Effect::Token { history } => {
                if self.token_marked {
                    return failed(match history {
                        TokenHistory::NeverAsked => Failure::TokenAlreadyIssued,
                        TokenHistory::AnswerLost => Failure::TokenAmbiguous,
                        TokenHistory::MintFailed => Failure::TokenMintFailed,
                    });
                }
                self.token_marked = true;
                self.tokens_given += 1;
                done(Fact::Token(token_facts()))
            }
            Effect::Clone { .. } => {
                self.cloned = true;
                done(Fact::Cloned(checkout()))
            }
            Effect::Agent(_) => {
                self.agent_runs += 1;
                self.agent_done = Some(attempt);
                done(Fact::AgentEnded(AgentReport::default()))
            }
            Effect::Setup(_) => done(Fact::SetUp(exited(0))),
            Effect::Check(_) => done(Fact::Checked(exited(0))),
            Effect::Handover { cut, .. } => {
                self.handed_over = true;
                done(Fact::HandedOver(handover(cut.clone())))
            }
            Effect::Push { .. } => {
                self.pushes += 1;
                done(Fact::Pushed)
            }
            Effect::PullRequest { .. } => {
                self.pull_requests += 1;
                done(Fact::PullRequest(PullRequest {
                    number: 1,
                    url: "http://127.0.0.1/1".to_owned(),
                }))
            }
            Effect::Report { verdict, .. } => {
                self.verdicts.push(verdict.body.clone());
                done(Fact::Reported { ack: Ack::Accepted })
            }
            Effect::Archive { .. } => {
                self.archives += 1;
                done(Fact::Archived(archived()))
            }
        }
    }

    /// What a bad end makes of what runs in the tree; none for what does not.
    fn end_badly(&mut self, effect: &Effect) -> Option<Outcome> {
        match effect {
            Effect::Agent(_) => {
                self.agent_runs += 1;
                Some(Outcome::Failed {
                    failure: Failure::AgentTimedOut,
                    cause: String::new(),
                    agent: Some(AgentReport::default()),
                })
            }
            Effect::Check(_) => Some(done(Fact::Checked(exited(1)))),
            Effect::Start { .. }
            | Effect::Data
            | Effect::Token { .. }
            | Effect::Clone { .. }
            | Effect::Setup(_)
            | Effect::Handover { .. }
            | Effect::Push { .. }
            | Effect::PullRequest { .. }
            | Effect::Report { .. } => None,
            Effect::Archive { .. } => Some(Outcome::Missed { cause: String::new() }),
        }
    }

    fn look(&self, effect: &Effect, attempt: u32) -> Probe {
        let found = match effect {
            Effect::Start { .. }
            | Effect::Data
            | Effect::Setup(_)
            | Effect::Check(_)
            | Effect::Report { .. }
            | Effect::Archive { .. } => None,
            Effect::Token { .. } => self.sealed.then(|| Fact::Token(token_facts())),
            Effect::Clone { .. } => self.cloned.then(|| Fact::Cloned(checkout())),
            Effect::Agent(_) => {
                let ended = self.agent_done == Some(attempt);
                ended.then(|| Fact::AgentEnded(AgentReport::default()))
            }
            Effect::Handover { cut, .. } => self.handed_over.then(|| Fact::HandedOver(handover(cut.clone()))),
            Effect::Push { .. } => (self.pushes > 0).then_some(Fact::Pushed),
            Effect::PullRequest { .. } => (self.pull_requests > 0).then(|| {
                Fact::PullRequest(PullRequest {
                    number: 1,
                    url: "http://127.0.0.1/1".to_owned(),
                })
            }),
        };
        match found {
            Some(fact) => Probe::Ended(done(fact)),
            None => Probe::NotDone(Left::default()),
        }
    }

    fn next_luck(&mut self) -> Luck {
        let luck = self.luck.get(self.calls).copied().unwrap_or(Luck::Good);
        self.calls += 1;
        luck
    }
}

fn lost() -> AnswerLost {
    AnswerLost {
        cause: "lost".to_owned(),
    }
}

impl Execute for World {
    async fn probe(&self, effect: &Effect, call: &Call) -> Result<Probe, AnswerLost> {
        let luck = self.outside.lock().unwrap().next_luck();
        match luck {
            Luck::Refused => Err(lost()),
            Luck::Hangs => std::future::pending().await,
            Luck::Good | Luck::Gone | Luck::Bad => Ok(self.outside.lock().unwrap().look(effect, call.attempt)),
        }
    }

    async fn act(&self, effect: &Effect, call: &Call) -> Result<Outcome, AnswerLost> {
        let luck = self.outside.lock().unwrap().next_luck();
        let last_time = matches!(
            effect,
            Effect::Start {
                patience: StartPatience::LastTime,
                ..
            }
        );
        match luck {
            // Best effort: whatever comes the last time is taken.
            Luck::Refused if last_time => return Ok(done(Fact::Started { told: false })),
            Luck::Gone => return Ok(Outcome::Superseded),
            Luck::Hangs => return std::future::pending().await,
            Luck::Refused => return Ok(retry()),
            Luck::Bad => {
                if let Some(outcome) = self.outside.lock().unwrap().end_badly(effect) {
                    return Ok(outcome);
                }
            }
            Luck::Good => {}
        }
        let outcome = self.outside.lock().unwrap().work(effect, call.attempt);
        if matches!(&outcome, Outcome::Done { fact: Fact::Token(_) }) {
            self.outside.lock().unwrap().sealed = true;
        }
        Ok(outcome)
    }

    fn notes(&self) -> Vec<Note> {
        Vec::new()
    }
}

fn policy() -> Policy {
    Policy {
        api_patience_ms: 600_000,
        agent_attempts: 3,
        agent_timeout_ms: 1_500_000,
        agent_max_turns: 50,
        agent_sessions: true,
        task_timeout_ms: None,
        setup: true,
        check: true,
        agent_budget_micro_usd: 10_000_000,
        max_boots: 5,
        no_changes: NoChanges::Fail,
        on_term: OnTerm::Report,
        archive: Archiving::Off,
    }
}

fn assignment() -> Assignment {
    Assignment {
        task_id: "t".parse().unwrap(),
        api_url: "http://127.0.0.1:1".parse().unwrap(),
        trace: None,
    }
}

struct Bench {
    dir: tempfile::TempDir,
    world: World,
    began: Instant,
    told: watch::Sender<Option<Instant>>,
}

impl Bench {
    fn new(world: World) -> Self {
        Self {
            dir: in_memory(),
            world,
            began: Instant::now(),
            told: watch::Sender::new(None),
        }
    }

    fn journal(&self) -> std::path::PathBuf {
        self.dir.path().join("journal.db")
    }

    fn driver(&self, policy: Policy) -> Driver<World> {
        self.driver_with_grace(policy, Duration::from_secs(20))
    }

    fn driver_with_grace(&self, policy: Policy, grace: Duration) -> Driver<World> {
        let began = self.began;
        Driver::start(Parts {
            opened: Journal::open(&self.journal(), &record::machine()).unwrap(),
            world: self.world.clone(),
            policy,
            clock: Arc::new(move || 1_000_000 + Millis::try_from(began.elapsed().as_millis()).unwrap()),
            observers: Vec::new(),
            inbox: None,
            term: Term {
                told: self.told.subscribe(),
                grace,
            },
        })
        .unwrap()
    }

    /// One start, with the assignment given again, as an operator would.
    async fn start(&self) -> Exit {
        let mut driver = self.driver(policy());
        driver.assign(assignment()).unwrap();
        let live = driver.run().clone();
        assert_eq!(self.replayed(), live);
        driver.drive().await.unwrap()
    }

    fn replayed(&self) -> Run {
        let snapshot = Snapshot::take(&self.journal()).unwrap();
        let mut rows = Vec::new();
        let summary = snapshot.verify(None).unwrap();
        assert!(summary.whole(), "{:?}", summary.problems);
        snapshot.read(|row| rows.push(row)).unwrap();
        record::replay(&rows, |hash| snapshot.blob(hash).unwrap()).unwrap()
    }
}

/// What is tested here is what the rows say, a thousand times over; whether they survive power loss is the journal's tests'.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn in_paused_time<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work)
}

#[test]
fn a_task_that_meets_no_trouble_is_completed_in_one_start() {
    in_paused_time(async {
        let bench = Bench::new(World::default());
        assert_eq!(bench.start().await, Exit::Completed);
        assert_eq!(bench.start().await, Exit::NothingToDo);
        assert_eq!(bench.world.outside.lock().unwrap().verdicts.len(), 1);
    });
}

#[test]
fn an_agent_that_is_cut_short_is_saved_and_one_whose_check_is_red_is_asked_once_more() {
    let ended = |bad: &[usize]| {
        in_paused_time(async {
            let mut luck = vec![Luck::Good; 9];
            for call in bad {
                luck[*call] = Luck::Bad;
            }
            let bench = Bench::new(World::lucky(luck));
            bench.start().await;
            let outside = bench.world.outside.lock().unwrap();
            assert_eq!((outside.pushes, outside.pull_requests), (1, 1));
            let verdict: serde_json::Value = serde_json::from_str(&outside.verdicts[0]).unwrap();
            let said = |name: &str| verdict["details"][name].as_str().unwrap_or_default().to_owned();
            (said("outcome"), said("reason"), outside.agent_runs)
        })
    };
    let of = |outcome: &str, reason: &str, runs| (outcome.to_owned(), reason.to_owned(), runs);
    // Start, data, token, clone and set-up come before.
    let (agent, check, mending, again) = (5, 6, 7, 8);
    assert_eq!(ended(&[]), of("pull_request", "", 1));
    assert_eq!(ended(&[agent]), of("salvaged", "AgentTimedOut", 1));
    assert_eq!(ended(&[check]), of("pull_request", "", 2));
    assert_eq!(ended(&[check, again]), of("pull_request", "", 2));
    assert_eq!(ended(&[check, mending]), of("salvaged", "AgentTimedOut", 2));
}

#[test]
fn a_task_that_was_ended_elsewhere_is_superseded_and_nothing_is_sent() {
    in_paused_time(async {
        // Each effect up to the pull request, which is the tenth.
        for calls_before in 0..10 {
            let mut luck = vec![Luck::Good; calls_before];
            luck.push(Luck::Gone);
            let bench = Bench::new(World::lucky(luck));
            assert_eq!(bench.start().await, Exit::Superseded, "{calls_before}");
            assert!(bench.world.outside.lock().unwrap().verdicts.is_empty());
            assert_eq!(bench.start().await, Exit::Superseded);
        }
    });
}

#[test]
fn an_api_that_is_away_for_good_fails_the_task_and_the_verdict_waits_for_it() {
    in_paused_time(async {
        let bench = Bench::new(World::lucky(vec![Luck::Refused; 10_000]));
        assert_eq!(bench.start().await, Exit::Undelivered);
        let run = bench.replayed();
        // `started` is given up after 15 s, and then `data` is waited for.
        let reason = run.verdict.clone().and_then(|v| v.reason);
        assert_eq!(reason, Some(Failure::ApiUnreachable));
        bench.world.outside.lock().unwrap().luck.clear();
        assert_eq!(bench.start().await, Exit::Failed);
        let outside = bench.world.outside.lock().unwrap();
        assert_eq!(outside.verdicts, [run.verdict.unwrap().body.clone()]);
    });
}

/// What it started hangs, and can be killed by nobody.
#[test]
fn an_agent_of_which_nothing_can_be_found_out_any_more_is_given_up_with_one_verdict() {
    let ended = |asked_in_vain| {
        in_paused_time(async {
            // Start, data, token, clone and set-up come before.
            let mut luck = vec![Luck::Good; 5];
            luck.push(Luck::Hangs);
            luck.extend(vec![Luck::Refused; asked_in_vain]);
            let bench = Bench::new(World::lucky(luck));
            // The runner dies.
            let died = tokio::time::timeout(Duration::from_secs(1), bench.start()).await;
            assert!(died.is_err());
            let begun = Instant::now();
            let exit = bench.start().await;
            let outside = bench.world.outside.lock().unwrap();
            assert_eq!(outside.verdicts.len(), 1);
            let run = bench.replayed();
            (exit, run.verdict.and_then(|v| v.reason), begun.elapsed())
        })
    };
    let (exit, reason, _) = ended(19);
    assert_eq!((exit, reason), (Exit::Completed, None));
    let (exit, reason, after) = ended(20);
    assert_eq!((exit, reason), (Exit::Failed, Some(Failure::Internal)));
    // As long as the pauses are; each time that it is asked may take longer.
    assert!((60..600).contains(&after.as_secs()), "{after:?}");
}

#[test]
fn a_second_assignment_is_refused_and_the_same_one_is_not() {
    in_paused_time(async {
        let bench = Bench::new(World::default());
        let mut driver = bench.driver(policy());
        assert_eq!(driver.assign(assignment()).unwrap(), Assigned::Accepted);
        assert_eq!(driver.assign(assignment()).unwrap(), Assigned::Accepted);
        for other in [
            Assignment {
                task_id: "other".parse().unwrap(),
                ..assignment()
            },
            Assignment {
                api_url: "http://127.0.0.1:2".parse().unwrap(),
                ..assignment()
            },
        ] {
            assert_eq!(driver.assign(other).unwrap(), Assigned::Other("t".parse().unwrap()));
        }
    });
}

#[test]
fn told_to_stop_while_waiting_for_a_task_the_runner_goes_at_once() {
    in_paused_time(async {
        let bench = Bench::new(World::default());
        let driver = bench.driver(policy());
        bench.told.send_replace(Some(Instant::now()));
        assert_eq!(driver.drive().await.unwrap(), Exit::Idle);
    });
}

#[test]
fn told_to_stop_while_the_api_is_away_the_runner_reports_within_the_grace() {
    in_paused_time(async {
        let bench = Bench::new(World::lucky(vec![Luck::Good, Luck::Refused]));
        let mut driver = bench.driver(policy());
        driver.assign(assignment()).unwrap();
        let told = bench.told.clone();
        let outside = Arc::clone(&bench.world.outside);
        let (exit, ()) = tokio::join!(driver.drive(), async move {
            while outside.lock().unwrap().calls < 2 {
                tokio::task::yield_now().await;
            }
            told.send_replace(Some(Instant::now()));
        });
        assert_eq!(exit.unwrap(), Exit::Failed);
        let reason = bench.replayed().verdict.and_then(|v| v.reason);
        assert_eq!(reason, Some(Failure::Interrupted));
    });
}

#[test]
fn told_to_stop_while_the_archive_hangs_the_exit_is_the_verdicts_and_the_next_start_archives() {
    // Of no grace at all, nothing is left when it is looked at.
    let grace = Duration::from_secs(20);
    for (on_term, grace) in [
        (OnTerm::Report, grace),
        (OnTerm::Park, grace),
        (OnTerm::Report, Duration::ZERO),
        (OnTerm::Park, Duration::ZERO),
    ] {
        in_paused_time(async {
            let policy = || Policy {
                archive: Archiving::On,
                on_term,
                ..policy()
            };
            // Start, data, token, clone, set-up, agent, check, hand-over, push, pull request and report come before.
            let mut luck = vec![Luck::Good; 11];
            luck.push(Luck::Hangs);
            let bench = Bench::new(World::lucky(luck));
            let mut driver = bench.driver_with_grace(policy(), grace);
            driver.assign(assignment()).unwrap();
            let told = bench.told.clone();
            let outside = Arc::clone(&bench.world.outside);
            let (exit, at) = tokio::join!(driver.drive(), async move {
                while outside.lock().unwrap().calls < 12 {
                    tokio::task::yield_now().await;
                }
                told.send_replace(Some(Instant::now()));
                Instant::now()
            });
            assert_eq!(exit.unwrap(), Exit::Completed, "{on_term} {grace:?}");
            assert!(at.elapsed() < Duration::from_secs(20), "{:?}", at.elapsed());
            assert_eq!(bench.replayed().archive, None);
            assert_eq!(bench.world.outside.lock().unwrap().archives, 0);
            bench.told.send_replace(None);
            let exit = bench.driver(policy()).drive().await.unwrap();
            assert_eq!((exit, exit.code()), (Exit::NothingToDo, 0));
            assert_eq!(bench.replayed().archive, Some(ArchiveEnd::Kept));
            let outside = bench.world.outside.lock().unwrap();
            assert_eq!((outside.archives, outside.verdicts.len()), (1, 1));
        });
    }
}

#[test]
fn told_to_stop_while_a_push_hangs_the_runner_still_reports_within_the_grace() {
    in_paused_time(async {
        let mut luck = vec![Luck::Good; 8];
        luck.push(Luck::Hangs);
        let bench = Bench::new(World::lucky(luck));
        let mut driver = bench.driver(policy());
        driver.assign(assignment()).unwrap();
        let told = bench.told.clone();
        let outside = Arc::clone(&bench.world.outside);
        let (exit, at) = tokio::join!(driver.drive(), async move {
            while outside.lock().unwrap().calls < 9 {
                tokio::task::yield_now().await;
            }
            told.send_replace(Some(Instant::now()));
            Instant::now()
        });
        assert_eq!(exit.unwrap(), Exit::Failed);
        assert!(at.elapsed() < Duration::from_secs(20), "{:?}", at.elapsed());
        let run = bench.replayed();
        assert_eq!(run.tally(EffectName::Push).attempts, 1);
        assert_eq!(run.verdict.and_then(|v| v.reason), Some(Failure::Interrupted));
        assert_eq!(bench.world.outside.lock().unwrap().verdicts.len(), 1);
    });
}

#[test]
fn parked_the_task_is_left_to_the_next_start_and_that_is_no_crash() {
    in_paused_time(async {
        let bench = Bench::new(World::lucky(vec![Luck::Good, Luck::Good, Luck::Refused]));
        let policy = Policy {
            on_term: OnTerm::Park,
            ..policy()
        };
        let mut driver = bench.driver(policy);
        driver.assign(assignment()).unwrap();
        bench.told.send_replace(Some(Instant::now()));
        assert_eq!(driver.drive().await.unwrap(), Exit::Parked);
        bench.told.send_replace(None);
        assert_eq!(bench.replayed().stalled_boots, 0);
        assert_eq!(bench.start().await, Exit::Completed);
    });
}
