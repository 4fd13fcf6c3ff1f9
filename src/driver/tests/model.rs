//! Whole lives of runners on one journal, operation by operation, against a world that counts.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use runner_journal::OpenError;

use super::outside::{Fate, Outside, Watched, Witness};
use super::*;

/// What is done to the runner, or by its world.
#[derive(Debug, Clone, Copy)]
enum Op {
    /// A runner is started where there is none, and refused where there is one.
    Start,
    /// SIGKILL, wherever it is: before an act, in a wait, while it listens.
    Kill,
    Assign,
    AssignAnother,
    /// The call that waits has this fate; where none does, time passes until there is one.
    Call(Fate),
    /// Time passes until something is asked, or the runner is gone.
    Wait,
    /// The runner is told to stop.
    Stop,
    /// The clock is set, by so many milliseconds.
    Jump(Millis),
}

/// What is the same for a whole life.
#[derive(Debug, Clone, Copy)]
struct Settings {
    on_term: OnTerm,
    setup: bool,
    check: bool,
    archive: bool,
}

/// What whoever makes operations up believes: enough that a life gets somewhere.
#[derive(Debug, Clone, Copy)]
struct Believed {
    settings: Settings,
    runner: Where,
    assigned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    Nowhere,
    Here,
}

struct Lives;

impl ReferenceStateMachine for Lives {
    type State = Believed;
    type Transition = Op;

    fn init_state() -> BoxedStrategy<Believed> {
        let on_term = prop::sample::select(vec![OnTerm::Report, OnTerm::Park]);
        (on_term, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(on_term, setup, check, archive)| Believed {
                settings: Settings {
                    on_term,
                    setup,
                    check,
                    archive,
                },
                runner: Where::Nowhere,
                assigned: false,
            })
            .boxed()
    }

    fn transitions(believed: &Believed) -> BoxedStrategy<Op> {
        let start = if believed.runner == Where::Nowhere { 60 } else { 2 };
        let assign = if believed.assigned { 1 } else { 40 };
        prop_oneof![
            start => Just(Op::Start),
            assign => Just(Op::Assign),
            2 => Just(Op::Kill),
            1 => Just(Op::AssignAnother),
            30 => any_fate().prop_map(Op::Call),
            3 => Just(Op::Wait),
            1 => Just(Op::Stop),
            1 => prop::sample::select(vec![-86_400_000, -5_000, 5_000, 700_000]).prop_map(Op::Jump),
        ]
        .boxed()
    }

    fn apply(mut believed: Believed, op: &Op) -> Believed {
        match op {
            Op::Start => believed.runner = Where::Here,
            Op::Kill | Op::Stop | Op::Call(Fate::DieInside | Fate::DieAfter) => believed.runner = Where::Nowhere,
            Op::Assign => believed.assigned |= believed.runner == Where::Here,
            Op::AssignAnother | Op::Call(_) | Op::Wait | Op::Jump(_) => {}
        }
        believed
    }
}

fn any_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        16 => Just(Fate::Good),
        1 => Just(Fate::Twice),
        1 => Just(Fate::Refused),
        1 => Just(Fate::LostBefore),
        2 => Just(Fate::LostAfter),
        2 => Just(Fate::LostLate),
        1 => Just(Fate::DieInside),
        2 => Just(Fate::DieAfter),
        1 => Just(Fate::Bad),
        1 => Just(Fate::NothingLeft),
        1 => prop_oneof![9 => Just(Fate::Good), 1 => Just(Fate::Gone)],
    ]
}

type Driving = Pin<Box<dyn Future<Output = Result<Exit, DriveError>>>>;

/// A runner that lives.
struct Runner {
    driving: Driving,
    inbox: mpsc::Sender<Assign>,
    told: watch::Sender<Option<Instant>>,
}

/// Everything there is: one directory, one world, and a runner or none.
struct Life {
    runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
    world: Watched,
    clock: Arc<AtomicI64>,
    policy: Policy,
    runner: Option<Runner>,
    assigned: bool,
    last_exit: Option<Exit>,
    starts: Cell<u64>,
}

static CASES: AtomicU64 = AtomicU64::new(0);
static OPERATIONS: AtomicU64 = AtomicU64::new(0);
static CRASHES: AtomicU64 = AtomicU64::new(0);
static RESTARTS: AtomicU64 = AtomicU64::new(0);

fn count(what: &AtomicU64) {
    what.fetch_add(1, Ordering::Relaxed);
}

impl Life {
    fn new(settings: Settings) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let dir = in_memory();
        let world = Watched::default();
        world.outside.lock().unwrap().journal = dir.path().join("journal.db");
        Self {
            runtime,
            dir,
            world,
            clock: Arc::new(AtomicI64::new(1_000_000_000)),
            policy: Policy {
                on_term: settings.on_term,
                setup: settings.setup,
                check: settings.check,
                archive: if settings.archive {
                    Archiving::On
                } else {
                    Archiving::Off
                },
                ..policy()
            },
            runner: None,
            assigned: false,
            last_exit: None,
            starts: Cell::new(0),
        }
    }

    fn outside(&self) -> std::sync::MutexGuard<'_, Outside> {
        self.world.outside.lock().unwrap()
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("journal.db")
    }

    fn start(&mut self) {
        if self.runner.is_some() {
            let refused = Journal::open(&self.path(), &record::machine());
            assert!(matches!(refused, Err(OpenError::Locked { .. })), "{refused:?}");
            self.outside().read();
            return;
        }
        let opened = Journal::open(&self.path(), &record::machine()).unwrap();
        self.outside().hold_against(&opened.rows);
        if self.starts.replace(self.starts.get() + 1) > 0 {
            count(&RESTARTS);
        }
        let (inbox, receiver) = mpsc::channel(4);
        let told = watch::Sender::new(None);
        let jumped = Arc::clone(&self.clock);
        let driver = self.runtime.block_on(async {
            let began = Instant::now();
            let passed = move || Millis::try_from(began.elapsed().as_millis()).unwrap();
            Driver::start(Parts {
                opened,
                world: self.world.clone(),
                policy: self.policy.clone(),
                clock: Arc::new(move || jumped.load(Ordering::Relaxed) + passed()),
                observers: vec![Box::new(Witness(Arc::clone(&self.world.outside)))],
                inbox: Some(receiver),
                term: Term {
                    told: told.subscribe(),
                    grace: Duration::from_secs(20),
                },
            })
            .unwrap()
        });
        self.runner = Some(Runner {
            driving: Box::pin(driver.drive()),
            inbox,
            told,
        });
        self.go_on(Duration::ZERO);
    }

    /// Lets the runner go on until it asks something of the world, dies, ends, or so much time has passed.
    fn go_on(&mut self, bound: Duration) {
        let Some(runner) = &mut self.runner else { return };
        let (asked, outside) = (&self.world.asked, &self.world.outside);
        let driving = &mut runner.driving;
        let exit = self.runtime.block_on(async {
            let until = tokio::time::sleep(bound + Duration::from_millis(1));
            tokio::pin!(until);
            loop {
                tokio::select! {
                    biased;
                    exit = driving.as_mut() => return Some(exit.unwrap()),
                    () = asked.notified() => {
                        let outside = outside.lock().unwrap();
                        if outside.dead || (outside.pending.is_some() && outside.fate.is_none()) {
                            return None;
                        }
                    }
                    () = &mut until => return None,
                }
            }
        });
        if let Some(exit) = exit {
            self.last_exit = Some(exit);
            self.gone();
        } else if self.outside().dead {
            count(&CRASHES);
            self.gone();
        }
    }

    /// Nothing of the process is left but what is on disk and outside.
    fn gone(&mut self) {
        self.runner = None;
        let mut outside = self.outside();
        outside.pending = None;
        outside.fate = None;
        outside.dead = false;
    }

    fn call(&mut self, fate: Fate) {
        if self.outside().pending.is_none() {
            self.go_on(Duration::from_mins(1));
        }
        if self.runner.is_none() || self.outside().pending.is_none() {
            return;
        }
        self.outside().fate = Some(fate);
        self.world.decided.notify_one();
        self.go_on(Duration::ZERO);
    }

    fn assign(&mut self, assignment: Assignment) {
        let own = assignment.is_same_task(&super::assignment());
        let Some(runner) = &mut self.runner else { return };
        let (answer, mut answered) = oneshot::channel();
        let told = runner.told.borrow().is_some();
        if runner.inbox.try_send(Assign { assignment, answer }).is_err() {
            return;
        }
        // What waits for its fate is asked again as soon as the request is heard.
        self.go_on(Duration::ZERO);
        let Ok(answer) = answered.try_recv() else { return };
        let expected = match (self.assigned, own) {
            (true, true) => Assigned::Accepted,
            (true, false) => Assigned::Other("t".parse().unwrap()),
            (false, _) if told => Assigned::Stopping,
            (false, _) => Assigned::Accepted,
        };
        assert_eq!(answer, expected);
        self.assigned |= answer == Assigned::Accepted;
    }

    /// With nothing in its way, what was taken up ends.
    fn until_over(&mut self) -> Exit {
        for _ in 0..60 {
            self.start();
            for _ in 0..200 {
                if self.runner.is_none() {
                    break;
                }
                self.call(Fate::Good);
            }
            if let Some(exit) = self.last_exit.take()
                && !matches!(exit, Exit::Parked | Exit::Undelivered | Exit::Idle)
                && !self.archive_is_left()
            {
                return exit;
            }
            self.gone();
        }
        panic!("the task is never over: {:?}", self.outside());
    }

    /// Told to stop after the report, a runner leaves the archive to the next start.
    fn archive_is_left(&self) -> bool {
        let ended = self.outside().live.as_ref().is_some_and(|run| run.archive.is_some());
        self.policy.archive == Archiving::On && !ended
    }

    fn judge(&mut self) {
        let exit = self.until_over();
        let outside = self.outside();
        let rows = outside.read();
        let verdicts = rows
            .iter()
            .filter(|row| matches!(row.entry, runner_journal::Entry::Verdict { .. }));
        assert_eq!(verdicts.count(), 1);
        let run = outside.live.clone().unwrap();
        let verdict = run.verdict.clone().unwrap();
        assert!(outside.tokens_given <= 1);
        let did = |effect| outside.deeds.get(&effect).copied().unwrap_or_default();
        assert_eq!(
            run.archive.is_some(),
            self.policy.archive == Archiving::On,
            "the archive comes to an end"
        );
        if run.archive == Some(ArchiveEnd::Kept) {
            assert!(did(EffectName::Archive) >= 1, "archived, and nowhere");
        }
        let tries = run.tally(EffectName::Archive).attempts;
        assert!(tries <= 5, "the archive was tried {tries} times");
        match verdict.kind {
            VerdictKind::Completed => {
                assert_eq!((did(EffectName::Push), did(EffectName::PullRequest)), (1, 1));
                assert!(
                    matches!(exit, Exit::Completed | Exit::NothingToDo | Exit::Superseded),
                    "{exit:?}"
                );
            }
            VerdictKind::Failed => {
                assert!(
                    matches!(exit, Exit::Failed | Exit::NothingToDo | Exit::Superseded),
                    "{exit:?}"
                );
            }
            VerdictKind::Superseded => {
                assert!(outside.ended_elsewhere);
                assert_eq!(exit, Exit::Superseded);
                assert!(outside.verdicts.is_empty(), "nobody is told");
                return;
            }
        }
        if outside.cut {
            let reason = (verdict.kind, verdict.reason);
            assert_eq!(reason, (VerdictKind::Failed, Some(Failure::AgentTimedOut)));
        }
        if verdict.body.contains("\"salvaged\"") {
            assert_eq!((verdict.kind, did(EffectName::Push)), (VerdictKind::Failed, 1));
        }
        // Once more to mend what a check found.
        assert!(did(EffectName::Agent) <= policy().agent_attempts + 1);
        let told = run.acknowledged.map(|(ack, _)| ack).unwrap();
        if told == Ack::EndedElsewhere {
            return;
        }
        assert_eq!(outside.verdicts.iter().collect::<Vec<_>>(), [&verdict.body], "{told:?}");
    }
}

impl StateMachineTest for Lives {
    type SystemUnderTest = Life;
    type Reference = Self;

    fn init_test(believed: &Believed) -> Life {
        count(&CASES);
        Life::new(believed.settings)
    }

    fn apply(mut life: Life, _: &Believed, op: Op) -> Life {
        count(&OPERATIONS);
        match op {
            Op::Start => life.start(),
            Op::Kill => {
                if life.runner.is_some() {
                    count(&CRASHES);
                    life.gone();
                }
            }
            Op::Assign => life.assign(assignment()),
            Op::AssignAnother if life.assigned => life.assign(Assignment {
                task_id: "another".parse().unwrap(),
                ..assignment()
            }),
            Op::AssignAnother => {}
            Op::Call(fate) => life.call(fate),
            Op::Wait => life.go_on(Duration::from_mins(1)),
            Op::Stop => {
                if let Some(runner) = &life.runner {
                    let now = life.runtime.block_on(async { Instant::now() });
                    runner.told.send_replace(Some(now));
                }
                life.go_on(Duration::ZERO);
            }
            Op::Jump(ms) => {
                life.clock.fetch_add(ms, Ordering::Relaxed);
            }
        }
        life
    }

    fn teardown(mut life: Life, _: Believed) {
        if life.assigned {
            life.judge();
        }
    }
}

fn cases() -> u32 {
    if std::env::var_os("PROOF").is_some_and(|size| size == "whole") {
        100_000
    } else {
        1_024
    }
}

/// As many lives at once as there are cores: none knows of another.
fn threads() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap()
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: cases().div_ceil(threads()), ..ProptestConfig::default() })]

    fn lives(sequential 8..60 => Lives);
}

#[test]
fn whatever_happens_nothing_acknowledged_is_lost_nothing_is_done_twice_and_there_is_one_verdict() {
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(lives);
        }
    });
    let of = |what: &AtomicU64| what.load(Ordering::Relaxed);
    println!(
        "proof: model: {} cases, {} operations, {} crashes, {} restarts, 0 acknowledged rows lost, 0 effects done twice",
        of(&CASES),
        of(&OPERATIONS),
        of(&CRASHES),
        of(&RESTARTS),
    );
}
