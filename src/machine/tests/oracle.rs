//! The oracle: names, numbers and flags of its own, and its own hand-written list of edges. It never calls `transition`.

use std::sync::Arc;

use proptest::prelude::*;
use strum::IntoEnumIterator;

use super::super::*;
use crate::ids::RepoUrl;
use crate::task::{Task, sample};

/// The contract's section 3, written out by hand: from, effect, to. `Reported` is reached by `report` from everywhere. What
/// happens in the tree enters no state.
pub(super) const EDGES: [(&str, &str, &str); 8] = [
    ("Assigned", "start", "Started"),
    ("Started", "data", "DataFetched"),
    ("DataFetched", "token", "TokenIssued"),
    ("TokenIssued", "clone", "Cloned"),
    ("Cloned", "handover", "AgentRan"),
    ("AgentRan", "push", "Pushed"),
    ("Pushed", "pull_request", "PrOpened"),
    ("*", "report", "Reported"),
];

pub(super) fn assignment() -> Assignment {
    Assignment {
        task_id: "t-1".parse().unwrap(),
        api_url: "http://api:8081".parse().unwrap(),
        trace: None,
    }
}

pub(super) fn fact(effect: EffectName, changed: Changed, cut: Option<Cut>) -> Fact {
    match effect {
        EffectName::Start => Fact::Started { told: true },
        EffectName::Data => Fact::Data { task: sample() },
        EffectName::Token => Fact::Token(TokenFacts {
            sha256_prefix: "00000000".to_owned(),
            expires_at_ms: Millis::MAX / 2,
        }),
        EffectName::Clone => Fact::Cloned(Checkout {
            base: "a".repeat(40).parse().unwrap(),
            base_branch: "main".parse().unwrap(),
            branch: "runner/t-1".parse().unwrap(),
        }),
        EffectName::Setup => Fact::SetUp(command(0)),
        EffectName::Agent => Fact::AgentEnded(AgentReport::default()),
        EffectName::Check => Fact::Checked(command((changed == Changed::No).into())),
        EffectName::Handover => Fact::HandedOver(Handover {
            head: (changed == Changed::Yes).then(|| "b".repeat(40).parse().unwrap()),
            commits: 1,
            files: 1,
            flattened: None,
            cut,
        }),
        EffectName::Push => Fact::Pushed,
        EffectName::PullRequest => Fact::PullRequest(PullRequest {
            number: 1,
            url: "http://127.0.0.1:1/o/r/pull/1".to_owned(),
        }),
        EffectName::Report => Fact::Reported { ack: Ack::Accepted },
        EffectName::Archive => Fact::Archived(Archived {
            to: "archive.example.org".to_owned(),
            bytes: 1,
            sha256: "c".repeat(64),
            left_out: Vec::new(),
        }),
    }
}

fn timed_out() -> Cut {
    Cut {
        failure: Failure::AgentTimedOut,
        cause: String::new(),
    }
}

fn begin_anew() -> Left {
    Left {
        next: Next::BeginAnew,
        ..Left::default()
    }
}

fn command(code: i32) -> CommandRun {
    CommandRun {
        end: CommandEnd::Exit(code),
        ran_ms: 1,
        output: String::new(),
    }
}

/// Whether the agent changed anything, and whether its change passes the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    Yes,
    No,
}

/// Whether a hand-over says why the work is unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Why,
    Nothing,
}

/// One step of a random history, in words that mean something in any state.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Boot,
    Assign,
    Intend(EffectName, i8),
    ProbeNotDone(EffectName),
    /// It was not done, and there is nothing to go on in.
    ProbeAnew(EffectName),
    ProbeDone(EffectName),
    /// The task's data, of a repository on this machine: there is no forge.
    FetchLocal,
    /// A hand-over that says why the work is unfinished, or does not.
    HandOver(Changed, Said),
    Done(EffectName, EffectName, Changed),
    Retry(EffectName),
    RetryAnew(EffectName),
    Fail(EffectName),
    Cut(EffectName),
    GiveUp(EffectName),
    Miss(EffectName),
    Supersede(EffectName),
    Park(EffectName),
    ParkAnew(EffectName),
    Conclude(VerdictKind),
    Note,
    /// Whatever the oracle thinks comes next, so that histories get deep.
    Onward(Changed, usize),
}

fn any_effect() -> impl Strategy<Value = EffectName> {
    prop::sample::select(EffectName::iter().collect::<Vec<_>>())
}

pub(super) fn any_op() -> impl Strategy<Value = Op> {
    let kinds = prop::sample::select(VerdictKind::iter().collect::<Vec<_>>());
    prop_oneof![
        1 => Just(Op::Boot),
        1 => Just(Op::Assign),
        1 => (any_effect(), -1_i8..2).prop_map(|(e, d)| Op::Intend(e, d)),
        1 => any_effect().prop_map(Op::ProbeNotDone),
        1 => any_effect().prop_map(Op::ProbeDone),
        1 => (any_effect(), any_effect()).prop_map(|(e, f)| Op::Done(e, f, Changed::Yes)),
        1 => any_effect().prop_map(Op::Retry),
        1 => any_effect().prop_map(Op::RetryAnew),
        1 => any_effect().prop_map(Op::Fail),
        1 => any_effect().prop_map(Op::Cut),
        1 => any_effect().prop_map(Op::GiveUp),
        1 => any_effect().prop_map(Op::Miss),
        1 => any_effect().prop_map(Op::Supersede),
        1 => any_effect().prop_map(Op::Park),
        2 => kinds.prop_map(Op::Conclude),
        1 => Just(Op::Note),
        12 => (0_usize..4).prop_map(|which| Op::Onward(Changed::Yes, which)),
        3 => (0_usize..4).prop_map(|which| Op::Onward(Changed::No, which)),
    ]
}

/// What the oracle knows: names, numbers and flags of its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Oracle {
    pub(super) state: Option<String>,
    pub(super) open: Option<(String, u32)>,
    pub(super) attempts: std::collections::BTreeMap<String, u32>,
    pub(super) ended: Option<&'static str>,
    pub(super) verdict: Option<VerdictKind>,
    pub(super) changed: bool,
    pub(super) cut: bool,
    pub(super) no_forge: bool,
    pub(super) tree: InTheTree,
    /// How the archive ended.
    pub(super) archive: Option<ArchiveEnd>,
}

/// What is known of the work in the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct InTheTree {
    pub(super) set_up: bool,
    pub(super) ended: bool,
    pub(super) green: Option<bool>,
    pub(super) asked_to_mend: bool,
}

impl Oracle {
    /// What may be intended now.
    pub(super) fn wanted(&self) -> Vec<&'static str> {
        let Some(state) = self.state.as_deref() else {
            return Vec::new();
        };
        if self.verdict.is_some() {
            return match (state, self.archive) {
                ("Reported", None) => vec!["archive"],
                ("Reported", Some(_)) => Vec::new(),
                _ => vec!["report"],
            };
        }
        if self.ended.is_some() {
            return Vec::new();
        }
        match state {
            "Cloned" => self.in_the_tree(),
            "AgentRan" if !self.changed => Vec::new(),
            "Pushed" if self.no_forge => Vec::new(),
            _ => EDGES
                .iter()
                .filter(|(from, _, _)| *from == state)
                .map(|edge| edge.1)
                .collect(),
        }
    }

    fn in_the_tree(&self) -> Vec<&'static str> {
        let tree = &self.tree;
        let mending = tree.green == Some(false) && !tree.asked_to_mend;
        let mut may = Vec::new();
        if !tree.ended && !tree.set_up {
            may.push("setup");
        }
        if !tree.ended || (mending && !self.cut) {
            may.push("agent");
        }
        if tree.ended && !self.cut && tree.green.is_none() {
            may.push("check");
        }
        if tree.ended || self.attempts.contains_key("agent") {
            may.push("handover");
        }
        may
    }

    fn agent_ended(&mut self, cut: bool) {
        if self.tree.ended {
            self.tree.asked_to_mend = true;
            self.tree.green = None;
        }
        self.tree.ended = true;
        self.cut = cut;
    }

    /// Why unfinished work is handed over.
    fn why_cut(&self) -> Option<Cut> {
        (!self.tree.ended || self.cut).then(timed_out)
    }

    /// There is nothing to go on in: what is known of the tree is known no more.
    fn anew(&mut self, effect: EffectName, (event, legal): (Event, bool)) -> (Event, bool) {
        if legal && effect == EffectName::Agent {
            self.tree = InTheTree::default();
            self.cut = false;
        }
        (event, legal)
    }

    /// Turns an operation into an event, and says whether it is legal; applies it if so.
    pub(super) fn step(&mut self, op: &Op) -> (Event, bool) {
        let at = 0;
        match op {
            Op::Boot => (Event::Booted { at }, true),
            Op::Note => (Event::Noted { note: Note::Parked, at }, true),
            Op::Assign => {
                let legal = self.state.is_none();
                if legal {
                    self.state = Some("Assigned".to_owned());
                }
                let event = Event::Assigned {
                    assignment: assignment(),
                    at,
                };
                (event, legal)
            }
            Op::Intend(effect, off) => self.intend(*effect, *off),
            Op::ProbeNotDone(effect) => self.probe(*effect, Finding::NotDone(Left::default())),
            Op::ProbeAnew(effect) => {
                let probed = self.probe(*effect, Finding::NotDone(begin_anew()));
                self.anew(*effect, probed)
            }
            Op::ProbeDone(effect) => self.probe(*effect, Finding::Done),
            Op::FetchLocal => self.fetch_local(),
            Op::HandOver(changed, said) => {
                let cut = (*said == Said::Why).then(timed_out);
                self.bring(EffectName::Handover, EffectName::Handover, *changed, cut)
            }
            Op::Done(effect, of, changed) => self.done(*effect, *of, *changed),
            Op::Retry(effect) => {
                let outcome = Outcome::Retry {
                    trouble: Trouble::Unreachable,
                    cause: String::new(),
                    after_ms: None,
                    left: Left::default(),
                };
                self.close(*effect, outcome, None)
            }
            Op::RetryAnew(effect) => {
                let outcome = Outcome::Retry {
                    trouble: Trouble::NothingToGoOnIn,
                    cause: String::new(),
                    after_ms: None,
                    left: begin_anew(),
                };
                let closed = self.close(*effect, outcome, None);
                self.anew(*effect, closed)
            }
            Op::Cut(effect) => {
                let outcome = Outcome::Failed {
                    failure: Failure::AgentTimedOut,
                    cause: String::new(),
                    agent: Some(AgentReport::default()),
                };
                let agent = *effect == EffectName::Agent;
                let (event, legal) = self.close(*effect, outcome, (!agent).then_some("failed"));
                if legal && agent {
                    self.agent_ended(true);
                }
                (event, legal)
            }
            Op::Park(effect) => self.close(*effect, Outcome::Parked(Left::default()), None),
            Op::ParkAnew(effect) => {
                let closed = self.close(*effect, Outcome::Parked(begin_anew()), None);
                self.anew(*effect, closed)
            }
            Op::Miss(effect) => self.miss(*effect),
            Op::Supersede(effect) => self.close(*effect, Outcome::Superseded, Some("superseded")),
            Op::Fail(effect) => {
                let outcome = Outcome::Failed {
                    failure: Failure::Internal,
                    cause: String::new(),
                    agent: None,
                };
                // What an earlier start of the agent left is saved.
                let again = *effect == EffectName::Agent && self.attempts.get("agent").is_some_and(|n| *n > 1);
                let (event, legal) = self.close(*effect, outcome, (!again).then_some("failed"));
                if legal && again {
                    self.agent_ended(true);
                }
                (event, legal)
            }
            Op::GiveUp(effect) => {
                let outcome = Outcome::GivenUp {
                    failure: Failure::ApiUnreachable,
                    cause: String::new(),
                };
                self.close(*effect, outcome, Some("failed"))
            }
            Op::Conclude(kind) => self.conclude(*kind),
            Op::Onward(changed, which) => self.onward(*changed, *which),
        }
    }

    fn onward(&mut self, changed: Changed, which: usize) -> (Event, bool) {
        if self.state.is_none() {
            return self.step(&Op::Assign);
        }
        if let Some((effect, _)) = &self.open {
            let effect: EffectName = effect.parse().unwrap();
            return self.done(effect, effect, changed);
        }
        let wanted = self.wanted();
        match wanted.get(which % wanted.len().max(1)) {
            Some(effect) => self.intend(effect.parse().unwrap(), 0),
            None => self.conclude(match self.ended {
                Some("superseded") => VerdictKind::Superseded,
                Some(_) => VerdictKind::Failed,
                None if self.cut => VerdictKind::Failed,
                None => VerdictKind::Completed,
            }),
        }
    }

    fn intend(&mut self, effect: EffectName, off: i8) -> (Event, bool) {
        let name = effect.to_string();
        let right = self.attempts.get(&name).copied().unwrap_or(0) + 1;
        let attempt = right.saturating_add_signed(off.into());
        let legal = self.wanted().contains(&name.as_str()) && self.open.is_none() && attempt == right;
        if legal {
            self.attempts.insert(name.clone(), attempt);
            self.open = Some((name, attempt));
        }
        let event = Event::Intended {
            effect,
            attempt,
            session: None,
            at: 0,
        };
        (event, legal)
    }

    fn is_open(&self, effect: EffectName) -> (u32, bool) {
        match &self.open {
            Some((name, attempt)) => (*attempt, *name == effect.to_string()),
            None => (1, false),
        }
    }

    fn probe(&mut self, effect: EffectName, finding: Finding) -> (Event, bool) {
        let (attempt, legal) = self.is_open(effect);
        if legal && matches!(finding, Finding::NotDone(_)) {
            self.open = None;
        }
        let event = Event::Probed {
            effect,
            attempt,
            finding,
            at: 0,
        };
        (event, legal)
    }

    fn close(&mut self, effect: EffectName, outcome: Outcome, ends: Option<&'static str>) -> (Event, bool) {
        let (attempt, open) = self.is_open(effect);
        // A report can fail to be delivered; it cannot fail the task.
        let legal = open && (ends.is_none() || self.verdict.is_none());
        if legal {
            self.open = None;
            self.ended = ends.or(self.ended);
        }
        let event = Event::Ended {
            effect,
            attempt,
            outcome,
            at: 0,
        };
        (event, legal)
    }

    /// Nothing depends on the archive; on everything else the task does.
    fn miss(&mut self, effect: EffectName) -> (Event, bool) {
        let (attempt, open) = self.is_open(effect);
        let legal = open && effect == EffectName::Archive;
        if legal {
            self.open = None;
            self.archive = Some(ArchiveEnd::Missed);
        }
        let event = Event::Ended {
            effect,
            attempt,
            outcome: Outcome::Missed { cause: String::new() },
            at: 0,
        };
        (event, legal)
    }

    fn fetch_local(&mut self) -> (Event, bool) {
        let (mut event, legal) = self.done(EffectName::Data, EffectName::Data, Changed::Yes);
        self.no_forge |= legal;
        if let Event::Ended { outcome, .. } = &mut event {
            let repo = RepoUrl::Local("/srv/r.git".into());
            let task = Arc::new(Task {
                repo,
                ..(*sample()).clone()
            });
            *outcome = Outcome::Done {
                fact: Fact::Data { task },
            };
        }
        (event, legal)
    }

    fn done(&mut self, effect: EffectName, of: EffectName, changed: Changed) -> (Event, bool) {
        self.bring(effect, of, changed, self.why_cut())
    }

    fn bring(&mut self, effect: EffectName, of: EffectName, changed: Changed, cut: Option<Cut>) -> (Event, bool) {
        let (attempt, open) = self.is_open(effect);
        let unchanged_push = effect == EffectName::Push && !self.changed;
        let unexplained = effect == EffectName::Handover && !self.tree.ended && cut.is_none();
        let legal = open && effect == of && !unchanged_push && !unexplained;
        if legal {
            let state = self.state.clone().unwrap();
            let name = effect.to_string();
            let mut edges = EDGES.iter();
            if let Some((_, _, to)) = edges.find(|(from, by, _)| *by == name && (*from == state || *from == "*")) {
                self.state = Some((*to).to_owned());
            }
            self.open = None;
            match name.as_str() {
                "setup" => self.tree.set_up = true,
                "agent" => self.agent_ended(false),
                "check" => self.tree.green = Some(changed == Changed::Yes),
                "handover" => {
                    self.changed = changed == Changed::Yes;
                    self.cut |= cut.is_some();
                }
                "archive" => self.archive = Some(ArchiveEnd::Kept),
                _ => {}
            }
        }
        let event = Event::Ended {
            effect,
            attempt,
            outcome: Outcome::Done {
                fact: fact(of, changed, cut),
            },
            at: 0,
        };
        (event, legal)
    }

    fn conclude(&mut self, kind: VerdictKind) -> (Event, bool) {
        let state = self.state.as_deref();
        let founded = match kind {
            VerdictKind::Completed => {
                self.ended.is_none()
                    && !self.cut
                    && (matches!(state, Some("Pushed" | "PrOpened")) || (state == Some("AgentRan") && !self.changed))
            }
            VerdictKind::Failed => self.ended != Some("superseded"),
            VerdictKind::Superseded => self.ended == Some("superseded"),
        };
        let legal = state.is_some() && self.verdict.is_none() && self.open.is_none() && founded;
        if legal {
            self.verdict = Some(kind);
            if kind == VerdictKind::Superseded {
                self.state = Some("Reported".to_owned());
            }
        }
        let verdict = Arc::new(Verdict {
            kind,
            reason: None,
            message: String::new(),
            body: String::new(),
            key: String::new(),
        });
        (Event::Concluded { verdict, at: 0 }, legal)
    }
}
