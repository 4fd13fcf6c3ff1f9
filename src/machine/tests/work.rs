//! The work in the tree: what bounds the agent, what cuts it short, what a check asks for, and what is begun anew.

use super::*;

/// What an attempt of the agent took.
pub(super) fn took(ran_ms: Millis, turns: u64, micro_usd: u64) -> Left {
    Left {
        effort: Effort {
            ran_ms,
            turns: Some(turns),
            cost_micro_usd: Some(micro_usd),
            ..Effort::default()
        },
        next: Next::GoOn,
    }
}

pub(super) fn anew() -> Outcome {
    Outcome::Retry {
        trouble: Trouble::NothingToGoOnIn,
        cause: String::new(),
        after_ms: None,
        left: Left {
            next: Next::BeginAnew,
            ..Left::default()
        },
    }
}

pub(super) fn red(end: CommandEnd) -> Outcome {
    Outcome::Done {
        fact: Fact::Checked(CommandRun {
            end,
            ran_ms: 1,
            output: "it is red".to_owned(),
        }),
    }
}

pub(super) fn said(summary: &str) -> Outcome {
    let report = AgentReport {
        summary: Some(summary.to_owned()),
        session_id: Some("a conversation".to_owned()),
        ..AgentReport::default()
    };
    Outcome::Done {
        fact: Fact::AgentEnded(report),
    }
}

/// A history that is told effect by effect: each is the next attempt of its kind.
pub(super) struct Told {
    pub(super) history: Vec<Event>,
    pub(super) policy: Policy,
}

impl Told {
    pub(super) fn cloned() -> Self {
        let mut history = up_to(EffectName::Agent);
        history.pop();
        let policy = Policy {
            check: true,
            ..policy()
        };
        Self { history, policy }
    }

    pub(super) fn run(&self) -> Run {
        fold(&self.history).unwrap()
    }

    pub(super) fn then(mut self, effect: EffectName, outcome: Outcome) -> Self {
        let attempt = self.run().tally(effect).attempts + 1;
        self.history.push(Event::Intended {
            effect,
            attempt,
            session: None,
            at: 0,
        });
        self.history.push(ended(effect, attempt, outcome, 0));
        self
    }

    /// What comes next, long after any back-off.
    pub(super) fn plan_at(&self, now: Millis) -> Plan {
        plan(&self.run(), at(now), &self.policy)
    }

    pub(super) fn next(&self) -> Effect {
        match self.plan_at(60_000) {
            Plan::Do { effect, .. } => effect,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn agent(&self) -> AgentRun {
        match self.next() {
            Effect::Agent(run) => run,
            other => panic!("{other:?}"),
        }
    }

    /// Why what is there is handed over.
    pub(super) fn cut(&self) -> Option<Cut> {
        match self.next() {
            Effect::Handover { cut, .. } => cut,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_nearest_of_three_bounds_is_the_agents_time() {
    let left = |task_timeout_ms, ran_ms, now| {
        let mut told = Told::cloned();
        told.policy.task_timeout_ms = task_timeout_ms;
        let told = told.then(EffectName::Agent, Outcome::Parked(took(ran_ms, 0, 0)));
        match told.plan_at(now) {
            Plan::Do {
                effect: Effect::Agent(run),
                ..
            } => (run.time_left.bound, run.time_left.ms),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(left(None, 500_000, 60_000), (Bound::AgentTimeout, 1_000_000));
    // Two minutes of it are for the push and the report; of a short one a quarter.
    assert_eq!(left(Some(600_000), 0, 60_000), (Bound::TaskTimeout, 420_000));
    assert_eq!(left(Some(80_000), 0, 10_000), (Bound::TaskTimeout, 50_000));
    let expiry = Millis::MAX / 2;
    assert_eq!(left(None, 0, expiry - 220_000), (Bound::TokenExpiry, 100_000));
}

/// A large repository takes minutes to lay.
#[test]
fn the_time_of_the_task_and_of_the_token_goes_on_while_the_tree_is_laid() {
    let begun_after = |bound, passed| TimeLeft { ms: 300_000, bound }.begun_after(passed);
    for bound in [Bound::TaskTimeout, Bound::TokenExpiry] {
        assert_eq!(begun_after(bound, 120_000), 180_000);
        assert_eq!(begun_after(bound, 300_001), 0);
    }
    assert_eq!(begun_after(Bound::AgentTimeout, 120_000), 300_000);
}

#[test]
fn an_agent_that_has_used_up_a_bound_is_not_started_again_and_is_cut_by_its_name() {
    let lost = |left| Outcome::Retry {
        trouble: Trouble::NoResult,
        cause: String::new(),
        after_ms: None,
        left,
    };
    for (left, failure, words) in [
        (took(1_500_000, 0, 0), Failure::AgentTimedOut, "RUNNER_AGENT_TIMEOUT"),
        (took(0, 50, 0), Failure::AgentTurnsExceeded, "50 turns in 1 attempt"),
        (
            took(0, 0, 10_120_000),
            Failure::AgentBudgetExceeded,
            "$10.12 in 1 attempt",
        ),
    ] {
        let cut = Told::cloned().then(EffectName::Agent, lost(left)).cut().unwrap();
        assert_eq!(cut.failure, failure);
        assert!(cut.cause.contains(words), "{}", cut.cause);
    }
    let run = Told::cloned()
        .then(EffectName::Agent, lost(took(400_000, 20, 4_000_000)))
        .agent();
    assert_eq!(
        (run.turns_left, run.spent_micro_usd, run.time_left.ms),
        (30, 4_000_000, 1_100_000)
    );
}

#[test]
fn a_red_check_gives_the_agent_one_more_start_whatever_its_attempts() {
    let mut told = Told::cloned();
    told.policy.agent_attempts = 1;
    let told = told.then(EffectName::Agent, said("I changed it."));
    assert_eq!(told.next().name(), EffectName::Check);
    let told = told.then(EffectName::Check, red(CommandEnd::Exit(1)));
    let mends = told.agent();
    assert_eq!(mends.repair.map(|check| check.output).as_deref(), Some("it is red"));
    let told = told.then(EffectName::Agent, said("I mended it."));
    assert_eq!(told.next().name(), EffectName::Check);
    let told = told.then(EffectName::Check, red(CommandEnd::Exit(1)));
    match told.next() {
        Effect::Handover { agent, cut, .. } => {
            assert_eq!(agent.summary.as_deref(), Some("I changed it.\n\nI mended it."));
            assert_eq!(cut, None);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_runner_that_dies_again_and_again_saves_what_the_agent_had_done_once_and_then_gives_up() {
    let dead = |mut told: Told, times: usize| {
        told.history.extend(vec![Event::Booted { at: 0 }; times]);
        told
    };
    let parked = || Told::cloned().then(EffectName::Agent, Outcome::Parked(Left::default()));
    assert_eq!(dead(parked(), 4).next().name(), EffectName::Agent);
    let told = dead(parked(), 5);
    assert_eq!(told.cut().map(|cut| cut.failure), Some(Failure::CrashLoop));
    let ended = |told: Told| match told.plan_at(60_000) {
        Plan::Conclude(Ending::Failed { failure, .. }) => failure,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        ended(dead(parked(), 6)),
        Failure::CrashLoop,
        "saving it may be what kills"
    );
    assert_eq!(
        ended(dead(Told::cloned(), 5)),
        Failure::CrashLoop,
        "there is nothing to save"
    );
    // What is done is delivered without the check that may be what kills.
    let done = dead(Told::cloned().then(EffectName::Agent, said("done")), 5);
    assert_eq!(done.cut(), None);
}

#[test]
fn what_no_agent_can_mend_is_delivered_as_it_is() {
    let checked = |end| {
        let told = Told::cloned().then(EffectName::Agent, said("done"));
        told.then(EffectName::Check, red(end)).next().name()
    };
    for end in [CommandEnd::Exit(0), CommandEnd::Interrupted, CommandEnd::NotStarted] {
        assert_eq!(checked(end), EffectName::Handover, "{end}");
    }
    for end in [CommandEnd::Exit(2), CommandEnd::Signal(11), CommandEnd::TimedOut] {
        assert_eq!(checked(end), EffectName::Agent, "{end}");
    }
}

#[test]
fn without_anything_left_nothing_is_mended_and_without_time_nothing_is_checked() {
    let spent = |left: Left| {
        let report = AgentReport {
            effort: left.effort,
            ..AgentReport::default()
        };
        let fact = Fact::AgentEnded(report);
        Told::cloned().then(EffectName::Agent, Outcome::Done { fact })
    };
    for left in [took(0, 50, 0), took(0, 0, 10_000_000)] {
        let told = spent(left);
        assert_eq!(told.next().name(), EffectName::Check, "it ended well");
        let told = told.then(EffectName::Check, red(CommandEnd::Exit(1)));
        assert_eq!(told.cut(), None);
    }
    assert_eq!(spent(took(1_500_000, 0, 0)).cut(), None);
    let told = spent(took(0, 0, 0));
    let stopped = Situation {
        now: 60_000,
        stopping: Stopping::Grace,
    };
    match plan(&told.run(), stopped, &told.policy) {
        Plan::Do { effect, .. } => assert_eq!(effect.name(), EffectName::Handover),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_begun_anew_is_set_up_again_and_has_another_conversation_and_the_same_bill() {
    let mut told = Told::cloned();
    told.policy.setup = true;
    assert_eq!(told.next().name(), EffectName::Setup);
    let set_up = || Outcome::Done {
        fact: fact(EffectName::Setup, Changed::Yes, None),
    };
    let told = told.then(EffectName::Setup, set_up());
    let first = told.agent();
    assert_eq!((first.anew, first.tree), (0, Tree::Prepared));
    let told = told.then(EffectName::Agent, Outcome::Parked(took(7, 3, 9)));
    assert_eq!(told.agent().session, first.session, "it goes on");
    let told = told.then(EffectName::Agent, anew());
    assert_eq!(told.next().name(), EffectName::Setup);
    let told = told.then(EffectName::Setup, set_up());
    let second = told.agent();
    assert_eq!(second.anew, 1);
    assert!(second.session.is_some() && second.session != first.session);
    assert_eq!((second.turns_left, second.spent_micro_usd), (47, 9));
}

#[test]
fn a_later_start_that_fails_before_it_runs_saves_what_an_earlier_one_left() {
    let gone = || Outcome::Failed {
        failure: Failure::AgentMissing,
        cause: "it is gone".to_owned(),
        agent: None,
    };
    match Told::cloned().then(EffectName::Agent, gone()).plan_at(60_000) {
        Plan::Conclude(Ending::Failed { failure, .. }) => assert_eq!(failure, Failure::AgentMissing),
        other => panic!("{other:?}"),
    }
    let told = Told::cloned().then(EffectName::Agent, said("I changed it."));
    let told = told.then(EffectName::Check, red(CommandEnd::Exit(1)));
    let told = told.then(EffectName::Agent, gone());
    assert_eq!(told.cut().map(|cut| cut.failure), Some(Failure::AgentMissing));
    match told.next() {
        Effect::Handover { agent, .. } => {
            assert_eq!(agent.summary.as_deref(), Some("I changed it."));
            assert_eq!(agent.session_id.as_deref(), Some("a conversation"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_set_up_that_cannot_be_started_three_times_ends_the_task() {
    let mut told = Told::cloned();
    told.policy.setup = true;
    for _ in 0..3 {
        assert_eq!(told.next().name(), EffectName::Setup);
        told = told.then(EffectName::Setup, retry(Trouble::NoResult));
    }
    match told.plan_at(60_000) {
        Plan::Conclude(Ending::Failed { failure, cause, .. }) => {
            assert_eq!(failure, Failure::SetupFailed);
            assert!(cause.contains("3 attempts"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_nobody_counted_stays_unknown_in_a_sum() {
    let nothing = Effort::default();
    assert_eq!(nothing.plus(nothing), nothing);
    let some = took(5, 2, 7).effort;
    assert_eq!(some.plus(nothing), some);
    assert_eq!(nothing.plus(some), some);
    let both = some.plus(some);
    assert_eq!(
        (both.ran_ms, both.turns, both.cost_micro_usd, both.input_tokens),
        (10, Some(4), Some(14), None)
    );
    let most = took(Millis::MAX, u64::MAX, u64::MAX).effort;
    assert_eq!(most.plus(some), most);
}

#[test]
fn an_agent_that_never_came_to_an_end_is_known_by_its_conversation_and_by_what_it_took() {
    let told = Told::cloned();
    let session = crate::ids::SessionId::of(&told.run().assignment.unwrap().task_id, 1);
    let mut told = told.then(EffectName::Agent, Outcome::Parked(took(1_000, 3, 250_000)));
    for event in &mut told.history {
        if let Event::Intended {
            effect: EffectName::Agent,
            session: of,
            ..
        } = event
        {
            *of = Some(session);
        }
    }
    let handover = Handover {
        head: Some("b".repeat(40).parse().unwrap()),
        commits: 1,
        files: 1,
        flattened: None,
        cut: Some(Cut {
            failure: Failure::CrashLoop,
            cause: "it crashed".to_owned(),
        }),
    };
    let done = Outcome::Done {
        fact: Fact::HandedOver(handover),
    };
    let run = told.then(EffectName::Handover, done).run();
    let agent = run.state.as_ref().and_then(State::agent).unwrap();
    assert_eq!(agent.session_id, Some(session.to_string()));
    assert_eq!((agent.effort.ran_ms, agent.effort.turns), (1_000, Some(3)));
    assert_eq!(agent.effort.cost_micro_usd, Some(250_000));
}
