//! The archive: begun once the verdict is told, bounded in attempts and in time, and nothing else depends on it.

use super::*;

/// A history whose verdict was told at `0`, in the first start.
fn reported() -> Vec<Event> {
    let mut history = up_to(EffectName::Report);
    let ack = Fact::Reported { ack: Ack::Accepted };
    history.push(ended(EffectName::Report, 1, Outcome::Done { fact: ack }, 0));
    history
}

fn intended(attempt: u32, at: Millis) -> Event {
    Event::Intended {
        effect: EffectName::Archive,
        attempt,
        session: None,
        at,
    }
}

fn not_done(attempt: u32, at: Millis) -> Event {
    Event::Probed {
        effect: EffectName::Archive,
        attempt,
        finding: Finding::NotDone(Left::default()),
        at,
    }
}

fn refused(attempt: u32, after_ms: Option<Millis>, at: Millis) -> Event {
    let outcome = Outcome::Retry {
        trouble: Trouble::Unreachable,
        cause: String::new(),
        after_ms,
        left: Left::default(),
    };
    ended(EffectName::Archive, attempt, outcome, at)
}

fn planned_while(history: &[Event], now: Millis, stopping: Stopping) -> Plan {
    let policy = Policy {
        archive: Archiving::On,
        ..policy()
    };
    plan(&fold(history).unwrap(), Situation { now, stopping }, &policy)
}

fn planned(history: &[Event], now: Millis) -> Plan {
    planned_while(history, now, Stopping::No)
}

/// Which attempt is made, whether another may follow, and how long it may take.
fn attempt(planned: Plan) -> (u32, ArchivePatience, Millis) {
    match planned {
        Plan::Do {
            effect: Effect::Archive {
                patience, within_ms, ..
            },
            attempt,
        }
        | Plan::Probe {
            effect: Effect::Archive {
                patience, within_ms, ..
            },
            attempt,
        } => (attempt, patience, within_ms),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_archive_is_made_once_the_verdict_is_told_and_only_where_there_is_a_place_for_it() {
    let told = reported();
    let without = plan(&fold(&told).unwrap(), at(0), &policy());
    assert_eq!(without, Plan::Stop(Exit::Completed));
    assert_eq!(attempt(planned(&told, 0)), (1, ArchivePatience::TryAgain, 25_000));
    for end in 0..told.len() - 1 {
        let plan = planned(&told[..end], 0);
        let archives = matches!(
            plan,
            Plan::Do {
                effect: Effect::Archive { .. },
                ..
            }
        );
        assert!(!archives, "before the verdict is told: {plan:?}");
    }
}

#[test]
fn whatever_came_of_the_archive_the_exit_is_the_verdicts_and_the_next_start_has_nothing_to_do() {
    let missed = Outcome::Missed { cause: String::new() };
    let fact = fact(EffectName::Archive, Changed::Yes, None);
    for (outcome, end) in [(Outcome::Done { fact }, ArchiveEnd::Kept), (missed, ArchiveEnd::Missed)] {
        let mut history = reported();
        history.extend([intended(1, 0), ended(EffectName::Archive, 1, outcome, 0)]);
        let run = fold(&history).unwrap();
        assert_eq!((run.archive, run.state_name()), (Some(end), Some(StateName::Reported)));
        assert_eq!(run.ending, None);
        assert_eq!(planned(&history, 0), Plan::Stop(Exit::Completed));
        history.push(Event::Booted { at: 1 });
        assert_eq!(planned(&history, 1), Plan::Stop(Exit::NothingToDo));
    }
}

#[test]
fn a_task_that_was_ended_elsewhere_is_archived_too() {
    let mut history = up_to(EffectName::Data);
    history.push(ended(EffectName::Data, 1, Outcome::Superseded, 0));
    let run = fold(&history).unwrap();
    let verdict = Arc::new(Verdict::compose(&run, &Ending::Superseded, ""));
    history.push(Event::Concluded { verdict, at: 0 });
    assert_eq!(attempt(planned(&history, 0)).0, 1);
}

#[test]
fn told_to_stop_it_is_gone_on_with_while_the_grace_lasts_and_left_to_the_next_start_after_it() {
    let mut history = reported();
    for on_term in [OnTerm::Report, OnTerm::Park] {
        let planned = |stopping| {
            let policy = Policy {
                archive: Archiving::On,
                on_term,
                ..policy()
            };
            plan(&fold(&reported()).unwrap(), Situation { now: 0, stopping }, &policy)
        };
        assert_eq!(attempt(planned(Stopping::Grace)).0, 1);
        assert_eq!(planned(Stopping::Over), Plan::Stop(Exit::Completed));
    }
    history.push(intended(1, 0));
    assert_eq!(planned_while(&history, 0, Stopping::Over), Plan::Stop(Exit::Completed));
    history.push(Event::Booted { at: 1 });
    assert!(matches!(planned(&history, 1), Plan::Probe { attempt: 1, .. }));
    history.push(not_done(1, 1));
    assert!(matches!(planned(&history, 1), Plan::Do { attempt: 2, .. }));
}

#[test]
fn an_attempt_has_25_seconds_and_is_the_last_where_another_has_no_time_for_as_many() {
    let mut history = reported();
    history.extend([intended(1, 0), refused(1, None, 0)]);
    let at = |now| attempt(planned(&history, now));
    assert_eq!(at(32_000), (2, ArchivePatience::TryAgain, 25_000));
    assert_eq!(at(32_001), (2, ArchivePatience::LastTime, 25_000));
    assert_eq!(at(35_000), (2, ArchivePatience::LastTime, 25_000));
    assert_eq!(at(35_001), (2, ArchivePatience::LastTime, 24_999));
    assert_eq!(at(59_000), (2, ArchivePatience::LastTime, 1_000));
    assert_eq!(at(9_000_000), (2, ArchivePatience::LastTime, 1_000));
}

#[test]
fn its_time_counts_from_the_first_try_of_a_start_and_the_fifth_attempt_of_all_is_the_last() {
    let mut history = reported();
    history.push(intended(1, 1_000_000));
    for boot in 2..=5 {
        let at = 100_000_000 * i64::from(boot);
        history.push(Event::Booted { at });
        let (open, patience, within) = attempt(planned(&history, at));
        assert_eq!((open, patience, within), (boot - 1, ArchivePatience::TryAgain, 25_000));
        assert_eq!(attempt(planned(&history, at + 32_001)).1, ArchivePatience::LastTime);
        history.push(not_done(boot - 1, at));
        let (next, patience, _) = attempt(planned(&history, at));
        let last = if boot == 5 {
            ArchivePatience::LastTime
        } else {
            ArchivePatience::TryAgain
        };
        assert_eq!((next, patience), (boot, last));
        history.push(intended(boot, at));
    }
    history.push(Event::Booted { at: 600_000_000 });
    assert_eq!(
        attempt(planned(&history, 600_000_000)).1,
        ArchivePatience::LastTime,
        "it is not begun a sixth time"
    );
    // The first of a start is not late because the start itself took long.
    let mut late = reported();
    late.push(intended(1, 5_000_000));
    assert_eq!(
        attempt(planned(&late, 5_000_000)),
        (1, ArchivePatience::TryAgain, 25_000)
    );
}

#[test]
fn it_waits_as_long_as_it_was_asked_to_and_no_longer_than_its_time() {
    let mut history = reported();
    history.extend([intended(1, 0), refused(1, Some(7_000), 10)]);
    assert_eq!(planned(&history, 10), Plan::Wait { for_ms: 7_000 });
    assert_eq!(planned(&history, 7_009), Plan::Wait { for_ms: 1 });
    assert_eq!(attempt(planned(&history, 7_010)).0, 2);
    assert_eq!(
        attempt(planned(&history, 9)).0,
        2,
        "a clock that was set back holds nothing up"
    );
    let mut history = reported();
    history.extend([intended(1, 0), refused(1, Some(300_000), 10)]);
    assert_eq!(planned(&history, 10), Plan::Wait { for_ms: 59_990 });
    assert_eq!(planned(&history, 59_999), Plan::Wait { for_ms: 1 });
    assert_eq!(
        attempt(planned(&history, 60_000)),
        (2, ArchivePatience::LastTime, 1_000)
    );
    // A wait is a matter of one start.
    history.push(Event::Booted { at: 20 });
    assert_eq!(attempt(planned(&history, 20)).0, 2);
}

#[test]
fn nothing_but_the_archive_can_be_missed() {
    for effect in EffectName::iter().filter(|effect| *effect != EffectName::Archive) {
        let missed = ended(effect, 1, Outcome::Missed { cause: String::new() }, 0);
        let run = fold(&up_to(effect)).unwrap();
        let refused = transition(&run, &missed).unwrap_err();
        assert_eq!(refused.refusal, Refusal::WrongFact(effect));
    }
}
