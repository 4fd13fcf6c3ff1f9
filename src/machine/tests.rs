//! The machine against an oracle, and what it plans in the cases that the contract names.

use std::sync::Arc;

use proptest::prelude::*;
use strum::IntoEnumIterator;

use super::*;
use crate::machine::transition::fold;
use oracle::{Changed, EDGES, Op, Oracle, any_op, assignment, fact};

mod archive;
mod bounds;
mod ends;
mod facts;
mod matrix;
mod oracle;
mod patience;
mod work;

/// The settings as they are by default, without set-up and check.
pub(crate) fn policy() -> Policy {
    Policy {
        api_patience_ms: 600_000,
        agent_attempts: 2,
        agent_timeout_ms: 1_500_000,
        agent_budget_micro_usd: 10_000_000,
        agent_max_turns: 50,
        agent_sessions: true,
        task_timeout_ms: None,
        setup: false,
        check: false,
        max_boots: 5,
        no_changes: NoChanges::Fail,
        on_term: OnTerm::Report,
        archive: Archiving::Off,
    }
}

/// Plays operations against both, and gives the legal history.
fn play(ops: &[Op]) -> Result<Vec<Event>, TestCaseError> {
    let mut oracle = Oracle::default();
    let mut run = Run::default();
    let mut history = Vec::new();
    for op in ops {
        let (event, legal) = oracle.step(op);
        match transition(&run, &event) {
            Ok(next) => {
                prop_assert!(
                    legal,
                    "the machine took {event:?} after {history:?}, the oracle does not"
                );
                run = next;
                history.push(event);
            }
            Err(refusal) => {
                prop_assert!(!legal, "{refusal}: the oracle takes {event:?} after {history:?}");
                let text = refusal.to_string();
                prop_assert!(text.contains("is illegal in state"), "{text}");
            }
        }
        prop_assert_eq!(run.state_name().map(<&str>::from), oracle.state.as_deref());
        prop_assert_eq!(run.open.is_some(), oracle.open.is_some());
    }
    Ok(history)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn the_machine_takes_what_the_oracle_takes_and_refuses_the_rest_by_name(ops in prop::collection::vec(any_op(), 0..80)) {
        let history = play(&ops)?;
        let verdicts = history.iter().filter(|e| matches!(e, Event::Concluded { .. })).count();
        prop_assert!(verdicts <= 1, "{} verdicts", verdicts);
    }

    #[test]
    fn a_history_replays_to_the_same_state_and_every_prefix_plans_a_legal_next_step(
        ops in prop::collection::vec(any_op(), 0..60),
        now in 0_i64..10_000_000,
        stopping in prop::sample::select(vec![Stopping::No, Stopping::Grace, Stopping::Over]),
        on_term in prop::sample::select(vec![OnTerm::Report, OnTerm::Park]),
        (setup, check, archive) in any::<(bool, bool, bool)>(),
    ) {
        let history = play(&ops)?;
        prop_assert_eq!(fold(&history), fold(&history.clone()));
        let archive = if archive { Archiving::On } else { Archiving::Off };
        let policy = Policy { setup, check, on_term, archive, ..policy() };
        for end in 0..=history.len() {
            let run = fold(&history[..end]).unwrap();
            let planned = plan(&run, Situation { now, stopping }, &policy);
            if let Some(event) = first_event_of(&run, &planned) {
                let next = transition(&run, &event);
                prop_assert!(next.is_ok(), "{:?} after {:?}: {:?}", planned, &history[..end], next);
            }
        }
    }

    #[test]
    fn a_wait_is_never_longer_than_its_back_off_whatever_the_clock_does(misses in 1_u32..40, now in any::<i32>()) {
        let mut run = fold(&[Event::Assigned { assignment: assignment(), at: 1_000_000 }]).unwrap();
        let tally = Tally { attempts: misses, first_at: 1_000_000, last_at: 1_000_000, misses, ..Tally::default() };
        run.tallies.insert(EffectName::Start, tally);
        if let Plan::Wait { for_ms } = plan(&run, Situation { now: now.into(), stopping: Stopping::No }, &policy()) {
            prop_assert!(for_ms > 0 && for_ms <= 30_000, "{}", for_ms);
        }
    }
}

/// The event that doing what was planned begins with.
fn first_event_of(run: &Run, planned: &Plan) -> Option<Event> {
    let at = 0;
    match planned {
        Plan::Do { effect, attempt } => Some(Event::Intended {
            effect: effect.name(),
            attempt: *attempt,
            session: effect.session(),
            at,
        }),
        Plan::Probe { effect, attempt } => Some(Event::Probed {
            effect: effect.name(),
            attempt: *attempt,
            finding: Finding::NotDone(Left::default()),
            at,
        }),
        Plan::GiveUp {
            effect,
            attempt,
            failure,
            cause,
        } => Some(Event::Ended {
            effect: *effect,
            attempt: *attempt,
            outcome: Outcome::GivenUp {
                failure: *failure,
                cause: cause.clone(),
            },
            at,
        }),
        Plan::Conclude(ending) => Some(Event::Concluded {
            verdict: Arc::new(Verdict::compose(run, ending, "00")),
            at,
        }),
        Plan::Listen | Plan::Wait { .. } | Plan::Stop(_) => None,
    }
}

/// A history in which everything goes well, up to an effect's intent.
fn up_to(effect: EffectName) -> Vec<Event> {
    let mut oracle = Oracle::default();
    let mut history = vec![oracle.step(&Op::Boot).0];
    loop {
        // In the tree, whatever leads there: the agent where nothing else is asked for.
        let op = match oracle.state.as_deref() {
            Some("Cloned") if oracle.open.is_none() => Op::Intend(in_the_tree(&history, effect), 0),
            _ => Op::Onward(Changed::Yes, 0),
        };
        let (event, legal) = oracle.step(&op);
        assert!(legal, "{op:?} after {history:?}");
        history.push(event);
        if oracle
            .open
            .as_ref()
            .is_some_and(|(name, _)| *name == effect.to_string())
        {
            return history;
        }
    }
}

fn in_the_tree(history: &[Event], to: EffectName) -> EffectName {
    let ran = |name| {
        let mut events = history.iter();
        events.any(|event| matches!(event, Event::Ended { effect, .. } if *effect == name))
    };
    match to {
        EffectName::Setup => EffectName::Setup,
        _ if !ran(EffectName::Agent) => EffectName::Agent,
        EffectName::Check => EffectName::Check,
        _ => EffectName::Handover,
    }
}

fn at(now: Millis) -> Situation {
    Situation {
        now,
        stopping: Stopping::No,
    }
}

fn ended(effect: EffectName, attempt: u32, outcome: Outcome, at: Millis) -> Event {
    Event::Ended {
        effect,
        attempt,
        outcome,
        at,
    }
}

fn retry(trouble: Trouble) -> Outcome {
    Outcome::Retry {
        trouble,
        cause: "no".to_owned(),
        after_ms: None,
        left: Left::default(),
    }
}

#[test]
fn every_edge_of_the_contract_is_an_edge_of_the_machine_and_no_other() {
    let mut ours: Vec<(String, String)> = EDGES
        .iter()
        .filter(|(from, _, _)| *from != "*")
        .map(|(from, _, to)| ((*from).to_owned(), (*to).to_owned()))
        .collect();
    for state in StateName::iter().filter(|s| *s != StateName::Reported) {
        ours.push((state.to_string(), "Reported".to_owned()));
    }
    let mut theirs: Vec<(String, String)> = StateName::iter()
        .flat_map(|from| {
            from.successors()
                .iter()
                .map(move |to| (from.to_string(), to.to_string()))
        })
        .collect();
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
}

#[test]
fn what_every_lost_attempt_spent_counts_against_the_one_budget() {
    let lost = Event::Probed {
        effect: EffectName::Agent,
        attempt: 1,
        finding: Finding::NotDone(spent(4_000_000)),
        at: 0,
    };
    let intended = Event::Intended {
        effect: EffectName::Agent,
        attempt: 2,
        session: None,
        at: 0,
    };
    let mut history = up_to(EffectName::Agent);
    history.push(lost);
    match plan(&fold(&history).unwrap(), at(60_000), &policy()) {
        Plan::Do {
            effect: Effect::Agent(run),
            attempt: 2,
        } => assert_eq!(run.spent_micro_usd, 4_000_000),
        other => panic!("{other:?}"),
    }
    history.push(intended);
    history.push(ended(EffectName::Agent, 2, Outcome::Parked(spent(6_000_000)), 0));
    let (run, ending) = saved(history);
    let verdict = Verdict::compose(&run, &ending, "");
    assert_eq!(verdict.reason, Some(Failure::AgentBudgetExceeded));
    assert!(verdict.body.contains(r#""costUSD":10.0"#), "{}", verdict.body);
}

fn spent(micro_usd: u64) -> Left {
    let effort = Effort {
        cost_micro_usd: Some(micro_usd),
        ..Effort::default()
    };
    Left {
        effort,
        next: Next::GoOn,
    }
}

/// What a history ends with after which there is nothing to do but to save what the agent left, and there is nothing.
fn saved(mut history: Vec<Event>) -> (Run, Ending) {
    let cut = match plan(&fold(&history).unwrap(), at(60_000), &policy()) {
        Plan::Do {
            effect: Effect::Handover { cut, .. },
            ..
        } => cut,
        other => panic!("{other:?}"),
    };
    history.push(Event::Intended {
        effect: EffectName::Handover,
        attempt: 1,
        session: None,
        at: 60_000,
    });
    let fact = fact(EffectName::Handover, Changed::No, cut);
    history.push(ended(EffectName::Handover, 1, Outcome::Done { fact }, 60_000));
    let run = fold(&history).unwrap();
    match plan(&run, at(60_000), &policy()) {
        Plan::Conclude(ending) => (run, ending),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rows_from_before_spending_was_counted_are_read_as_having_spent_nothing() {
    let old: Finding = serde_json::from_str(r#"{"found":"not_done","ran_ms":7}"#).unwrap();
    let effort = Effort {
        ran_ms: 7,
        ..Effort::default()
    };
    let nothing = Finding::NotDone(Left {
        effort,
        next: Next::GoOn,
    });
    assert_eq!(old, nothing);
    assert_eq!(
        serde_json::to_string(&nothing).unwrap(),
        r#"{"found":"not_done","ran_ms":7}"#,
        "and are written as before"
    );
}

#[test]
fn an_open_intent_is_probed_before_anything_else() {
    for effect in EffectName::iter() {
        let mut history = up_to(effect);
        history.push(Event::Booted { at: 5 });
        let run = fold(&history).unwrap();
        let policy = Policy {
            archive: Archiving::On,
            ..policy()
        };
        match plan(&run, at(5), &policy) {
            Plan::Probe {
                effect: probed,
                attempt: 1,
            } => assert_eq!(probed.name(), effect),
            other => panic!("{effect}: {other:?}"),
        }
    }
}

#[test]
fn what_a_409_to_the_token_means_follows_from_what_came_before() {
    let asked = |more: Vec<Event>| {
        let mut history = up_to(EffectName::Token);
        history.extend(more);
        match plan(&fold(&history).unwrap(), at(60_000), &policy()) {
            Plan::Do {
                effect: Effect::Token { history },
                ..
            } => history,
            other => panic!("{other:?}"),
        }
    };
    let not_done = Event::Probed {
        effect: EffectName::Token,
        attempt: 1,
        finding: Finding::NotDone(Left::default()),
        at: 0,
    };
    let refused = |trouble| ended(EffectName::Token, 1, retry(trouble), 0);
    assert_eq!(asked(vec![refused(Trouble::Unreachable)]), TokenHistory::NeverAsked);
    assert_eq!(asked(vec![refused(Trouble::MintFailed)]), TokenHistory::MintFailed);
    assert_eq!(asked(vec![not_done]), TokenHistory::AnswerLost);
}

#[test]
fn an_api_that_stays_away_is_waited_for_and_then_it_is_a_failure() {
    let mut history = up_to(EffectName::Data);
    history.push(ended(EffectName::Data, 1, retry(Trouble::Unreachable), 1000));
    let run = fold(&history).unwrap();
    assert!(matches!(plan(&run, at(1000), &policy()), Plan::Wait { .. }));
    assert!(matches!(plan(&run, at(60_000), &policy()), Plan::Do { attempt: 2, .. }));
    match plan(&run, at(600_000), &policy()) {
        Plan::Conclude(Ending::Failed { failure, .. }) => assert_eq!(failure, Failure::ApiUnreachable),
        other => panic!("{other:?}"),
    }
}

#[test]
fn started_is_best_effort_and_tried_for_15_seconds() {
    let patience = |now| {
        let mut history = up_to(EffectName::Start);
        history.push(ended(EffectName::Start, 1, retry(Trouble::Unreachable), 0));
        match plan(&fold(&history).unwrap(), at(now), &policy()) {
            Plan::Do {
                effect: Effect::Start { patience, within_ms },
                ..
            } => (patience, within_ms),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(patience(1_000), (StartPatience::TryAgain, 4_000));
    assert_eq!(patience(8_000), (StartPatience::TryAgain, 4_000));
    assert_eq!(patience(8_001), (StartPatience::LastTime, 4_000));
    assert_eq!(patience(14_000), (StartPatience::LastTime, 1_000));
}

#[test]
fn a_verdict_that_cannot_be_delivered_is_left_to_the_next_start_with_the_same_bytes() {
    let mut history = up_to(EffectName::Report);
    history.push(ended(EffectName::Report, 1, retry(Trouble::Unreachable), 0));
    let run = fold(&history).unwrap();
    assert_eq!(plan(&run, at(600_000), &policy()), Plan::Stop(Exit::Undelivered));
    let before = run.verdict.clone();
    history.push(Event::Noted {
        note: Note::Undelivered,
        at: 600_000,
    });
    history.push(Event::Booted { at: 700_000 });
    let run = fold(&history).unwrap();
    assert_eq!(run.stalled_boots, 0);
    match plan(&run, at(700_000), &policy()) {
        Plan::Do {
            effect: Effect::Report { verdict, .. },
            attempt: 2,
        } => assert_eq!(Some(verdict), before),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_claimed_task_is_told_five_times_over_a_minute_and_then_taken() {
    let mut history = up_to(EffectName::Report);
    for attempt in 1..5 {
        let claimed = Outcome::Retry {
            trouble: Trouble::Claimed,
            cause: "claimed".to_owned(),
            after_ms: Some(CLAIM_PAUSE_MS),
            left: Left::default(),
        };
        history.push(ended(EffectName::Report, attempt, claimed, i64::from(attempt) * 12_000));
        let run = fold(&history).unwrap();
        let now = i64::from(attempt + 1) * 12_000;
        assert_eq!(plan(&run, at(now - 1), &policy()), Plan::Wait { for_ms: 1 });
        match plan(&run, at(now), &policy()) {
            Plan::Do {
                effect: Effect::Report { claims, .. },
                ..
            } => assert_eq!(claims == ClaimPatience::TakeIt, attempt == 4, "{attempt}"),
            other => panic!("{other:?}"),
        }
        history.push(Event::Intended {
            effect: EffectName::Report,
            attempt: attempt + 1,
            session: None,
            at: now,
        });
    }
}

#[test]
fn five_unclean_starts_that_get_no_further_are_a_crash_loop() {
    let mut history = up_to(EffectName::Clone);
    for boot in 1..=5 {
        assert!(
            !matches!(plan(&fold(&history).unwrap(), at(0), &policy()), Plan::GiveUp { .. }),
            "{boot}"
        );
        history.push(Event::Booted { at: 0 });
    }
    match plan(&fold(&history).unwrap(), at(0), &policy()) {
        Plan::GiveUp { failure, .. } => assert_eq!(failure, Failure::CrashLoop),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agent_that_is_lost_too_often_is_a_failure_and_a_parked_start_does_not_count() {
    let lost = |outcome: fn() -> Outcome| {
        let mut history = up_to(EffectName::Agent);
        for attempt in 1..=2 {
            history.push(ended(EffectName::Agent, attempt, outcome(), 0));
            if attempt == 1 {
                history.push(Event::Intended {
                    effect: EffectName::Agent,
                    attempt: 2,
                    session: None,
                    at: 0,
                });
            }
        }
        history
    };
    match saved(lost(|| retry(Trouble::NoResult))).1 {
        Ending::Failed { failure, .. } => assert_eq!(failure, Failure::AgentLost),
        other => panic!("{other:?}"),
    }
    for uncounted in [|| Outcome::Parked(Left::default()), || retry(Trouble::NothingToGoOnIn)] {
        let run = fold(&lost(uncounted)).unwrap();
        assert!(matches!(plan(&run, at(60_000), &policy()), Plan::Do { attempt: 3, .. }));
    }
}

#[test]
fn an_agent_that_ends_well_at_its_last_attempt_is_not_lost() {
    let mut history = up_to(EffectName::Agent);
    history.push(ended(EffectName::Agent, 1, retry(Trouble::NoResult), 0));
    history.push(Event::Intended {
        effect: EffectName::Agent,
        attempt: 2,
        session: None,
        at: 0,
    });
    let fact = fact(EffectName::Agent, Changed::Yes, None);
    history.push(ended(EffectName::Agent, 2, Outcome::Done { fact }, 0));
    match plan(&fold(&history).unwrap(), at(60_000), &policy()) {
        Plan::Do { effect, .. } => assert_eq!(effect.name(), EffectName::Handover),
        other => panic!("{other:?}"),
    }
}

#[test]
fn told_to_stop_the_runner_still_pushes_what_was_paid_for() {
    let told = |effect, stopping, on_term| {
        let mut history = up_to(effect);
        history.pop();
        let policy = Policy { on_term, ..policy() };
        plan(&fold(&history).unwrap(), Situation { now: 0, stopping }, &policy)
    };
    for effect in [EffectName::Handover, EffectName::Push, EffectName::PullRequest] {
        assert!(
            matches!(told(effect, Stopping::Grace, OnTerm::Report), Plan::Do { .. }),
            "{effect}"
        );
    }
    for (effect, stopping) in [(EffectName::Agent, Stopping::Grace), (EffectName::Push, Stopping::Over)] {
        match told(effect, stopping, OnTerm::Report) {
            Plan::Conclude(Ending::Failed { failure, .. }) => assert_eq!(failure, Failure::Interrupted),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        told(EffectName::Agent, Stopping::Grace, OnTerm::Park),
        Plan::Stop(Exit::Parked)
    );
}

#[test]
fn a_verdict_survives_the_journal_byte_for_byte() {
    let mut history = up_to(EffectName::Report);
    history.pop();
    history.pop();
    let run = fold(&history).unwrap();
    let verdict = Verdict::compose(&run, &Ending::Completed(Checking::NotWanted), "ab");
    assert_eq!(Verdict::read(&verdict.body, &verdict.key), Ok(verdict.clone()));
    let body: serde_json::Value = serde_json::from_str(&verdict.body).unwrap();
    assert_eq!(body["event"], "completed");
    assert_eq!(body["details"]["prURL"], body["details"]["pr_url"]);
    assert_eq!(body["details"]["outcome"], "pull_request");
    assert_eq!(body["details"]["state"], "PrOpened");
    assert_eq!(body["details"]["branch"], "runner/t-1");
    assert_eq!(body["details"]["journalHead"], "ab");
    assert_eq!(verdict.key, "t-1/report/1");
}

/// The generated parts of docs/machine.md. `UPDATE_DOCS=1 cargo test --lib machine` writes them anew.
#[test]
fn the_diagram_and_the_list_of_failures_in_the_docs_are_the_machines() {
    let path = &format!("{}/docs/machine.md", crate::ROOT);
    let docs = std::fs::read_to_string(path).unwrap();
    let diagram = format!("```mermaid\n{}```\n", mermaid());
    let rows = Failure::iter().map(|f| format!("| `{f}` | {} | {} |", f.sentence(), f.hint().unwrap_or("")));
    let rows: Vec<String> = rows.collect();
    let failures = format!(
        "| reason | what happened | what to do |\n|---|---|---|\n{}\n",
        rows.join("\n")
    );
    let current = replace_part(&replace_part(&docs, "diagram", &diagram), "failures", &failures);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        current,
        "run UPDATE_DOCS=1 cargo test --lib machine"
    );
}

fn replace_part(docs: &str, name: &str, part: &str) -> String {
    let begin = format!("<!-- generated: {name} -->\n");
    let end = "<!-- end -->";
    let start = docs.find(&begin).unwrap() + begin.len();
    let stop = start + docs[start..].find(end).unwrap();
    format!("{}\n{part}\n{}", &docs[..start], &docs[stop..])
}

/// Architecture invariant: the pure machine reaches no clock, no I/O and no runtime.
#[test]
fn the_machine_imports_nothing_impure() {
    let sources = [
        include_str!("effect.rs"),
        include_str!("event.rs"),
        include_str!("failure.rs"),
        include_str!("plan.rs"),
        include_str!("plan/tree.rs"),
        include_str!("state.rs"),
        include_str!("transition.rs"),
        include_str!("verdict.rs"),
        include_str!("work.rs"),
        include_str!("diagram.rs"),
    ];
    for source in sources {
        for impure in [
            "tokio",
            "std::time",
            "std::fs",
            "std::env",
            "std::process",
            "std::net",
            "reqwest",
            "rusqlite",
            "jiff",
            "async ",
        ] {
            let uses = source.lines().filter(|l| !l.trim_start().starts_with("//"));
            assert!(!uses.into_iter().any(|l| l.contains(impure)), "{impure}");
        }
    }
}
