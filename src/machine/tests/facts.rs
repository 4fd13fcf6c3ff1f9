//! What each state, event and effect knows, and the words that a post-mortem reads of it.

use super::*;

/// The states of a history in which everything goes well, by the effect that is open in them.
fn state_before(effect: EffectName) -> State {
    fold(&up_to(effect)).unwrap().state.unwrap()
}

#[test]
fn a_task_is_known_once_it_is_fetched_and_what_an_agent_said_once_it_has_ended() {
    for effect in [EffectName::Start, EffectName::Data] {
        assert_eq!(state_before(effect).task(), None, "{effect}");
    }
    for effect in [
        EffectName::Token,
        EffectName::Clone,
        EffectName::Agent,
        EffectName::Push,
        EffectName::PullRequest,
        EffectName::Report,
    ] {
        assert_eq!(state_before(effect).task(), Some(&crate::task::sample()), "{effect}");
    }
    for effect in [
        EffectName::Start,
        EffectName::Data,
        EffectName::Token,
        EffectName::Clone,
        EffectName::Agent,
    ] {
        assert_eq!(state_before(effect).agent(), None, "{effect}");
    }
    for effect in [
        EffectName::Handover,
        EffectName::Push,
        EffectName::PullRequest,
        EffectName::Report,
    ] {
        assert_eq!(state_before(effect).agent(), Some(&AgentReport::default()), "{effect}");
    }
    assert_eq!(State::Reported.task(), None);
    assert_eq!(State::Reported.agent(), None);
}

#[test]
fn a_branch_is_on_the_remote_once_it_is_pushed_and_a_state_says_why_its_agent_was_cut() {
    for effect in [EffectName::Start, EffectName::Data, EffectName::Agent, EffectName::Push] {
        assert_eq!(state_before(effect).pushed(), None, "{effect}");
        assert_eq!(state_before(effect).cut(), None, "{effect}");
    }
    for effect in [EffectName::PullRequest, EffectName::Report] {
        let state = state_before(effect);
        let (branch, head) = state.pushed().unwrap();
        assert_eq!(
            (branch.to_string(), head.to_string()),
            ("runner/t-1".to_owned(), "b".repeat(40))
        );
    }
    assert_eq!(State::Reported.pushed(), None);
    let why = ends::cut_short();
    let mut told = ends::cut_at(EffectName::Agent);
    for effect in [EffectName::Handover, EffectName::Push, EffectName::PullRequest] {
        assert_eq!(told.run().state.unwrap().cut(), Some(&why), "before {effect}");
        told = told.done(effect);
    }
    assert_eq!(told.run().state.unwrap().cut(), Some(&why));
}

#[test]
fn each_state_has_its_effects_and_no_other() {
    let effects = |state: StateName| state.effects().to_vec();
    assert_eq!(effects(StateName::Assigned), [EffectName::Start]);
    assert_eq!(effects(StateName::Started), [EffectName::Data]);
    assert_eq!(effects(StateName::DataFetched), [EffectName::Token]);
    assert_eq!(effects(StateName::TokenIssued), [EffectName::Clone]);
    assert_eq!(
        effects(StateName::Cloned),
        [
            EffectName::Setup,
            EffectName::Agent,
            EffectName::Check,
            EffectName::Handover
        ]
    );
    assert_eq!(effects(StateName::AgentRan), [EffectName::Push]);
    assert_eq!(effects(StateName::Pushed), [EffectName::PullRequest]);
    assert_eq!(effects(StateName::PrOpened), []);
    assert_eq!(effects(StateName::Reported), [EffectName::Archive]);
}

#[test]
fn every_event_says_when_it_came_in() {
    let at = 1_234;
    let (effect, attempt) = (EffectName::Data, 1);
    let verdict = Arc::new(Verdict::compose(&Run::default(), &Ending::Superseded, ""));
    let events = [
        Event::Booted { at },
        Event::Assigned {
            assignment: assignment(),
            at,
        },
        Event::Intended {
            effect,
            attempt,
            session: None,
            at,
        },
        Event::Probed {
            effect,
            attempt,
            finding: Finding::Done,
            at,
        },
        ended(effect, attempt, Outcome::Superseded, at),
        Event::Concluded { verdict, at },
        Event::Noted { note: Note::Parked, at },
    ];
    for event in events {
        assert_eq!(event.at(), at, "{event:?}");
    }
}

#[test]
fn a_task_is_the_same_by_its_name_and_its_api_whatever_traced_it() {
    let ours = assignment();
    let traced = Assignment {
        trace: crate::trace::Trace::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        ..assignment()
    };
    let elsewhere = Assignment {
        api_url: "http://other:8081".parse().unwrap(),
        ..assignment()
    };
    let another = Assignment {
        task_id: "t-2".parse().unwrap(),
        ..assignment()
    };
    assert!(traced.trace.is_some());
    assert!(ours.is_same_task(&traced));
    assert!(!ours.is_same_task(&elsewhere));
    assert!(!ours.is_same_task(&another));
}

#[test]
fn only_an_agent_has_a_conversation_and_its_intent_names_it() {
    let planned = |sessions| {
        let mut told = work::Told::cloned();
        told.policy.agent_sessions = sessions;
        told.next().session()
    };
    let task = assignment().task_id;
    assert_eq!(planned(true), Some(crate::ids::SessionId::of(&task, 0)));
    assert_eq!(planned(false), None);
    assert_eq!(Effect::Data.session(), None);
}

#[test]
fn each_end_of_a_command_has_its_words_and_what_can_be_said_of_it() {
    let ends = [
        (CommandEnd::Exit(0), "exit code 0", true, true),
        (CommandEnd::Exit(3), "exit code 3", false, true),
        (CommandEnd::Signal(9), "signal 9", false, true),
        (CommandEnd::TimedOut, "out of time", false, true),
        (CommandEnd::Interrupted, "interrupted", false, false),
        (CommandEnd::NotStarted, "not started", false, false),
    ];
    for (end, words, passed, was_run) in ends {
        let run = CommandRun {
            end,
            ran_ms: 1,
            output: String::new(),
        };
        assert_eq!(end.to_string(), words);
        assert_eq!((run.passed(), run.was_run()), (passed, was_run), "{end}");
    }
}

#[test]
fn a_row_says_that_the_next_start_begins_anew_and_says_nothing_where_it_goes_on() {
    let written = |next| {
        serde_json::to_string(&Left {
            next,
            ..Left::default()
        })
        .unwrap()
    };
    assert_eq!(written(Next::GoOn), r#"{"ran_ms":0}"#);
    assert_eq!(written(Next::BeginAnew), r#"{"ran_ms":0,"next":"begin_anew"}"#);
}

#[test]
fn each_bound_on_the_agents_time_is_named_by_its_setting() {
    assert!(Bound::AgentTimeout.sentence().starts_with("RUNNER_AGENT_TIMEOUT"));
    assert!(Bound::TaskTimeout.sentence().starts_with("RUNNER_TASK_TIMEOUT"));
    assert!(Bound::TokenExpiry.sentence().contains("token"));
}

#[test]
fn what_was_never_tried_has_an_empty_tally_and_what_was_has_its_own() {
    let run = fold(&up_to(EffectName::Data)).unwrap();
    assert_eq!(run.tally(EffectName::Token), Tally::default());
    assert_eq!(run.tally(EffectName::Data).attempts, 1);
    assert_eq!(run.state_name(), Some(StateName::Started));
    assert_eq!(Run::default().state_name(), None);
}

#[test]
fn what_may_come_in_the_tree_follows_from_what_has_come() {
    let run = |code| {
        Some(CommandRun {
            end: CommandEnd::Exit(code),
            ran_ms: 1,
            output: String::new(),
        })
    };
    let fresh = Progress::default;
    let set_up = || Progress {
        setup: run(0),
        ..fresh()
    };
    let ended = || Progress {
        agent: Some(AgentReport::default()),
        ..fresh()
    };
    let cut = || Progress {
        cut: Some(ends::cut_short()),
        ..ended()
    };
    let green = || Progress {
        check: run(0),
        ..ended()
    };
    let red = || Progress {
        check: run(1),
        ..ended()
    };
    let red_again = || Progress {
        first_check: run(1),
        ..red()
    };
    let [setup, agent, check, handover] = [
        EffectName::Setup,
        EffectName::Agent,
        EffectName::Check,
        EffectName::Handover,
    ];
    for (progress, started, may) in [
        (fresh(), false, vec![setup, agent]),
        (fresh(), true, vec![setup, agent, handover]),
        (set_up(), false, vec![agent]),
        (ended(), true, vec![check, handover]),
        (cut(), true, vec![handover]),
        (green(), true, vec![handover]),
        (red(), true, vec![agent, handover]),
        (red_again(), true, vec![handover]),
        // A check that is there before an agent has ended is of no agent, and one beside a cut asks for nothing.
        (
            Progress {
                check: run(1),
                ..fresh()
            },
            false,
            vec![setup, agent],
        ),
        (Progress { check: run(1), ..cut() }, true, vec![handover]),
    ] {
        let allowed: Vec<EffectName> = EffectName::iter().filter(|e| progress.allows(*e, started)).collect();
        assert_eq!(allowed, may, "{progress:?}, {started}");
    }
    assert!(red().to_be_mended().is_some());
    for progress in [
        fresh(),
        green(),
        red_again(),
        Progress {
            check: run(1),
            ..fresh()
        },
    ] {
        assert_eq!(progress.to_be_mended(), None, "{progress:?}");
    }
}

#[test]
fn the_first_start_after_an_assignment_is_no_unclean_end_and_the_second_is() {
    let assigned = Event::Assigned {
        assignment: assignment(),
        at: 0,
    };
    let stalled = |boots| {
        let boots = vec![Event::Booted { at: 0 }; boots];
        fold(&[vec![assigned.clone()], boots].concat()).unwrap().stalled_boots
    };
    assert_eq!([stalled(0), stalled(1), stalled(2)], [0, 0, 1]);
}

#[test]
fn nothing_is_pushed_where_nothing_changed_and_no_pull_request_is_asked_of_a_path() {
    let refused = |told: &work::Told, effect| {
        let intended = Event::Intended {
            effect,
            attempt: 1,
            session: None,
            at: 0,
        };
        transition(&told.run(), &intended).is_err()
    };
    let handed_over = |changed| {
        let fact = fact(EffectName::Handover, changed, None);
        let ran = work::Told::cloned().then(EffectName::Agent, work::said("done"));
        ran.then(EffectName::Handover, Outcome::Done { fact })
    };
    assert!(refused(&handed_over(Changed::No), EffectName::Push));
    assert!(!refused(&handed_over(Changed::Yes), EffectName::Push));
    let pushed = || handed_over(Changed::Yes).done(EffectName::Push);
    assert!(!refused(&pushed(), EffectName::PullRequest));
    assert!(refused(&pushed().local(), EffectName::PullRequest));
}

#[test]
fn what_an_agent_had_to_do_without_is_named_as_it_fits_where_it_is_told() {
    let missing = |server: Option<&str>| MissingPart {
        plugin: "terraform".to_owned(),
        server: server.map(str::to_owned),
        status: "failed".to_owned(),
    };
    let quoted = |name: &str| format!("`{name}`");
    assert_eq!(
        missing(Some("registry")).named(quoted),
        "the MCP server `registry` of the plugin `terraform` (`failed`)"
    );
    assert_eq!(missing(None).named(quoted), "the plugin `terraform` (`failed`)");
}
