//! What the agent may take: each bound just below, at and above.

use super::*;
use work::{Told, red, said, took};

fn lost(left: Left) -> Outcome {
    Outcome::Retry {
        trouble: Trouble::NoResult,
        cause: "it was killed.".to_owned(),
        after_ms: None,
        left,
    }
}

fn stopped(told: &Told, stopping: Stopping) -> Plan {
    plan(&told.run(), Situation { now: 60_000, stopping }, &told.policy)
}

#[test]
fn the_agent_goes_on_with_the_last_of_each_bound_and_not_without() {
    for (last, over, cause) in [
        (
            took(1_499_999, 0, 0),
            took(1_500_000, 0, 0),
            "It ran for 1500 s in all, and was stopped by RUNNER_AGENT_TIMEOUT, which is over all attempts.",
        ),
        (took(0, 49, 0), took(0, 50, 0), "It took 50 turns in 1 attempts."),
        (
            took(0, 0, 9_999_999),
            took(0, 0, 10_000_000),
            "It spent $10.00 in 1 attempts.",
        ),
    ] {
        let run = Told::cloned().then(EffectName::Agent, lost(last)).agent();
        assert!(run.time_left.ms >= 1 && run.turns_left >= 1, "{run:?}");
        let cut = Told::cloned().then(EffectName::Agent, lost(over)).cut().unwrap();
        assert_eq!(cut.cause, cause);
    }
}

#[test]
fn an_agent_is_started_as_often_as_it_may_be_and_the_last_loss_is_told() {
    let told = Told::cloned().then(EffectName::Agent, lost(Left::default()));
    assert_eq!(told.next().name(), EffectName::Agent, "the second start of two");
    let cut = told.then(EffectName::Agent, lost(Left::default())).cut().unwrap();
    assert_eq!(cut.failure, Failure::AgentLost);
    assert_eq!(cut.cause, "It was started 2 times. The last time, it was killed.");
}

#[test]
fn one_that_was_lost_while_it_mended_is_started_no_more_than_once_beyond_its_attempts() {
    let mut told = Told::cloned();
    told.policy.agent_attempts = 1;
    let told = told.then(EffectName::Agent, said("done"));
    let told = told.then(EffectName::Check, red(CommandEnd::Exit(1)));
    assert_eq!(told.next().name(), EffectName::Agent);
    let told = told.then(EffectName::Agent, lost(Left::default()));
    assert_eq!(told.cut(), None, "what the first one did is delivered");
}

#[test]
fn of_two_bounds_that_end_together_the_agents_own_is_named() {
    let left = |task_timeout_ms| {
        let mut told = Told::cloned();
        told.policy.task_timeout_ms = Some(task_timeout_ms);
        let run = told.agent();
        (run.time_left.bound, run.time_left.ms)
    };
    // Asked at 60 s, and two minutes are held back.
    assert_eq!(left(1_680_000), (Bound::AgentTimeout, 1_500_000));
    assert_eq!(left(1_679_999), (Bound::TaskTimeout, 1_499_999));
}

#[test]
fn two_minutes_are_held_back_from_eight_on_and_a_quarter_below() {
    let left = |task_timeout_ms| {
        let mut told = Told::cloned();
        told.policy.task_timeout_ms = Some(task_timeout_ms);
        told.agent().time_left.ms
    };
    assert_eq!(left(480_000), 480_000 - 120_000 - 60_000);
    assert_eq!(left(479_996), 479_996 - 119_999 - 60_000);
    assert_eq!(left(480_004), 480_004 - 120_000 - 60_000);
}

#[test]
fn a_token_bounds_the_agent_two_minutes_before_it_expires_and_a_path_has_none() {
    let expiry = Millis::MAX / 2;
    let told = || {
        let mut told = Told::cloned();
        told.policy.agent_timeout_ms = Millis::MAX;
        told
    };
    match told().plan_at(expiry - 120_001) {
        Plan::Do {
            effect: Effect::Agent(run),
            ..
        } => assert_eq!((run.time_left.bound, run.time_left.ms), (Bound::TokenExpiry, 1)),
        other => panic!("{other:?}"),
    }
    match told().plan_at(expiry - 120_000) {
        Plan::Conclude(Ending::Failed { failure, cause, .. }) => {
            assert_eq!(failure, Failure::AgentTimedOut);
            assert!(cause.contains("the expiry of the repository's token"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
    match told().local().plan_at(expiry - 120_000) {
        Plan::Do { effect, .. } => assert_eq!(effect.name(), EffectName::Agent),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_runner_that_is_told_to_stop_or_dies_again_and_again_mends_nothing() {
    let told = || {
        let told = Told::cloned().then(EffectName::Agent, said("done"));
        told.then(EffectName::Check, red(CommandEnd::Exit(1)))
    };
    assert_eq!(told().next().name(), EffectName::Agent);
    match stopped(&told(), Stopping::Grace) {
        Plan::Do { effect, .. } => assert_eq!(effect.name(), EffectName::Handover),
        other => panic!("{other:?}"),
    }
    let mut dying = told();
    dying.history.extend(vec![Event::Booted { at: 0 }; 5]);
    assert_eq!(dying.cut(), None);
}

#[test]
fn a_check_is_run_where_there_is_one_and_a_set_up_too() {
    let mut told = Told::cloned().then(EffectName::Agent, said("done"));
    assert_eq!(told.next().name(), EffectName::Check);
    told.policy.check = false;
    assert_eq!(told.next().name(), EffectName::Handover);
    let mut told = Told::cloned();
    assert_eq!(told.next().name(), EffectName::Agent);
    told.policy.setup = true;
    assert_eq!(told.next().name(), EffectName::Setup);
    assert_eq!(told.done(EffectName::Setup).next().name(), EffectName::Agent);
}

#[test]
fn an_open_intent_stays_what_it_was_whatever_has_cut_the_agent_since() {
    for effect in [
        EffectName::Setup,
        EffectName::Agent,
        EffectName::Check,
        EffectName::Handover,
    ] {
        let mut history = up_to(effect);
        if effect == EffectName::Setup {
            // Something to save, so that being told to stop is not the end of it.
            history.pop();
            history.extend(up_to(EffectName::Agent).pop());
            history.push(ended(EffectName::Agent, 1, Outcome::Parked(Left::default()), 0));
            history.extend(up_to(EffectName::Setup).pop());
        }
        let grace = Situation {
            now: 60_000,
            stopping: Stopping::Grace,
        };
        match plan(&fold(&history).unwrap(), grace, &policy()) {
            Plan::Probe { effect: probed, .. } => assert_eq!(probed.name(), effect),
            other => panic!("{effect}: {other:?}"),
        }
    }
}

#[test]
fn a_hand_over_is_dated_by_its_first_intent_so_that_a_second_makes_the_same_commit() {
    let dated = |history: &[Event]| match plan(&fold(history).unwrap(), at(900_000), &policy()) {
        Plan::Do {
            effect: Effect::Handover { at, .. },
            ..
        } => at,
        other => panic!("{other:?}"),
    };
    let mut told = Told::cloned();
    if let Some(Event::Ended { at, .. }) = told.history.last_mut() {
        *at = 500;
    }
    let mut history = told.then(EffectName::Agent, said("done")).history;
    assert_eq!(dated(&history), 500, "before it was intended, by the state it is of");
    history.push(Event::Intended {
        effect: EffectName::Handover,
        attempt: 1,
        session: None,
        at: 700,
    });
    history.push(ended(EffectName::Handover, 1, retry(Trouble::NoResult), 800));
    assert_eq!(dated(&history), 700);
}

#[test]
fn what_an_agent_says_of_its_mending_comes_after_what_it_said_first() {
    let report = |summary: &str, model: Option<&str>, session: Option<&str>, turns| AgentReport {
        summary: Some(summary.to_owned()),
        model: model.map(str::to_owned),
        session_id: session.map(str::to_owned),
        missing_parts: Vec::new(),
        effort: Effort {
            turns: Some(turns),
            ..Effort::default()
        },
    };
    let end = |report| Outcome::Done {
        fact: Fact::AgentEnded(report),
    };
    let mended = |first, then| {
        let told = Told::cloned().then(EffectName::Agent, end(first));
        let told = told.then(EffectName::Check, red(CommandEnd::Exit(1)));
        let told = told.then(EffectName::Agent, end(then));
        told.run().state.unwrap().agent().cloned().unwrap()
    };
    let whole = mended(
        report("One.", Some("m-1"), Some("s-1"), 3),
        report("Two.", Some("m-2"), Some("s-2"), 4),
    );
    assert_eq!(whole, report("One.\n\nTwo.", Some("m-1"), Some("s-2"), 7));
    let whole = mended(
        report("One.", None, Some("s-1"), 3),
        report("Two.", Some("m-2"), None, 4),
    );
    assert_eq!(whole, report("One.\n\nTwo.", Some("m-2"), Some("s-1"), 7));
    let whole = mended(report(&"x".repeat(9_000), None, None, 0), report("Two.", None, None, 0));
    assert_eq!(whole.summary, Some(format!("{}…", "x".repeat(8 * 1024))));

    let without = |servers: &[&str]| AgentReport {
        missing_parts: servers
            .iter()
            .map(|server| MissingPart {
                plugin: "p".to_owned(),
                server: Some((*server).to_owned()),
                status: "failed".to_owned(),
            })
            .collect(),
        ..AgentReport::default()
    };
    let whole = mended(without(&["one", "two"]), without(&["two", "three"]));
    assert_eq!(whole.missing_parts, without(&["one", "two", "three"]).missing_parts);
}
