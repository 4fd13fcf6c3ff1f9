//! What is next: how long is waited, for whom, what begins the waiting anew, and how it ends.

use super::*;

const POLICY: Policy = Policy { patience_ms: 60_000 };

fn planned(life: &Life, now: i64) -> Plan {
    let stopping = Stopping::No;
    plan(&life.run, Situation { now, stopping }, POLICY)
}

fn intend(life: &mut Life, effect: EffectName, attempt: u32, at: i64) {
    life.record(&[Event::Intended { effect, attempt, at }]);
}

fn comes_to_nothing(life: &mut Life, effect: EffectName, attempt: u32, after_ms: Option<i64>, at: i64) {
    life.record(&[Event::Ended {
        effect,
        attempt,
        outcome: Outcome::Retry {
            cause: "busy".into(),
            after_ms,
        },
        at,
    }]);
}

#[test]
fn the_patience_is_over_at_its_last_millisecond_and_counts_from_the_first_try() {
    let mut life = Life::new();
    intend(&mut life, EffectName::Register, 1, 1_000);
    comes_to_nothing(&mut life, EffectName::Register, 1, None, 2_000);
    assert!(matches!(planned(&life, 60_999), Plan::Do { attempt: 2, .. }));
    assert_eq!(planned(&life, 61_000), Plan::Stop(Exit::Left(Left::Unreachable)));
    intend(&mut life, EffectName::Register, 2, 50_000);
    comes_to_nothing(&mut life, EffectName::Register, 2, None, 50_000);
    assert_eq!(planned(&life, 61_000), Plan::Stop(Exit::Left(Left::Unreachable)));
}

#[test]
fn a_wait_ends_with_its_last_millisecond() {
    let mut life = Life::new();
    intend(&mut life, EffectName::Register, 1, 1_000);
    comes_to_nothing(&mut life, EffectName::Register, 1, Some(30_000), 1_000);
    assert_eq!(planned(&life, 30_999), Plan::Wait { for_ms: 1 });
    assert!(matches!(planned(&life, 31_000), Plan::Do { attempt: 2, .. }));
}

#[test]
fn a_start_and_a_success_begin_every_wait_anew() {
    let mut life = Life::new();
    intend(&mut life, EffectName::Register, 1, 1_000);
    comes_to_nothing(&mut life, EffectName::Register, 1, Some(30_000), 1_000);
    life.boot();
    assert!(matches!(planned(&life, 1_001), Plan::Do { attempt: 2, .. }));
    intend(&mut life, EffectName::Register, 2, 70_000);
    comes_to_nothing(&mut life, EffectName::Register, 2, Some(30_000), 70_000);
    intend(&mut life, EffectName::Register, 3, 100_000);
    life.record(&[Event::Ended {
        effect: EffectName::Register,
        attempt: 3,
        outcome: registered(7, "pod-1a2b3c4d-3", Config::AtHand),
        at: 100_001,
    }]);
    let tally = life.run.tally(EffectName::Register);
    let waits = (tally.misses, tally.since, tally.retry_after_ms);
    assert_eq!((waits, tally.last_at), ((0, None, None), 100_001));
}

/// How often the listener is launched is bounded by number, and not by GitHub's patience.
#[test]
fn a_launch_that_failed_is_made_again_however_late_it_is() {
    let mut life = Life::new();
    assert_eq!(life.turn(0), None);
    let at = life.now;
    intend(&mut life, EffectName::Job, 1, at);
    comes_to_nothing(&mut life, EffectName::Job, 1, None, at);
    assert!(matches!(planned(&life, at), Plan::Wait { .. }));
    assert!(matches!(planned(&life, at + 3_600_000), Plan::Do { attempt: 2, .. }));
}

/// Of a registration without its configuration nothing is gained, so the waiting goes on.
#[test]
fn a_registration_whose_configuration_is_lost_is_removed_and_ends_no_wait() {
    let mut life = Life::new();
    intend(&mut life, EffectName::Register, 1, 1_000);
    life.record(&[Event::Ended {
        effect: EffectName::Register,
        attempt: 1,
        outcome: registered(7, "pod-1a2b3c4d-1", Config::Lost),
        at: 2_000,
    }]);
    let tally = life.run.tally(EffectName::Register);
    assert_eq!((tally.since, tally.last_at), (Some(1_000), 2_000));
    let Plan::Do {
        effect: Effect::Remove { known, names },
        attempt: 1,
    } = planned(&life, 2_000)
    else {
        panic!("{:?}", planned(&life, 2_000))
    };
    assert_eq!(known, Some((7, "pod-1a2b3c4d-1".to_owned())));
    assert!(names.is_empty(), "{names:?}");
}

/// A runner that is told to stop and has no job goes, whatever it was about to do.
#[test]
fn told_to_stop_it_concludes_or_removes_and_begins_nothing() {
    for stopping in [Stopping::Grace, Stopping::Over] {
        let told = |life: &Life| plan(&life.run, Situation { now: 9_000, stopping }, POLICY);
        let mut life = Life::new();
        assert_eq!(told(&life), Plan::Conclude(Ending::Idle));
        assert_eq!(life.turn(0), None);
        assert!(matches!(
            told(&life),
            Plan::Do {
                effect: Effect::Remove { .. },
                attempt: 1
            }
        ));
    }
}

#[test]
fn a_verdict_of_an_earlier_start_is_nothing_to_do() {
    let codes = |exit: Exit| exit.code();
    assert_eq!(
        [
            codes(Exit::Completed),
            codes(Exit::Failed),
            codes(Exit::NothingToDo),
            codes(Exit::Left(Left::Unreachable))
        ],
        [0, 1, 0, 75]
    );
    for (fate, exit) in [(0, Exit::Completed), (6, Exit::Failed)] {
        let mut life = Life::new();
        assert_eq!(life.turn(fate), None);
        while life.run.verdict.is_none() {
            assert_eq!(life.turn(0), None);
        }
        assert_eq!(planned(&life, life.now), Plan::Stop(exit));
        life.boot();
        assert_eq!(planned(&life, life.now), Plan::Stop(Exit::NothingToDo));
    }
}

#[test]
fn each_attempt_to_register_has_a_name_of_its_own() {
    let mut life = Life::new();
    let of = |name: &str, attempt| Plan::Do {
        effect: Effect::Register { name: name.to_owned() },
        attempt,
    };
    assert_eq!(planned(&life, life.now), of("pod-1a2b3c4d-1", 1));
    assert_eq!(life.turn(5), None);
    assert_eq!(planned(&life, life.now), of("pod-1a2b3c4d-2", 2));
    // Nobody answered: that name may be registered yet.
    assert_eq!(life.turn(2), None);
    while life.run.open.is_some() {
        assert_eq!(life.turn(0), None);
    }
    assert_eq!(life.run.suspects, ["pod-1a2b3c4d-2"]);
}
