//! Lives of a task for tests: told event by event to the pure machine, and written as real journals.

use std::sync::Arc;

use runner_journal::Journal;
use tempfile::TempDir;

use super::place::Place;
use super::post_mortem::PostMortem;
use crate::ids::{LocalRepos, PlainHttp, RepoPolicy};
use crate::machine::tests::policy;
use crate::machine::{
    Ack, AgentReport, Assignment, Checkout, CommandEnd, CommandRun, Cut, EffectName, Effort, Event, Fact, Failure,
    Finding, Handover, Left, Millis, MissingPart, NoChanges, Note, Outcome, Plan, Policy, PullRequest, Run, Situation,
    Stopping, TokenFacts, Trouble, Verdict, plan, transition,
};
use crate::record;
use crate::task::Task;

/// 2026-01-02 03:04:05 UTC.
const BEGUN: Millis = 1_767_323_045_000;

/// The life of a task, as far as it is told.
pub(in crate::cli) struct Lived {
    pub(in crate::cli) run: Run,
    events: Vec<Event>,
    now: Millis,
    task: Arc<Task>,
    no_changes: NoChanges,
}

impl Lived {
    /// A runner that was started, and waits.
    pub(in crate::cli) fn booted() -> Self {
        Self::of("https://github.com/octo/hello")
    }

    fn of(repository: &str) -> Self {
        let raw = format!(
            r##"{{"description":"# Greet by name\n\nAdd greet.sh.","context":"","repo":{{"url":"{repository}","ref":"main"}}}}"##
        );
        let policy = RepoPolicy {
            plain_http: PlainHttp::Anywhere,
            local: LocalRepos::Allowed,
        };
        let lived = Self {
            run: Run::default(),
            events: Vec::new(),
            now: BEGUN,
            task: Arc::new(Task::parse(raw.as_bytes(), policy).unwrap()),
            no_changes: NoChanges::Fail,
        };
        lived.boots()
    }

    /// A task on which everything before an effect went well.
    pub(in crate::cli) fn up_to(effect: EffectName) -> Self {
        Self::booted().goes_well_until(effect)
    }

    /// The same, of a repository that is a path.
    pub(in crate::cli) fn locally_up_to(effect: EffectName) -> Self {
        Self::of("/srv/hello").goes_well_until(effect)
    }

    fn goes_well_until(self, effect: EffectName) -> Self {
        let mut lived = self.gets_assigned();
        for (next, step) in [
            (EffectName::Start, Self::tells_the_api as fn(Self) -> Self),
            (EffectName::Data, Self::fetches),
            (EffectName::Token, Self::gets_the_token),
            (EffectName::Clone, Self::clones),
            (EffectName::Setup, Self::stays),
            (EffectName::Agent, Self::runs_the_agent),
            (EffectName::Check, Self::stays),
            (EffectName::Handover, Self::hands_over),
            (EffectName::Push, Self::pushes),
            (EffectName::PullRequest, Self::opens_it),
        ] {
            if next == effect {
                break;
            }
            lived = step(lived);
        }
        lived
    }

    fn stays(self) -> Self {
        self
    }

    fn takes(mut self, event: Event) -> Self {
        self.run = transition(&self.run, &event).unwrap();
        self.events.push(event);
        self
    }

    pub(in crate::cli) fn after(mut self, ms: Millis) -> Self {
        self.now += ms;
        self
    }

    pub(in crate::cli) fn boots(self) -> Self {
        let lived = self.after(5);
        let at = lived.now;
        lived.takes(Event::Booted { at })
    }

    pub(in crate::cli) fn gets_assigned(self) -> Self {
        let lived = self.after(1_200);
        let assignment = Assignment {
            task_id: "t-1".parse().unwrap(),
            api_url: "http://api:8081".parse().unwrap(),
            trace: None,
        };
        let at = lived.now;
        lived.takes(Event::Assigned { assignment, at })
    }

    pub(in crate::cli) fn notes(self, note: Note) -> Self {
        let at = self.now;
        self.takes(Event::Noted { note, at })
    }

    /// An intent, of which nothing more is known.
    pub(in crate::cli) fn intends(self, effect: EffectName) -> Self {
        let attempt = self.run.tally(effect).attempts + 1;
        let at = self.now;
        self.takes(Event::Intended {
            effect,
            attempt,
            session: None,
            at,
        })
    }

    /// An attempt that took so long, and came to this.
    pub(in crate::cli) fn comes_to(self, effect: EffectName, ms: Millis, outcome: Outcome) -> Self {
        let lived = self.intends(effect).after(ms);
        let attempt = lived.run.tally(effect).attempts;
        let at = lived.now;
        lived.takes(Event::Ended {
            effect,
            attempt,
            outcome,
            at,
        })
    }

    fn does(self, effect: EffectName, ms: Millis, fact: Fact) -> Self {
        self.comes_to(effect, ms, Outcome::Done { fact })
    }

    pub(in crate::cli) fn tells_the_api(self) -> Self {
        self.does(EffectName::Start, 30, Fact::Started { told: true })
    }

    pub(in crate::cli) fn fetches(self) -> Self {
        let task = Arc::clone(&self.task);
        self.does(EffectName::Data, 12, Fact::Data { task })
    }

    pub(in crate::cli) fn gets_the_token(self) -> Self {
        let facts = TokenFacts {
            sha256_prefix: "52ce8ead".to_owned(),
            expires_at_ms: BEGUN + 3_600_000,
        };
        self.does(EffectName::Token, 80, Fact::Token(facts))
    }

    pub(in crate::cli) fn clones(self) -> Self {
        let checkout = Checkout {
            base: "a".repeat(40).parse().unwrap(),
            base_branch: "main".parse().unwrap(),
            branch: "runner/t-1".parse().unwrap(),
        };
        self.does(EffectName::Clone, 2_400, Fact::Cloned(checkout))
    }

    pub(in crate::cli) fn runs_the_agent(self) -> Self {
        self.runs_the_agent_that_says("greet.sh is there, and the README names it.")
    }

    pub(in crate::cli) fn runs_the_agent_that_says(self, summary: &str) -> Self {
        let report = report(summary);
        let fact = Fact::AgentEnded(report);
        self.does(EffectName::Agent, 131_000, fact)
    }

    pub(in crate::cli) fn checks(self, end: CommandEnd) -> Self {
        self.does(EffectName::Check, 20_000, Fact::Checked(command(end)))
    }

    pub(in crate::cli) fn hands_over(self) -> Self {
        self.hands(Some("b".repeat(40)), None)
    }

    pub(in crate::cli) fn changes_nothing(self) -> Self {
        self.hands(None, None)
    }

    /// The agent is not started again, and left nothing.
    pub(in crate::cli) fn leaves_nothing(self, failure: Failure, cause: &str) -> Self {
        let cause = cause.to_owned();
        self.hands(None, Some(Cut { failure, cause }))
    }

    fn hands(self, head: Option<String>, cut: Option<Cut>) -> Self {
        let number = u32::from(head.is_some());
        let handover = Handover {
            head: head.map(|head| head.parse().unwrap()),
            commits: number,
            files: 2 * number,
            flattened: None,
            cut,
        };
        self.does(EffectName::Handover, 300, Fact::HandedOver(handover))
    }

    pub(in crate::cli) fn pushes(self) -> Self {
        self.does(EffectName::Push, 900, Fact::Pushed)
    }

    pub(in crate::cli) fn opens_it(self) -> Self {
        let pull_request = PullRequest {
            number: 7,
            url: "https://github.com/octo/hello/pull/7".to_owned(),
        };
        self.does(EffectName::PullRequest, 600, Fact::PullRequest(pull_request))
    }

    pub(in crate::cli) fn fails(self, effect: EffectName, failure: Failure, cause: &str) -> Self {
        let cause = cause.to_owned();
        let agent = None;
        self.comes_to(effect, 500, Outcome::Failed { failure, cause, agent })
    }

    /// The agent ends so after it has done something.
    pub(in crate::cli) fn agent_is_cut(self, failure: Failure, cause: &str) -> Self {
        let cause = cause.to_owned();
        let mut report = report("I have begun.");
        match failure {
            Failure::AgentBudgetExceeded => report.effort.cost_micro_usd = Some(10_004_000),
            Failure::AgentTurnsExceeded => report.effort.turns = Some(50),
            Failure::AgentTimedOut => report.effort.ran_ms = 1_500_000,
            _ => {}
        }
        let agent = Some(report);
        self.comes_to(EffectName::Agent, 300_000, Outcome::Failed { failure, cause, agent })
    }

    pub(in crate::cli) fn gives_up(self, effect: EffectName, failure: Failure, cause: &str) -> Self {
        let cause = cause.to_owned();
        self.comes_to(effect, 600_000, Outcome::GivenUp { failure, cause })
    }

    pub(in crate::cli) fn tries_again(self, effect: EffectName, trouble: Trouble, cause: &str) -> Self {
        let outcome = Outcome::Retry {
            trouble,
            cause: cause.to_owned(),
            after_ms: None,
            left: Left::default(),
        };
        self.comes_to(effect, 2_000, outcome).after(1_000)
    }

    pub(in crate::cli) fn ends_elsewhere(self) -> Self {
        self.comes_to(EffectName::Agent, 40_000, Outcome::Superseded)
            .concludes()
    }

    pub(in crate::cli) fn parks(self) -> Self {
        let left = Left {
            effort: report("").effort,
            ..Left::default()
        };
        self.comes_to(EffectName::Agent, 60_000, Outcome::Parked(left))
            .notes(Note::Parked)
    }

    pub(in crate::cli) fn parks_and_boots(self) -> Self {
        self.parks().after(90_000).boots()
    }

    /// The runner is killed while an effect is under way, and the next start finds that it was not done.
    pub(in crate::cli) fn crashes_in(self, effect: EffectName) -> Self {
        let lived = self.intends(effect).after(700).boots();
        let attempt = lived.run.tally(effect).attempts;
        let at = lived.now;
        let finding = Finding::NotDone(Left::default());
        lived.takes(Event::Probed {
            effect,
            attempt,
            finding,
            at,
        })
    }

    /// The runner is killed while an effect is under way, and the next start finds that it has ended, and how.
    pub(in crate::cli::journal) fn crashes_and_finds(self, effect: EffectName, outcome: Outcome) -> Self {
        let lived = self.intends(effect).after(700).boots();
        let attempt = lived.run.tally(effect).attempts;
        let at = lived.now;
        let finding = Finding::Done;
        lived
            .takes(Event::Probed {
                effect,
                attempt,
                finding,
                at,
            })
            .takes(Event::Ended {
                effect,
                attempt,
                outcome,
                at,
            })
    }

    pub(in crate::cli) fn accepts_no_changes(mut self) -> Self {
        self.no_changes = NoChanges::Complete;
        self
    }

    /// The verdict that the machine plans.
    pub(in crate::cli) fn concludes(self) -> Self {
        let no_changes = self.no_changes;
        let policy = Policy { no_changes, ..policy() };
        self.concludes_by(&policy, Stopping::No)
    }

    pub(in crate::cli) fn concludes_by(self, policy: &Policy, stopping: Stopping) -> Self {
        let now = self.now;
        let Plan::Conclude(ending) = plan(&self.run, Situation { now, stopping }, policy) else {
            panic!("{:?}", plan(&self.run, Situation { now, stopping }, policy));
        };
        self.ends(&ending)
    }

    /// The verdict of such an end.
    pub(in crate::cli) fn ends(self, ending: &crate::machine::Ending) -> Self {
        let verdict = Arc::new(Verdict::compose(&self.run, ending, &"c".repeat(64)));
        let at = self.now;
        self.takes(Event::Concluded { verdict, at })
    }

    pub(in crate::cli) fn reports(self, ack: Ack) -> Self {
        self.does(EffectName::Report, 15, Fact::Reported { ack })
    }

    /// What the agent said at its start of a plugin, or of a server of one.
    pub(in crate::cli::journal) fn misses(self, plugin: &str, server: Option<&str>, status: &str) -> Self {
        self.notes(Note::PluginMissing(MissingPart {
            plugin: plugin.to_owned(),
            server: server.map(str::to_owned),
            status: status.to_owned(),
        }))
    }

    pub(in crate::cli) fn does_not_reach_the_api(self) -> Self {
        self.tries_again(
            EffectName::Report,
            Trouble::Unreachable,
            "failed to connect to api:8081: connection refused",
        )
        .notes(Note::Undelivered)
    }

    /// The journal of this life, and what is read of it.
    pub(in crate::cli::journal) fn post_mortem(&self) -> (TempDir, PostMortem) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        self.write(&path);
        let post_mortem = PostMortem::open(&Place::of(path)).unwrap();
        assert_eq!(post_mortem.findings().problems, Vec::<String>::new());
        assert_eq!(post_mortem.run, self.run, "the journal is this life");
        (directory, post_mortem)
    }

    /// Writes the life down as a journal.
    pub(in crate::cli) fn write(&self, path: &std::path::Path) {
        let mut journal = Journal::open(path, &record::machine()).unwrap().journal;
        let mut run = Run::default();
        for event in &self.events {
            let after = transition(&run, event).unwrap();
            let written = record::write(&run, event, &after).unwrap();
            let blobs: Vec<&[u8]> = written.blobs.iter().map(AsRef::as_ref).collect();
            journal.append(event.at(), &written.entries, &blobs).unwrap();
            run = after;
        }
        journal.close().unwrap();
    }
}

fn report(summary: &str) -> AgentReport {
    AgentReport {
        summary: Some(summary.to_owned()),
        session_id: Some("11111111-2222-5333-8444-555555555555".to_owned()),
        model: Some("claude-sonnet-4-5".to_owned()),
        missing_parts: Vec::new(),
        effort: Effort {
            ran_ms: 120_000,
            cost_micro_usd: Some(312_400),
            turns: Some(14),
            input_tokens: Some(48_211),
            output_tokens: Some(3_902),
        },
    }
}

fn command(end: CommandEnd) -> CommandRun {
    CommandRun {
        end,
        ran_ms: 8_000,
        output: "test result: FAILED".to_owned(),
    }
}
