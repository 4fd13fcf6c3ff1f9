//! How a task ends: which verdict, in which words, and with which exit code.

use super::*;
use work::{Told, red, said};

pub(super) fn cut_short() -> Cut {
    Cut {
        failure: Failure::AgentIdle,
        cause: "It was silent.".to_owned(),
    }
}

fn failed(failure: Failure, cause: &str) -> Outcome {
    Outcome::Failed {
        failure,
        cause: cause.to_owned(),
        agent: None,
    }
}

fn done(effect: EffectName, changed: Changed) -> Outcome {
    Outcome::Done {
        fact: fact(effect, changed, None),
    }
}

/// An agent that was cut short after it had said something.
pub(super) fn cut_at(effect: EffectName) -> Told {
    let cut = cut_short();
    Told::cloned().then(
        effect,
        Outcome::Failed {
            failure: cut.failure,
            cause: cut.cause,
            agent: Some(AgentReport {
                session_id: Some("s-1".to_owned()),
                ..AgentReport::default()
            }),
        },
    )
}

impl Told {
    /// It goes well, and something was changed.
    pub(super) fn done(self, effect: EffectName) -> Self {
        self.then(effect, done(effect, Changed::Yes))
    }

    fn ending(&self) -> Ending {
        match self.plan_at(60_000) {
            Plan::Conclude(ending) => ending,
            other => panic!("{other:?}"),
        }
    }

    fn failure(&self) -> (Failure, String) {
        match self.ending() {
            Ending::Failed { failure, cause, .. } => (failure, cause),
            other => panic!("{other:?}"),
        }
    }

    fn verdict(&self) -> Verdict {
        Verdict::compose(&self.run(), &self.ending(), "ab")
    }

    fn details(&self) -> serde_json::Value {
        let body: serde_json::Value = serde_json::from_str(&self.verdict().body).unwrap();
        body["details"].clone()
    }

    /// The same repository on this machine: it has no forge.
    pub(super) fn local(mut self) -> Self {
        for event in &mut self.history {
            if let Event::Ended {
                outcome: Outcome::Done {
                    fact: Fact::Data { task },
                },
                ..
            } = event
            {
                let mut local = (**task).clone();
                local.repo = crate::ids::RepoUrl::Local("/r".into());
                *task = Arc::new(local);
            }
        }
        self
    }
}

fn unchanged() -> Told {
    let told = Told::cloned().then(EffectName::Agent, said("Nothing to do."));
    told.then(EffectName::Handover, done(EffectName::Handover, Changed::No))
}

/// Where there is no check.
fn unchecked(mut told: Told) -> Told {
    told.policy.check = false;
    told
}

fn pushed() -> Told {
    let told = unchecked(Told::cloned()).then(EffectName::Agent, said("done"));
    told.done(EffectName::Handover).done(EffectName::Push)
}

#[test]
fn the_exit_code_of_each_end_is_the_contracts() {
    for (exit, code) in [
        (Exit::Completed, 0),
        (Exit::Superseded, 0),
        (Exit::NothingToDo, 0),
        (Exit::Idle, 0),
        (Exit::Failed, 1),
        (Exit::NobodyLeft, 1),
        (Exit::Parked, 75),
        (Exit::Undelivered, 75),
    ] {
        assert_eq!(exit.code(), code, "{exit:?}");
    }
}

#[test]
fn a_process_exits_by_what_it_was_told_itself_and_a_later_one_has_nothing_to_do() {
    let exit = |kind, ack: Option<(Ack, u32)>| {
        let mut run = fold(&[Event::Booted { at: 0 }, Event::Booted { at: 0 }]).unwrap();
        run.state = Some(State::Reported);
        run.acknowledged = ack;
        let verdict = Verdict::compose(&run, &Ending::Completed(Checking::NotWanted), "");
        run.verdict = Some(Arc::new(Verdict { kind, ..verdict }));
        plan(&run, at(0), &policy())
    };
    let accepted = |boot| Some((Ack::Accepted, boot));
    assert_eq!(exit(VerdictKind::Completed, accepted(2)), Plan::Stop(Exit::Completed));
    assert_eq!(exit(VerdictKind::Failed, accepted(2)), Plan::Stop(Exit::Failed));
    assert_eq!(exit(VerdictKind::Superseded, accepted(2)), Plan::Stop(Exit::Superseded));
    for kind in VerdictKind::iter() {
        assert_eq!(exit(kind, accepted(1)), Plan::Stop(Exit::NothingToDo));
        assert_eq!(exit(kind, Some((Ack::NobodyLeft, 2))), Plan::Stop(Exit::NobodyLeft));
        assert_eq!(exit(kind, Some((Ack::EndedElsewhere, 2))), Plan::Stop(Exit::Superseded));
        assert_eq!(exit(kind, None), Plan::Stop(Exit::Superseded));
    }
    let without_verdict = Run {
        state: Some(State::Reported),
        ..Run::default()
    };
    assert_eq!(plan(&without_verdict, at(0), &policy()), Plan::Stop(Exit::NothingToDo));
}

#[test]
fn without_a_task_the_runner_listens_until_it_is_told_to_stop() {
    let planned = |stopping, on_term| {
        let policy = Policy { on_term, ..policy() };
        plan(&Run::default(), Situation { now: 0, stopping }, &policy)
    };
    for on_term in [OnTerm::Report, OnTerm::Park] {
        assert_eq!(planned(Stopping::No, on_term), Plan::Listen);
        assert_eq!(planned(Stopping::Grace, on_term), Plan::Stop(Exit::Idle));
        assert_eq!(planned(Stopping::Over, on_term), Plan::Stop(Exit::Idle));
    }
}

#[test]
fn park_parks_only_what_was_told_to_stop() {
    let mut told = Told::cloned();
    told.policy.on_term = OnTerm::Park;
    assert_eq!(told.next().name(), EffectName::Agent);
    for stopping in [Stopping::Grace, Stopping::Over] {
        let planned = plan(&told.run(), Situation { now: 0, stopping }, &told.policy);
        assert_eq!(planned, Plan::Stop(Exit::Parked));
    }
}

#[test]
fn in_the_grace_what_no_agent_has_touched_ends_and_what_one_has_is_handed_over() {
    let grace = Situation {
        now: 60_000,
        stopping: Stopping::Grace,
    };
    for effect in [
        EffectName::Start,
        EffectName::Data,
        EffectName::Token,
        EffectName::Clone,
        EffectName::Agent,
    ] {
        let mut history = up_to(effect);
        history.pop();
        match plan(&fold(&history).unwrap(), grace, &policy()) {
            Plan::Conclude(Ending::Failed { failure, .. }) => assert_eq!(failure, Failure::Interrupted, "{effect}"),
            other => panic!("{effect}: {other:?}"),
        }
    }
    let told = Told::cloned().then(EffectName::Agent, Outcome::Parked(Left::default()));
    match plan(&told.run(), grace, &told.policy) {
        Plan::Do {
            effect: Effect::Handover { cut: Some(cut), .. },
            ..
        } => assert_eq!(cut.failure, Failure::Interrupted),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agent_that_changed_nothing_has_failed_unless_that_counts_as_done() {
    let mut told = unchanged();
    assert_eq!(
        told.failure(),
        (Failure::NoChanges, "It said: Nothing to do.".to_owned())
    );
    assert_eq!(told.details()["outcome"], "no_changes");
    told.policy.no_changes = NoChanges::Complete;
    assert!(matches!(told.ending(), Ending::Completed(_)));
    assert_eq!(told.details()["outcome"], "no_changes");
    assert_eq!(
        told.verdict().message,
        "The agent changed nothing, which counts as done here."
    );
}

#[test]
fn an_agent_that_changed_something_is_pushed_whatever_no_changes_counts_as() {
    let mut told = Told::cloned().then(EffectName::Agent, said("done"));
    told.policy.no_changes = NoChanges::Complete;
    assert_eq!(told.done(EffectName::Handover).next().name(), EffectName::Push);
}

#[test]
fn a_cut_agent_that_left_nothing_fails_by_its_cut_and_not_for_want_of_changes() {
    let told = cut_at(EffectName::Agent);
    let told = told.then(EffectName::Handover, done(EffectName::Handover, Changed::No));
    assert_eq!(told.failure(), (Failure::AgentIdle, "It was silent.".to_owned()));
    assert_eq!(told.details()["outcome"], "none");
}

#[test]
fn a_cut_agent_whose_work_is_saved_has_failed_and_the_verdict_says_where_it_is() {
    let told = cut_at(EffectName::Agent)
        .done(EffectName::Handover)
        .done(EffectName::Push);
    let local = told.done(EffectName::PullRequest);
    assert_eq!(
        local.verdict().message,
        "The agent was silent for too long. It was silent. What it had done is in the draft http://127.0.0.1:1/o/r/pull/1."
    );
    let details = local.details();
    assert_eq!(
        (details["outcome"].as_str(), details["reason"].as_str()),
        (Some("salvaged"), Some("AgentIdle"))
    );
    assert_eq!(details["sessionID"], "s-1");
    let told = cut_at(EffectName::Agent).local();
    let told = told.done(EffectName::Handover).done(EffectName::Push);
    assert_eq!(
        told.verdict().message,
        "The agent was silent for too long. It was silent. What it had done is on the branch runner/t-1."
    );
    assert_eq!(told.details()["outcome"], "salvaged");
}

#[test]
fn what_cut_an_agent_stays_the_reason_where_its_work_cannot_be_delivered() {
    let told = cut_at(EffectName::Agent).done(EffectName::Handover);
    let told = told.then(EffectName::Push, failed(Failure::PushRejected, "No."));
    let (failure, cause) = told.failure();
    assert_eq!(failure, Failure::AgentIdle);
    assert_eq!(
        cause,
        "It was silent. What it left was not delivered: The remote refused the push. No."
    );
    // The same reason twice is said once.
    let told = cut_at(EffectName::Agent).done(EffectName::Handover);
    let told = told.then(EffectName::Push, failed(Failure::AgentIdle, "Again."));
    assert_eq!(told.failure(), (Failure::AgentIdle, "Again.".to_owned()));
    // Without a cut it is as it came.
    let told = Told::cloned()
        .then(EffectName::Agent, said("done"))
        .done(EffectName::Handover);
    let told = told.then(EffectName::Push, failed(Failure::PushRejected, "No."));
    assert_eq!(told.failure(), (Failure::PushRejected, "No.".to_owned()));
    assert_eq!(told.verdict().message, "The remote refused the push. No.");
}

#[test]
fn work_that_is_whole_is_not_said_to_be_saved_where_its_pull_request_is_refused() {
    let told = pushed().then(EffectName::PullRequest, failed(Failure::PrRefused, "No."));
    assert_eq!(told.verdict().message, "The forge refused the pull request. No.");
    assert_eq!(told.details()["outcome"], "branch");
}

#[test]
fn a_start_that_got_nowhere_five_times_says_so_once_and_where() {
    let mut history = up_to(EffectName::Clone);
    history.extend(vec![Event::Booted { at: 0 }; 5]);
    match plan(&fold(&history).unwrap(), at(0), &policy()) {
        Plan::GiveUp { failure, cause, .. } => {
            assert_eq!(failure, Failure::CrashLoop);
            assert_eq!(cause, "5 starts in a row got no further than TokenIssued.");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pull_request_is_where_a_forge_is_and_a_branch_is_the_end_elsewhere() {
    assert_eq!(pushed().next().name(), EffectName::PullRequest);
    let told = unchecked(Told::cloned().local()).then(EffectName::Agent, said("done"));
    let told = told.done(EffectName::Handover).done(EffectName::Push);
    assert_eq!(told.ending(), Ending::Completed(Checking::NotWanted));
    assert_eq!(told.verdict().message, "Pushed runner/t-1");
    assert_eq!(told.details()["outcome"], "branch");
    let opened = pushed().done(EffectName::PullRequest);
    assert_eq!(opened.verdict().message, "Opened http://127.0.0.1:1/o/r/pull/1");
    assert_eq!(opened.details()["outcome"], "pull_request");
}

/// Told to stop, or out of time, between the agent and the check.
#[test]
fn a_change_that_the_check_was_not_run_on_is_said_to_be_unchecked() {
    let pushed = |told: Told| {
        let told = told.then(EffectName::Agent, said("done"));
        told.done(EffectName::Handover).done(EffectName::Push)
    };
    assert_eq!(
        pushed(Told::cloned()).done(EffectName::PullRequest).verdict().message,
        "Opened http://127.0.0.1:1/o/r/pull/1 as a draft: the change is not checked (there was no time for it)."
    );
    assert_eq!(
        pushed(Told::cloned().local()).verdict().message,
        "Pushed runner/t-1: the change is not checked (there was no time for it)."
    );
}

#[test]
fn a_change_that_no_check_has_passed_is_a_draft_that_says_why() {
    let checked = |told: Told, outcome| {
        let told = told
            .then(EffectName::Agent, said("done"))
            .then(EffectName::Check, outcome);
        told.done(EffectName::Handover).done(EffectName::Push)
    };
    let opened = |outcome| {
        checked(Told::cloned(), outcome)
            .done(EffectName::PullRequest)
            .verdict()
            .message
    };
    let url = "http://127.0.0.1:1/o/r/pull/1";
    assert_eq!(opened(red(CommandEnd::Exit(0))), format!("Opened {url}"));
    assert_eq!(
        opened(red(CommandEnd::Exit(2))),
        format!("Opened {url} as a draft: the check is red (exit code 2).")
    );
    assert_eq!(
        opened(red(CommandEnd::NotStarted)),
        format!("Opened {url} as a draft: the change is not checked (not started).")
    );
    assert_eq!(
        checked(Told::cloned().local(), red(CommandEnd::TimedOut))
            .verdict()
            .message,
        "Pushed runner/t-1: the check is red (out of time)."
    );
}

#[test]
fn a_verdict_has_what_is_known_and_leaves_out_what_is_not() {
    let told = Told::cloned().then(EffectName::Agent, failed(Failure::AgentMissing, "No such file."));
    assert_eq!(
        told.details(),
        serde_json::json!({
            "error": "The agent's program could not be started. No such file.",
            "reason": "AgentMissing",
            "outcome": "none",
            "state": "Cloned",
            "attempts": 1,
            "boots": 1,
            "journalHead": "ab",
        })
    );
    let report = AgentReport {
        session_id: Some("s-2".to_owned()),
        effort: Effort {
            ran_ms: 9,
            cost_micro_usd: Some(1_250_000),
            turns: Some(7),
            input_tokens: Some(11),
            output_tokens: Some(13),
        },
        ..AgentReport::default()
    };
    let told = Told::cloned().then(
        EffectName::Agent,
        Outcome::Done {
            fact: Fact::AgentEnded(report),
        },
    );
    let told = told
        .done(EffectName::Handover)
        .done(EffectName::Push)
        .done(EffectName::PullRequest);
    assert_eq!(
        told.details(),
        serde_json::json!({
            "prURL": "http://127.0.0.1:1/o/r/pull/1",
            "pr_url": "http://127.0.0.1:1/o/r/pull/1",
            "outcome": "pull_request",
            "state": "PrOpened",
            "attempts": 1,
            "boots": 1,
            "journalHead": "ab",
            "costUSD": 1.25,
            "turns": 7,
            "inputTokens": 11,
            "outputTokens": 13,
            "sessionID": "s-2",
            "commit": "b".repeat(40),
            "branch": "runner/t-1",
        })
    );
}

#[test]
fn a_task_that_was_ended_elsewhere_is_superseded() {
    let told = Told::cloned().then(EffectName::Agent, Outcome::Superseded);
    assert_eq!(told.ending(), Ending::Superseded);
    let verdict = told.verdict();
    assert_eq!((verdict.kind, verdict.reason), (VerdictKind::Superseded, None));
    assert_eq!(told.details()["outcome"], "none");
}
