//! What cannot have happened: each is refused by its name, wherever it comes.

use super::*;

fn booted() -> Event {
    Event::Booted { at: 1 }
}

fn assigned() -> Event {
    Event::Assigned {
        assignment: assignment(),
        at: 1,
    }
}

fn intended(effect: EffectName, attempt: u32) -> Event {
    Event::Intended { effect, attempt, at: 1 }
}

fn ended(effect: EffectName, attempt: u32, outcome: Outcome) -> Event {
    Event::Ended {
        effect,
        attempt,
        outcome,
        at: 1,
    }
}

fn not_done(effect: EffectName, attempt: u32) -> Event {
    Event::Probed {
        effect,
        attempt,
        finding: Finding::NotDone,
        at: 1,
    }
}

fn concluded() -> Event {
    Event::Concluded {
        verdict: Verdict::compose(&Run::default(), &Ending::Idle, "head"),
        at: 1,
    }
}

fn a_job() -> Outcome {
    Outcome::Done {
        fact: Fact::Job(JobReport {
            end: JobEnd::Ran,
            result: None,
            job: None,
            listener: None,
        }),
    }
}

fn removed() -> Outcome {
    Outcome::Done {
        fact: Fact::Removed { names: Vec::new() },
    }
}

fn taken() -> Outcome {
    Outcome::Taken { cause: "409".into() }
}

fn refused() -> Outcome {
    Outcome::Failed {
        failure: Failure::Forbidden,
        cause: "403".into(),
    }
}

fn is_registered() -> Outcome {
    registered(7, "pod-1a2b3c4d-1", Config::AtHand)
}

fn fold(events: &[Event]) -> Run {
    let step = |run: Run, event: &Event| transition(&run, event).unwrap_or_else(|refused| panic!("{refused}"));
    events.iter().fold(Run::default(), step)
}

/// A life up to the registration that is at hand.
fn up_to_registered() -> Vec<Event> {
    vec![
        booted(),
        assigned(),
        intended(EffectName::Register, 1),
        ended(EffectName::Register, 1, is_registered()),
    ]
}

fn and(mut events: Vec<Event>, more: impl IntoIterator<Item = Event>) -> Vec<Event> {
    events.extend(more);
    events
}

/// After these events, each of those is refused so, and what was known before is known still.
fn refuses(events: &[Event], cases: &[(Event, Refusal)]) {
    let run = fold(events);
    let before = run.clone();
    for (event, refusal) in cases {
        let illegal = transition(&run, event).expect_err("it is illegal");
        assert_eq!(illegal.refusal, *refusal, "{event:?} after {events:?}");
        assert_eq!(illegal.state, run.state);
    }
    assert_eq!(run, before);
}

#[test]
fn nothing_comes_before_the_assignment_and_no_second_one_after_it() {
    refuses(
        &[booted()],
        &[
            (intended(EffectName::Register, 1), Refusal::NotAssigned),
            (concluded(), Refusal::NotAssigned),
            (not_done(EffectName::Register, 1), Refusal::NotAssigned),
        ],
    );
    refuses(&[booted(), assigned()], &[(assigned(), Refusal::AlreadyAssigned)]);
}

#[test]
fn an_effect_is_intended_only_where_it_has_something_to_do_and_its_attempts_have_no_gap() {
    use EffectName::{Job, Register, Remove};
    let wrong = |effect, got, expected| Refusal::WrongAttempt { effect, got, expected };
    refuses(
        &[booted(), assigned()],
        &[
            (intended(Job, 1), Refusal::NotAnEffectOfState(Job)),
            (intended(Remove, 1), Refusal::NotAnEffectOfState(Remove)),
            (intended(Register, 0), wrong(Register, 0, 1)),
            (intended(Register, 2), wrong(Register, 2, 1)),
        ],
    );
    let here = up_to_registered();
    refuses(
        &here,
        &[
            (intended(Register, 2), Refusal::NotAnEffectOfState(Register)),
            (intended(Job, 2), wrong(Job, 2, 1)),
        ],
    );
    // Its configuration was another start's.
    refuses(
        &and(here.clone(), [booted()]),
        &[(intended(Job, 1), Refusal::NotAnEffectOfState(Job))],
    );
    // The end is known: nothing more is begun, and what is registered is removed.
    let known = and(here, [intended(Job, 1), ended(Job, 1, refused())]);
    refuses(&known, &[(intended(Job, 2), Refusal::NotAnEffectOfState(Job))]);
    let gone = and(known, [intended(Remove, 1), ended(Remove, 1, removed())]);
    refuses(
        &gone,
        &[
            (intended(Register, 2), Refusal::NotAnEffectOfState(Register)),
            (intended(Remove, 2), Refusal::NotAnEffectOfState(Remove)),
        ],
    );
    assert_eq!(
        wrong(Register, 2, 1).to_string(),
        "attempt 2 of register comes where 1 would"
    );
}

#[test]
fn while_an_intent_is_open_nothing_else_is_begun_or_ended() {
    use EffectName::{Job, Register};
    refuses(
        &[booted(), assigned(), intended(Register, 1)],
        &[
            (intended(Register, 2), Refusal::IntentOpen(Register)),
            (concluded(), Refusal::IntentOpen(Register)),
            (ended(Register, 2, is_registered()), Refusal::NoSuchIntent(Register)),
            (ended(Job, 1, a_job()), Refusal::NoSuchIntent(Job)),
            (not_done(Register, 2), Refusal::NoSuchIntent(Register)),
            (not_done(Job, 1), Refusal::NoSuchIntent(Job)),
        ],
    );
    // And what is not open has no end.
    refuses(
        &up_to_registered(),
        &[
            (ended(Register, 1, is_registered()), Refusal::NoSuchIntent(Register)),
            (not_done(Register, 1), Refusal::NoSuchIntent(Register)),
        ],
    );
}

#[test]
fn an_outcome_is_one_of_its_own_effect() {
    use EffectName::{Job, Register, Remove};
    let registering = [booted(), assigned(), intended(Register, 1)];
    let wrong = |outcome| (ended(Register, 1, outcome), Refusal::WrongOutcome(Register));
    refuses(&registering, &[wrong(a_job()), wrong(removed())]);
    let working = and(up_to_registered(), [intended(Job, 1)]);
    let wrong = |outcome| (ended(Job, 1, outcome), Refusal::WrongOutcome(Job));
    refuses(&working, &[wrong(is_registered()), wrong(removed()), wrong(taken())]);
    let removing = and(up_to_registered(), [intended(Remove, 1)]);
    let wrong = |outcome| (ended(Remove, 1, outcome), Refusal::WrongOutcome(Remove));
    refuses(
        &removing,
        &[wrong(is_registered()), wrong(a_job()), wrong(refused()), wrong(taken())],
    );
}

#[test]
fn nothing_is_concluded_while_something_is_registered_or_may_be_and_nothing_comes_after() {
    use EffectName::Register;
    refuses(&up_to_registered(), &[(concluded(), Refusal::StillRegistered)]);
    let suspected = [booted(), assigned(), intended(Register, 1), not_done(Register, 1)];
    refuses(&suspected, &[(concluded(), Refusal::StillRegistered)]);
    refuses(
        &[booted(), assigned(), concluded()],
        &[
            (concluded(), Refusal::Concluded),
            (intended(Register, 1), Refusal::Concluded),
            (ended(Register, 1, is_registered()), Refusal::Concluded),
        ],
    );
}
