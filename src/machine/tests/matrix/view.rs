//! What the oracle and the machine are held against each other by.

use super::super::super::*;
use super::super::oracle::{InTheTree, Oracle};

/// What legality depends on.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Configuration {
    state: Option<String>,
    open: Option<String>,
    ended: Option<&'static str>,
    verdict: Option<VerdictKind>,
    changed: bool,
    cut: bool,
    no_forge: bool,
    tree: InTheTree,
    agent_starts: u32,
    archive: Option<ArchiveEnd>,
}

impl Configuration {
    pub(super) fn of(oracle: &Oracle) -> Self {
        Self {
            state: oracle.state.clone(),
            open: oracle.open.as_ref().map(|(effect, _)| effect.clone()),
            ended: oracle.ended,
            verdict: oracle.verdict,
            changed: oracle.changed,
            cut: oracle.cut,
            no_forge: oracle.no_forge,
            tree: oracle.tree.clone(),
            agent_starts: oracle.attempts.get("agent").copied().unwrap_or(0).min(2),
            archive: oracle.archive,
        }
    }
}

/// What the oracle and the machine both say of a history.
#[derive(Debug, PartialEq)]
pub(super) struct View {
    state: Option<String>,
    open: Option<(String, u32)>,
    ended: Option<&'static str>,
    verdict: Option<VerdictKind>,
    archive: Option<ArchiveEnd>,
    work: WorkView,
}

#[derive(Debug, PartialEq)]
enum WorkView {
    /// Nothing is known of it yet, or any more.
    None,
    InTheTree {
        tree: InTheTree,
        cut: bool,
    },
    Taken {
        changed: bool,
        cut: bool,
    },
}

impl View {
    pub(super) fn of_oracle(oracle: &Oracle) -> Self {
        let cut = oracle.cut;
        Self {
            state: oracle.state.clone(),
            open: oracle.open.clone(),
            ended: oracle.ended,
            verdict: oracle.verdict,
            archive: oracle.archive,
            work: match oracle.state.as_deref() {
                Some("Cloned") => WorkView::InTheTree {
                    tree: oracle.tree.clone(),
                    cut,
                },
                Some("AgentRan" | "Pushed" | "PrOpened") => WorkView::Taken {
                    changed: oracle.changed,
                    cut,
                },
                _ => WorkView::None,
            },
        }
    }

    pub(super) fn of_run(run: &Run) -> Self {
        Self {
            state: run.state_name().map(|name| name.to_string()),
            open: run.open.map(|open| (open.effect.to_string(), open.number)),
            ended: run.ending.as_ref().map(|ending| match ending {
                Ending::Completed(_) => "completed",
                Ending::Failed { .. } => "failed",
                Ending::Superseded => "superseded",
            }),
            verdict: run.verdict.as_ref().map(|verdict| verdict.kind),
            archive: run.archive,
            work: match &run.state {
                Some(State::Cloned { progress, .. }) => WorkView::InTheTree {
                    tree: InTheTree {
                        set_up: progress.setup.is_some(),
                        ended: progress.agent.is_some(),
                        green: progress.check.as_ref().map(|c| c.passed() || !c.was_run()),
                        asked_to_mend: progress.first_check.is_some(),
                    },
                    cut: progress.cut.is_some(),
                },
                Some(State::AgentRan(work) | State::Pushed(work) | State::PrOpened { work, .. }) => WorkView::Taken {
                    changed: work.handover.head.is_some(),
                    cut: work.handover.cut.is_some(),
                },
                _ => WorkView::None,
            },
        }
    }
}

/// Whether what a refusal says is so.
pub(super) fn is_true(refusal: Refusal, oracle: &Oracle, event: &Event) -> bool {
    let intents = |effect: EffectName| oracle.attempts.get(effect.into()).copied().unwrap_or(0);
    let is_open = |effect: EffectName| {
        oracle
            .open
            .as_ref()
            .is_some_and(|(open, _)| *open == effect.to_string())
    };
    match refusal {
        Refusal::NotAssigned => oracle.state.is_none(),
        Refusal::AlreadyAssigned => oracle.state.is_some(),
        Refusal::NotAnEffectOfState(effect) => !oracle.wanted().contains(&<&str>::from(effect)),
        Refusal::IntentOpen(effect) => is_open(effect),
        Refusal::NoSuchIntent(effect) => match event {
            Event::Probed {
                effect: of, attempt, ..
            }
            | Event::Ended {
                effect: of, attempt, ..
            } => *of == effect && oracle.open != Some((effect.to_string(), *attempt)),
            _ => false,
        },
        Refusal::WrongAttempt { effect, got, expected } => expected == intents(effect) + 1 && got != expected,
        Refusal::WrongFact(effect) => is_open(effect),
        Refusal::EndKnown => oracle.ended.is_some() || oracle.verdict.is_some(),
        Refusal::SecondVerdict => oracle.verdict.is_some(),
        Refusal::UnfoundedVerdict(kind) => match event {
            Event::Concluded { verdict, .. } => verdict.kind == kind && oracle.verdict.is_none(),
            _ => false,
        },
        Refusal::NoVerdict => oracle.verdict.is_none(),
        Refusal::Over => oracle.state.as_deref() == Some("Reported"),
        Refusal::NoSuchEdge { .. } => false,
    }
}
