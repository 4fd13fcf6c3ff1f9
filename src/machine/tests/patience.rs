//! How long the other side is waited for: each wait and each patience just below its end, at it and above it.

use super::*;
use work::Told;

/// A history up to an effect's first attempt, which came to nothing at `0`.
fn missed(effect: EffectName, after_ms: Option<Millis>) -> Vec<Event> {
    let mut history = up_to(effect);
    let outcome = Outcome::Retry {
        trouble: Trouble::Unreachable,
        cause: String::new(),
        after_ms,
        left: Left::default(),
    };
    history.push(ended(effect, 1, outcome, 0));
    history
}

fn planned(history: &[Event], now: Millis, stopping: Stopping) -> Plan {
    plan(&fold(history).unwrap(), Situation { now, stopping }, &policy())
}

fn ending_of(planned: Plan) -> (Failure, String) {
    match planned {
        Plan::Conclude(Ending::Failed { failure, cause, .. }) | Plan::GiveUp { failure, cause, .. } => (failure, cause),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wait_is_drawn_from_its_seed_and_the_same_for_ever() {
    let waits = [
        (0, 0),
        (1, 437),
        (2, 403),
        (3, 1187),
        (4, 2019),
        (5, 861),
        (6, 1967),
        (7, 19_941),
        (8, 11_036),
        (17, 13_277),
        (18, 26_757),
        (40, 27_639),
    ];
    for (misses, wait) in waits {
        assert_eq!(backoff_ms(misses, "t-1/data"), wait, "{misses}");
    }
    assert_ne!(backoff_ms(5, "t-1/data"), backoff_ms(5, "t-2/data"));
}

#[test]
fn a_wait_lies_between_a_tenth_of_its_ceiling_and_its_ceiling_which_doubles_up_to_30_seconds() {
    let ceilings = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000];
    for (misses, ceiling) in (1..).zip(ceilings) {
        let waits: Vec<Millis> = (0..200).map(|seed| backoff_ms(misses, &seed.to_string())).collect();
        assert!(
            waits.iter().all(|wait| (ceiling / 10..ceiling).contains(wait)),
            "{misses}"
        );
        // Full jitter: both ends of the range are drawn from.
        assert!(waits.iter().any(|wait| *wait < ceiling / 4), "{misses}");
        assert!(waits.iter().any(|wait| *wait > ceiling * 3 / 4), "{misses}");
    }
}

#[test]
fn what_the_other_side_asks_for_is_waited_to_the_millisecond() {
    let history = missed(EffectName::Data, Some(45_000));
    assert_eq!(planned(&history, 0, Stopping::No), Plan::Wait { for_ms: 45_000 });
    assert_eq!(planned(&history, 44_999, Stopping::No), Plan::Wait { for_ms: 1 });
    assert!(matches!(
        planned(&history, 45_000, Stopping::No),
        Plan::Do { attempt: 2, .. }
    ));
}

/// Every wait is planned anew after it: one that does not get shorter never ends.
#[test]
fn a_clock_that_is_set_back_before_the_last_miss_holds_no_try_up() {
    for set_back_by in [7, 3_600_000] {
        for effect in [EffectName::Data, EffectName::Push, EffectName::Report] {
            let history = missed(effect, Some(45_000));
            let (mut now, mut waited) = (-set_back_by, 0);
            while let Plan::Wait { for_ms } = planned(&history, now, Stopping::No) {
                now += for_ms;
                waited += for_ms;
                assert!(waited <= 45_000, "{effect}: {waited} ms, and no end");
            }
            // What is heard of the try is by the new time, and so is the next wait.
            let mut history = history;
            history.push(Event::Intended {
                effect,
                attempt: 2,
                session: None,
                at: now,
            });
            history.push(ended(effect, 2, retry(Trouble::Unreachable), now));
            let Plan::Wait { for_ms } = planned(&history, now, Stopping::No) else {
                panic!("{effect}: a miss is waited for");
            };
            assert!(matches!(
                planned(&history, now + for_ms, Stopping::No),
                Plan::Do { attempt: 3, .. }
            ));
        }
    }
}

#[test]
fn no_wait_outlasts_the_patience_and_at_its_end_it_is_tried_once_more() {
    // `started` has 15 seconds, whatever it is asked to wait for.
    let history = missed(EffectName::Start, Some(300_000));
    assert_eq!(planned(&history, 0, Stopping::No), Plan::Wait { for_ms: 15_000 });
    assert!(matches!(
        planned(&history, 15_000, Stopping::No),
        Plan::Do {
            effect: Effect::Start {
                patience: StartPatience::LastTime,
                ..
            },
            attempt: 2
        }
    ));
    let mut history = missed(EffectName::Push, Some(3_600_000));
    assert_eq!(planned(&history, 0, Stopping::No), Plan::Wait { for_ms: 599_000 });
    assert!(matches!(
        planned(&history, 599_000, Stopping::No),
        Plan::Do { attempt: 2, .. }
    ));
    history.push(Event::Intended {
        effect: EffectName::Push,
        attempt: 2,
        session: None,
        at: 599_000,
    });
    let outcome = Outcome::Retry {
        trouble: Trouble::Unreachable,
        cause: String::new(),
        after_ms: Some(3_600_000),
        left: Left::default(),
    };
    // At the very moment of the last try: it is not made again.
    history.push(ended(EffectName::Push, 2, outcome, 599_000));
    assert_eq!(planned(&history, 599_000, Stopping::No), Plan::Wait { for_ms: 1_000 });
    assert_eq!(
        ending_of(planned(&history, 600_000, Stopping::No)).0,
        Failure::ApiUnreachable
    );
}

#[test]
fn a_new_start_asks_at_once_whatever_the_last_one_was_asked_to_wait_for() {
    let mut history = missed(EffectName::Data, Some(45_000));
    history.push(Event::Booted { at: 1 });
    assert!(matches!(
        planned(&history, 1, Stopping::No),
        Plan::Do { attempt: 2, .. }
    ));
}

#[test]
fn the_patience_with_an_api_ends_at_its_last_millisecond_and_counts_from_this_start_and_the_first_miss() {
    for effect in [
        EffectName::Data,
        EffectName::Token,
        EffectName::Clone,
        EffectName::Push,
        EffectName::PullRequest,
    ] {
        let mut history = missed(effect, None);
        assert!(
            matches!(planned(&history, 599_999, Stopping::No), Plan::Do { .. }),
            "{effect}"
        );
        let (failure, cause) = ending_of(planned(&history, 600_000, Stopping::No));
        assert_eq!(failure, Failure::ApiUnreachable);
        assert_eq!(cause, format!("{effect} was tried 1 times, over 600 s in this start."));
        // Nobody was asking while the runner was down, and nothing has missed since.
        history.push(Event::Booted { at: 1_000_000 });
        assert!(
            matches!(planned(&history, 9_000_000, Stopping::No), Plan::Do { .. }),
            "{effect}"
        );
        history.push(Event::Intended {
            effect,
            attempt: 2,
            session: None,
            at: 1_000_000,
        });
        // The search for what came of an open intent has the same patience.
        history.push(Event::Noted {
            note: Note::AnswerLost {
                effect,
                cause: String::new(),
            },
            at: 1_000_000,
        });
        assert!(
            matches!(planned(&history, 1_599_999, Stopping::No), Plan::Probe { .. }),
            "{effect}"
        );
        let given_up = planned(&history, 1_600_000, Stopping::No);
        assert!(matches!(given_up, Plan::GiveUp { attempt: 2, .. }), "{given_up:?}");
        assert_eq!(ending_of(given_up).0, Failure::ApiUnreachable);
    }
}

#[test]
fn where_the_patience_ends_what_was_answered_last_is_said() {
    let mut history = up_to(EffectName::Push);
    history.push(ended(EffectName::Push, 1, retry(Trouble::Unreachable), 0));
    let said = |history: &[Event]| ending_of(planned(history, 600_000, Stopping::No)).1;
    assert_eq!(
        said(&history),
        "push was tried 1 times, over 600 s in this start. The last time: no"
    );
    history.push(Event::Intended {
        effect: EffectName::Push,
        attempt: 2,
        session: None,
        at: 1,
    });
    history.push(Event::Noted {
        note: Note::AnswerLost {
            effect: EffectName::Push,
            cause: "the line was cut".to_owned(),
        },
        at: 2,
    });
    assert_eq!(
        said(&history),
        "push was tried 2 times, over 600 s in this start. The last time: the line was cut"
    );
}

#[test]
fn what_has_not_missed_is_not_away_however_long_it_takes() {
    for effect in [
        EffectName::Data,
        EffectName::Token,
        EffectName::Clone,
        EffectName::Push,
        EffectName::PullRequest,
    ] {
        let history = up_to(effect);
        assert!(
            matches!(planned(&history, 9_000_000, Stopping::No), Plan::Probe { .. }),
            "{effect}"
        );
    }
}

#[test]
fn no_patience_ends_what_is_best_effort() {
    let mut history = up_to(EffectName::Start);
    history.extend((0..99).map(|at| unanswered(EffectName::Start, at)));
    assert!(matches!(planned(&history, 9_000_000, Stopping::No), Plan::Probe { .. }));
}

/// No word on what came of it.
fn unanswered(effect: EffectName, at: Millis) -> Event {
    let cause = "process 7 hangs".to_owned();
    Event::Noted {
        note: Note::AnswerLost { effect, cause },
        at,
    }
}

#[test]
fn what_is_local_is_asked_twenty_times_in_a_start_and_given_up_with_what_was_said_last() {
    for effect in [
        EffectName::Setup,
        EffectName::Agent,
        EffectName::Check,
        EffectName::Handover,
    ] {
        let mut history = up_to(effect);
        history.extend((0..19).map(|at| unanswered(effect, at)));
        let asked = |history: &[Event]| matches!(planned(history, 9_000_000, Stopping::No), Plan::Probe { .. });
        assert!(
            asked(&history),
            "{effect}: no time is too long for what is asked seldom"
        );
        let mut last = history.clone();
        last.push(unanswered(effect, 19));
        let given_up = planned(&last, 19, Stopping::No);
        assert!(
            matches!(given_up, Plan::GiveUp { attempt: 1, .. }),
            "{effect}: {given_up:?}"
        );
        let (failure, cause) = ending_of(given_up);
        assert_eq!(failure, Failure::Internal);
        assert_eq!(
            cause,
            format!(
                "What came of {effect} 1 could not be found out, 20 times in this start. The last time: process 7 hangs"
            )
        );

        // What another start was told counts for nothing in this one.
        history.push(Event::Booted { at: 20 });
        history.push(unanswered(effect, 21));
        assert!(asked(&history), "{effect}");
    }
}

#[test]
fn attempts_that_came_to_nothing_are_not_counted_among_what_was_asked() {
    let mut history = missed(EffectName::Handover, None);
    history.push(Event::Intended {
        effect: EffectName::Handover,
        attempt: 2,
        session: None,
        at: 1,
    });
    history.extend((0..19).map(|at| unanswered(EffectName::Handover, at)));
    assert!(matches!(
        planned(&history, 9_000_000, Stopping::No),
        Plan::Probe { attempt: 2, .. }
    ));
}

#[test]
fn a_verdict_is_sent_once_even_where_the_grace_is_over_and_left_to_the_next_start_at_the_first_miss() {
    let mut unsent = up_to(EffectName::Report);
    unsent.pop();
    for stopping in [Stopping::No, Stopping::Grace, Stopping::Over] {
        let planned = planned(&unsent, 9_000_000, stopping);
        assert!(
            matches!(planned, Plan::Do { attempt: 1, .. }),
            "{stopping:?}: {planned:?}"
        );
    }
    let history = missed(EffectName::Report, None);
    assert_eq!(planned(&history, 0, Stopping::Over), Plan::Stop(Exit::Undelivered));
    assert!(matches!(planned(&history, 0, Stopping::Grace), Plan::Wait { .. }));
    assert!(matches!(
        planned(&history, 599_999, Stopping::No),
        Plan::Do { attempt: 2, .. }
    ));
    assert_eq!(planned(&history, 600_000, Stopping::No), Plan::Stop(Exit::Undelivered));
}

#[test]
fn started_has_four_seconds_a_try_whenever_the_first_is_and_half_a_second_at_the_least() {
    let start = |history: &[Event], now| match planned(history, now, Stopping::No) {
        Plan::Do {
            effect: Effect::Start { patience, within_ms },
            ..
        } => (patience, within_ms),
        other => panic!("{other:?}"),
    };
    let mut unsent = up_to(EffectName::Start);
    unsent.pop();
    assert_eq!(start(&unsent, 9_000_000), (StartPatience::TryAgain, 4_000));
    let history = missed(EffectName::Start, None);
    assert_eq!(start(&history, 11_000), (StartPatience::LastTime, 4_000));
    assert_eq!(start(&history, 11_001), (StartPatience::LastTime, 3_999));
    assert_eq!(start(&history, 14_500), (StartPatience::LastTime, 500));
    assert_eq!(start(&history, 14_501), (StartPatience::LastTime, 500));
    assert_eq!(start(&history, 9_000_000), (StartPatience::LastTime, 500));
}

#[test]
fn a_hand_over_that_misses_three_times_is_a_failure_of_the_runner_itself() {
    let mut told = Told::cloned().then(EffectName::Agent, work::said("done"));
    told.policy.check = false;
    for _ in 0..3 {
        assert_eq!(told.next().name(), EffectName::Handover);
        told = told.then(EffectName::Handover, retry(Trouble::NoResult));
    }
    let (failure, cause) = ending_of(told.plan_at(60_000));
    assert_eq!(failure, Failure::Internal);
    assert_eq!(cause, "The hand-over was tried 3 times.");
}
