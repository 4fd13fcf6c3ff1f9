//! Whole lives of a runner against an outside world that counts, which knows nothing of the machine but what it is told to do.

use std::collections::BTreeMap;

use proptest::prelude::*;
use runner_journal::{Entry, Hash, Row};

use super::*;
use crate::actions::names::{Labels, RunnerName};
use crate::actions::record::{self, ActionsMachine};
use crate::ledger::Machine as _;
use crate::machine::Stopping;

mod patience;
mod refusals;

/// By hand, from the ADR: never from the machine.
const EDGES: [(&str, &str); 6] = [
    ("", "Assigned"),
    ("Assigned", "Registered"),
    ("Assigned", "Deregistered"),
    ("Registered", "JobRan"),
    ("Registered", "Deregistered"),
    ("JobRan", "Deregistered"),
];

pub(crate) fn assignment() -> Assignment {
    Assignment {
        id: "1a2b3c4d".to_owned(),
        target: "https://github.com/octo/hello".parse().unwrap(),
        name: RunnerName::of_host("pod"),
        labels: Labels::of_this_machine(),
        group: "Default".to_owned(),
        work_folder: "_work".to_owned(),
    }
}

/// GitHub and the machine that the job runs on, as far as they can be counted.
#[derive(Default)]
struct Outside {
    registered: BTreeMap<u64, String>,
    ids: u64,
    /// Requests that are carried out when nobody waits for them any more.
    late: Vec<String>,
    begun: u32,
    completed: bool,
}

impl Outside {
    fn register(&mut self, name: &str) -> u64 {
        self.ids += 1;
        self.registered.insert(self.ids, name.to_owned());
        self.ids
    }

    fn of_name(&self, name: &str) -> Option<u64> {
        self.registered.iter().find(|(_, own)| *own == name).map(|(id, _)| *id)
    }
}

/// What a life has come to.
enum Came {
    Facts(Vec<Event>),
    Crash,
}

struct Life {
    run: Run,
    outside: Outside,
    now: i64,
    stopping: Stopping,
    boots: u32,
    rows: Vec<Row>,
    entered: Vec<(String, String)>,
}

impl Life {
    fn new() -> Self {
        let mut life = Self {
            run: Run::default(),
            outside: Outside::default(),
            now: 1_000,
            stopping: Stopping::No,
            boots: 0,
            rows: Vec::new(),
            entered: Vec::new(),
        };
        life.boot();
        life.record(&[Event::Assigned {
            assignment: assignment(),
            at: 1_000,
        }]);
        life
    }

    fn boot(&mut self) {
        self.boots += 1;
        self.stopping = Stopping::No;
        let at = self.now;
        self.record(&[Event::Booted { at }]);
    }

    /// Writes events as rows, and reads them back: a replay knows what the life knows.
    fn record(&mut self, events: &[Event]) {
        for event in events {
            let after = transition(&self.run, event).unwrap_or_else(|refused| panic!("{refused}: {event:?}"));
            for entry in ActionsMachine::write(&self.run, event, &after).unwrap().entries {
                if let Entry::Enter { src, dst, .. } = &entry {
                    self.entered.push((src.clone(), dst.clone()));
                }
                self.rows.push(Row {
                    seq: self.rows.len() as u64 + 1,
                    boot: self.boots,
                    at_ms: event.at(),
                    entry,
                    prev: Hash::ZERO,
                    hash: Hash::ZERO,
                });
            }
            self.run = after;
        }
    }

    /// One turn of the loop, with what befalls it. None where it goes on.
    fn turn(&mut self, fate: u8) -> Option<Exit> {
        let situation = Situation {
            now: self.now,
            stopping: self.stopping,
        };
        let planned = plan(&self.run, situation, Policy { patience_ms: 60_000 });
        self.now += 10;
        let at = self.now;
        let came = match planned {
            Plan::Stop(exit) => return Some(exit),
            Plan::Wait { for_ms } => {
                assert!(for_ms > 0);
                self.now += for_ms;
                Came::Facts(Vec::new())
            }
            Plan::Conclude(ending) => Came::Facts(vec![Event::Concluded {
                verdict: Verdict::compose(&self.run, &ending, "head"),
                at,
            }]),
            Plan::Do { effect, attempt } => {
                let name = EffectName::from(&effect);
                self.record(&[Event::Intended {
                    effect: name,
                    attempt,
                    at,
                }]);
                let came = match effect {
                    Effect::Register { name } => self.register(&name, fate),
                    Effect::Job { id, .. } => self.job(id, fate),
                    Effect::Remove { known, names } => self.remove(known.map(|(id, _)| id), &names, fate),
                };
                match came {
                    Some(Ok(outcome)) => Came::Facts(vec![Event::Ended {
                        effect: name,
                        attempt,
                        outcome,
                        at,
                    }]),
                    Some(Err(())) => Came::Facts(vec![lost(name, at)]),
                    None => Came::Crash,
                }
            }
            Plan::Probe { effect, attempt } => self.probe(&effect, attempt, fate),
        };
        match came {
            Came::Facts(facts) => self.record(&facts),
            Came::Crash => self.boot(),
        }
        None
    }

    fn register(&mut self, name: &str, fate: u8) -> Option<Result<Outcome, ()>> {
        match fate % 9 {
            1 => {
                self.outside.register(name);
                Some(Err(()))
            }
            2 => Some(Err(())),
            3 => {
                self.outside.late.push(name.to_owned());
                Some(Err(()))
            }
            4 => Some(Ok(retry())),
            5 => Some(Ok(Outcome::Taken { cause: "409".into() })),
            6 => Some(Ok(Outcome::Failed {
                failure: Failure::Forbidden,
                cause: "403".into(),
            })),
            7 => None,
            8 => {
                self.outside.register(name);
                None
            }
            _ => {
                let id = self.outside.register(name);
                Some(Ok(registered(id, name, Config::AtHand)))
            }
        }
    }

    fn job(&mut self, id: u64, fate: u8) -> Option<Result<Outcome, ()>> {
        assert!(
            self.outside.registered.contains_key(&id),
            "a job without a registration"
        );
        assert_eq!(self.outside.begun, 0, "a job is run twice");
        let report = |end, result| {
            Some(Ok(Outcome::Done {
                fact: Fact::Job(JobReport {
                    end,
                    result,
                    job: None,
                    listener: None,
                }),
            }))
        };
        match fate % 7 {
            1 => report(JobEnd::None, None),
            2 => Some(Ok(retry())),
            3 => None,
            4 => {
                self.outside.begun += 1;
                None
            }
            5 => {
                self.outside.begun += 1;
                self.outside.completed = true;
                None
            }
            6 => Some(Ok(Outcome::Failed {
                failure: Failure::SessionConflict,
                cause: "5".into(),
            })),
            _ => {
                self.outside.begun += 1;
                self.outside.completed = true;
                // GitHub removes a runner that has run its job.
                self.outside.registered.remove(&id);
                report(JobEnd::Ran, Some(JobResult::Succeeded))
            }
        }
    }

    fn remove(&mut self, id: Option<u64>, names: &[String], fate: u8) -> Option<Result<Outcome, ()>> {
        for name in std::mem::take(&mut self.outside.late) {
            self.outside.register(&name);
        }
        if matches!(fate % 5, 1 | 4) {
            return if fate % 5 == 1 { Some(Ok(retry())) } else { None };
        }
        self.outside
            .registered
            .retain(|known, name| Some(*known) != id && !names.contains(name));
        match fate % 5 {
            2 => Some(Ok(retry())),
            3 => None,
            _ => Some(Ok(Outcome::Done {
                fact: Fact::Removed { names: names.to_vec() },
            })),
        }
    }

    fn probe(&mut self, effect: &Effect, attempt: u32, fate: u8) -> Came {
        let (name, at) = (EffectName::from(effect), self.now);
        if fate % 4 == 1 {
            return Came::Facts(vec![lost(name, at)]);
        }
        let ended = match effect {
            Effect::Register { name } => self.outside.of_name(name).map(|id| registered(id, name, Config::Lost)),
            Effect::Job { .. } => (self.outside.begun > 0).then_some(Outcome::Done {
                fact: Fact::Job(JobReport {
                    end: if self.outside.completed {
                        JobEnd::Ran
                    } else {
                        JobEnd::Lost
                    },
                    result: None,
                    job: None,
                    listener: None,
                }),
            }),
            Effect::Remove { .. } => None,
        };
        let probed = |finding| Event::Probed {
            effect: name,
            attempt,
            finding,
            at,
        };
        match ended {
            Some(outcome) => Came::Facts(vec![
                probed(Finding::Done),
                Event::Ended {
                    effect: name,
                    attempt,
                    outcome,
                    at,
                },
            ]),
            None => Came::Facts(vec![probed(Finding::NotDone)]),
        }
    }
}

fn retry() -> Outcome {
    Outcome::Retry {
        cause: "busy".into(),
        after_ms: Some(50),
    }
}

fn registered(id: u64, name: &str, config: Config) -> Outcome {
    Outcome::Done {
        fact: Fact::Registered {
            id,
            name: name.to_owned(),
            config,
        },
    }
}

fn lost(effect: EffectName, at: i64) -> Event {
    Event::Noted {
        note: Note::AnswerLost {
            effect,
            cause: "reset".into(),
            after_ms: None,
        },
        at,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    /// Whatever befalls it: it comes to an end, nothing is left registered then, and no job is begun twice.
    #[test]
    fn whatever_happens_nothing_is_left_registered_and_no_job_is_run_twice(
        fates in proptest::collection::vec(any::<u8>(), 0..60),
        told_at in proptest::option::of(0usize..40),
    ) {
        let mut life = Life::new();
        let mut exit = None;
        // When nothing more befalls it, it comes to its end.
        for turn in 0..fates.len() + 200 {
            if told_at == Some(turn) {
                life.stopping = Stopping::Grace;
            }
            let fate = fates.get(turn).copied().unwrap_or(0);
            match life.turn(fate) {
                None => {}
                Some(Exit::Left(_)) => life.boot(),
                Some(over) => {
                    exit = Some(over);
                    break;
                }
            }
        }
        let exit = exit.expect("it comes to an end");
        prop_assert!(life.outside.registered.is_empty(), "{:?}", life.outside.registered);
        prop_assert!(life.outside.begun <= 1);
        let (verdict, _) = life.run.verdict.clone().expect("a verdict");
        prop_assert_eq!(exit.code(), u8::from(verdict.kind == VerdictKind::Failed));
        // A job that was lost is said to be, and one that was run is no failure.
        if life.outside.begun == 1 {
            let lost = verdict.reason == Some(Failure::JobLost);
            prop_assert_eq!(lost, !life.outside.completed, "{:?}", verdict);
        }
        for edge in &life.entered {
            prop_assert!(EDGES.contains(&(edge.0.as_str(), edge.1.as_str())), "{edge:?}");
        }
        prop_assert_eq!(record::replay(&life.rows).unwrap(), life.run);
    }
}

#[test]
fn the_edges_are_those_of_the_decision_and_no_others() {
    let machine = record::machine();
    let mut known: Vec<(&str, &str)> = machine.edges.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let mut expected = EDGES.to_vec();
    known.sort_unstable();
    expected.sort_unstable();
    assert_eq!(known, expected);
}

#[test]
fn the_third_name_that_is_taken_is_the_last() {
    let mut life = Life::new();
    for _ in 0..3 {
        assert_eq!(life.turn(5), None);
    }
    while life.run.verdict.is_none() {
        assert_eq!(life.turn(0), None);
    }
    let (verdict, _) = life.run.verdict.unwrap();
    assert_eq!(verdict.reason, Some(Failure::NameTaken));
    assert_eq!(life.outside.ids, 0);
}

#[test]
fn the_listener_is_launched_five_times_in_a_row_and_no_more() {
    let mut life = Life::new();
    assert_eq!(life.turn(0), None);
    let mut turns = 0;
    while life.run.ending.is_none() {
        assert_eq!(life.turn(2), None);
        turns += 1;
        assert!(turns < 20);
    }
    assert_eq!(life.run.tally(EffectName::Job).attempts, 5);
    assert!(matches!(
        &life.run.ending,
        Some(Ending::Failed {
            failure: Failure::ListenerFailed,
            ..
        })
    ));
}

#[test]
fn github_is_waited_for_as_long_as_the_patience_says_and_no_longer_and_the_next_start_goes_on() {
    let mut life = Life::new();
    let begun = life.now;
    let exit = loop {
        if let Some(exit) = life.turn(4) {
            break exit;
        }
    };
    assert_eq!(exit, Exit::Left(Left::Unreachable));
    assert!(life.now - begun >= 60_000, "{}", life.now - begun);
    assert!(life.now - begun < 120_000, "{}", life.now - begun);
    life.boot();
    while life.run.verdict.is_none() {
        assert_eq!(life.turn(0), None);
    }
}

/// Each request is carried out and none is answered: what is found is removed and made anew, for as long as the patience says.
#[test]
fn registrations_that_are_carried_out_and_never_answered_are_made_anew_for_as_long_as_the_patience_says() {
    let mut life = Life::new();
    let begun = life.now;
    // Of a registration, 10 is 1; of a probe and of a removal, nothing befalls them.
    let exit = (0..1000).find_map(|_| life.turn(10));
    assert_eq!(exit, Some(Exit::Left(Left::Unreachable)));
    assert!(life.now - begun < 180_000, "{}", life.now - begun);
    life.boot();
    while life.run.verdict.is_none() {
        assert_eq!(life.turn(0), None);
    }
    assert_eq!(life.outside.begun, 1);
    assert!(life.outside.registered.is_empty(), "{:?}", life.outside.registered);
}

/// What came of a job cannot be found out: that is waited for as GitHub is, and not for ever. How long the job ran is no part of it.
#[test]
fn what_came_of_a_job_is_asked_for_as_long_as_the_patience_says_and_no_longer() {
    let mut life = Life::new();
    assert_eq!(life.turn(0), None);
    let at = life.now;
    life.record(&[Event::Intended {
        effect: EffectName::Job,
        attempt: 1,
        at,
    }]);
    life.now += 3_600_000;
    let ended = life.now;
    life.record(&[lost(EffectName::Job, ended)]);
    let exit = (0..1000).find_map(|_| life.turn(1));
    assert_eq!(exit, Some(Exit::Left(Left::Unreachable)));
    let waited = life.now - ended;
    assert!((60_000..120_000).contains(&waited), "{waited}");
    life.boot();
    while life.run.verdict.is_none() {
        assert_eq!(life.turn(0), None);
    }
}

#[test]
fn a_verdict_says_that_github_has_a_result_only_where_the_listener_said_one() {
    let mut run = Run::default();
    let mut said = |result| {
        run.job = Some(JobReport {
            end: JobEnd::Ran,
            result,
            job: None,
            listener: None,
        });
        Verdict::compose(&run, &Ending::Ran, "head").message
    };
    assert_eq!(said(Some(JobResult::Failed)), "A job was run: Failed.");
    assert_eq!(
        said(None),
        "A job was run to its end; whether GitHub was told is not known."
    );
}

#[test]
fn what_github_asks_to_be_waited_for_is_waited_for() {
    let mut life = Life::new();
    let at = life.now;
    life.record(&[
        Event::Intended {
            effect: EffectName::Register,
            attempt: 1,
            at,
        },
        Event::Ended {
            effect: EffectName::Register,
            attempt: 1,
            outcome: Outcome::Retry {
                cause: "429".into(),
                after_ms: Some(40_000),
            },
            at,
        },
    ]);
    let situation = |now| Situation {
        now,
        stopping: Stopping::No,
    };
    let policy = Policy { patience_ms: 60_000 };
    assert_eq!(plan(&life.run, situation(at), policy), Plan::Wait { for_ms: 40_000 });
    assert!(matches!(
        plan(&life.run, situation(at + 40_000), policy),
        Plan::Do { attempt: 2, .. }
    ));
    // A clock that was set back holds nothing up: each wait is planned anew after it, and would never end.
    assert!(matches!(
        plan(&life.run, situation(at - 1), policy),
        Plan::Do { attempt: 2, .. }
    ));
}

#[test]
fn each_reason_to_fail_is_in_the_docs_in_the_codes_own_words() {
    use strum::IntoEnumIterator;
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/actions.md")).unwrap();
    for failure in Failure::iter() {
        let row = format!("| `{failure}` | {} | {} |", failure.sentence(), failure.hint());
        assert!(docs.lines().any(|line| line == row), "docs/actions.md has not: {row}");
    }
}
