//! What is shown in place: the step under way, what the agent is doing in it, and the steps to come.

use std::fmt::{Display, Write as _};

use strum::IntoEnumIterator;

use crate::cli::journal::width::cut;
use crate::cli::journal::words::one_line;
use crate::ids::RepoUrl;
use crate::machine::{Archiving, EffectName, Effort, Policy, Run, State};

/// Room before the second and the third line: they belong to the first.
const INDENT: &str = "       ";

/// What is shown in place.
#[derive(Debug, Default, Clone)]
pub(super) struct View {
    /// The step under way; none between two.
    now: Option<EffectName>,
    /// Which try of it.
    attempt: u32,
    /// What the agent did last.
    action: String,
    /// How much it has done since it was started.
    actions: u64,
    /// What earlier starts of it took.
    before: Effort,
    /// What this one has taken until now; none where nobody has counted yet.
    spent: Option<u64>,
    turns: Option<u64>,
    to_come: Vec<EffectName>,
    bounds: Bounds,
}

/// What the agent may take in all.
#[derive(Debug, Default, Clone, Copy)]
struct Bounds {
    turns: u64,
    micro_usd: u64,
}

impl View {
    /// A step begins.
    pub(super) fn begins(&mut self, run: &Run, effect: EffectName, policy: &Policy) {
        self.now = Some(effect);
        self.attempt = run.tally(effect).attempts;
        self.action.clear();
        self.actions = 0;
        self.before = run.tally(EffectName::Agent).effort;
        self.spent = None;
        self.turns = None;
        self.to_come = to_come(run, effect, policy);
        self.bounds = Bounds {
            turns: policy.agent_max_turns,
            micro_usd: policy.agent_budget_micro_usd,
        };
    }

    /// The agent does something.
    pub(super) fn does(&mut self, action: String) {
        self.action = action;
        self.actions += 1;
    }

    /// So often its model has answered in this start.
    pub(super) fn has_taken_turns(&mut self, turns: u64) {
        self.turns = Some(turns);
    }

    /// So many millionths of a dollar this start has cost.
    pub(super) fn has_spent(&mut self, micro: u64) {
        self.spent = Some(micro);
    }

    /// Two or three lines of so many columns, of which the first comes behind `lead` columns that are taken.
    pub(super) fn block(&self, columns: usize, lead: usize) -> String {
        let mut now = self.now.map_or("", doing).to_owned();
        if self.attempt > 1 {
            let _ = write!(now, " (try {})", self.attempt);
        }
        if self.now == Some(EffectName::Agent) {
            now.push_str(&self.agent());
        }
        let mut lines = vec![cut(&now, columns.saturating_sub(lead))];
        let room = columns.saturating_sub(INDENT.len());
        if !self.action.is_empty() {
            lines.push(format!("{INDENT}{}", one_line(&self.action, room)));
        }
        if !self.to_come.is_empty() {
            let names: Vec<&str> = self.to_come.iter().map(|effect| noun(*effect)).collect();
            lines.push(format!("{INDENT}{}", cut(&format!("then: {}", names.join(", ")), room)));
        }
        lines.join("\n")
    }

    /// What it has done in this start, and what all of its starts have taken of its bounds.
    fn agent(&self) -> String {
        let Bounds { turns, micro_usd } = self.bounds;
        let actions = match self.actions {
            0 => String::new(),
            1 => " · 1 action".to_owned(),
            more => format!(" · {more} actions"),
        };
        let spent = of(sum(self.before.cost_micro_usd, self.spent).map(usd), usd(micro_usd));
        let taken = of(sum(self.before.turns, self.turns), turns);
        format!(" · {spent} · {taken} turns{actions}")
    }
}

/// What earlier starts took and what this one has; none where nobody has counted.
fn sum(before: Option<u64>, now: Option<u64>) -> Option<u64> {
    match (before, now) {
        (None, None) => None,
        (before, now) => Some(before.unwrap_or_default().saturating_add(now.unwrap_or_default())),
    }
}

/// What is taken of a bound.
fn of(taken: Option<impl Display>, bound: impl Display) -> String {
    taken.map_or_else(|| format!("up to {bound}"), |taken| format!("{taken} of {bound}"))
}

/// The steps that come after one, if all goes well.
fn to_come(run: &Run, now: EffectName, policy: &Policy) -> Vec<EffectName> {
    let local = run
        .state
        .as_ref()
        .and_then(State::task)
        .is_some_and(|task| matches!(task.repo, RepoUrl::Local(_)));
    EffectName::iter()
        .filter(|effect| *effect > now)
        .filter(|effect| match effect {
            EffectName::Setup => policy.setup,
            EffectName::Check => policy.check,
            EffectName::Archive => policy.archive == Archiving::On,
            // A path has no forge.
            EffectName::PullRequest => !local,
            EffectName::Start
            | EffectName::Data
            | EffectName::Token
            | EffectName::Clone
            | EffectName::Agent
            | EffectName::Handover
            | EffectName::Push
            | EffectName::Report => true,
        })
        .collect()
}

/// Dollars and cents.
pub(super) fn usd(micro: u64) -> String {
    format!("${}.{:02}", micro / 1_000_000, micro % 1_000_000 / 10_000)
}

fn doing(effect: EffectName) -> &'static str {
    match effect {
        EffectName::Start => "telling the API that the task has begun",
        EffectName::Data => "fetching the task",
        EffectName::Token => "asking for the token",
        EffectName::Clone => "cloning",
        EffectName::Setup => "running the set-up command",
        EffectName::Agent => "the agent is at work",
        EffectName::Check => "running the check",
        EffectName::Handover => "taking over what it changed",
        EffectName::Push => "pushing",
        EffectName::PullRequest => "opening the pull request",
        EffectName::Report => "reporting",
        EffectName::Archive => "archiving",
    }
}

fn noun(effect: EffectName) -> &'static str {
    match effect {
        EffectName::Start => "start",
        EffectName::Data => "task",
        EffectName::Token => "token",
        EffectName::Clone => "clone",
        EffectName::Setup => "set-up",
        EffectName::Agent => "agent",
        EffectName::Check => "check",
        EffectName::Handover => "take-over",
        EffectName::Push => "push",
        EffectName::PullRequest => "pull request",
        EffectName::Report => "report",
        EffectName::Archive => "archive",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::journal::lived::Lived;
    use crate::cli::journal::width::width;
    use crate::machine::tests::policy;

    fn at(lived: &Lived, effect: EffectName, policy: &Policy) -> View {
        let mut view = View::default();
        view.begins(&lived.run, effect, policy);
        view
    }

    #[test]
    fn what_is_to_come_is_what_the_settings_and_the_repository_ask_for() {
        let lived = Lived::up_to(EffectName::Agent).intends(EffectName::Agent);
        let text = at(&lived, EffectName::Agent, &policy()).block(80, 0);
        assert!(text.ends_with("then: take-over, push, pull request, report"), "{text}");
        let checked = Policy {
            check: true,
            ..policy()
        };
        let text = at(&lived, EffectName::Agent, &checked).block(80, 0);
        assert!(
            text.ends_with("then: check, take-over, push, pull request, report"),
            "{text}"
        );
        let local = Lived::locally_up_to(EffectName::Push).intends(EffectName::Push);
        let text = at(&local, EffectName::Push, &policy()).block(80, 0);
        assert_eq!(text, "pushing\n       then: report");
    }

    #[test]
    fn cost_and_turns_are_shown_against_their_bounds() {
        let lived = Lived::up_to(EffectName::Agent).intends(EffectName::Agent);
        let mut view = at(&lived, EffectName::Agent, &policy());
        view.does("Bash cargo test".to_owned());
        let begins = |view: &View, line: &str| {
            let text = view.block(100, 0);
            assert!(text.starts_with(&format!("{line}\n")), "{text}");
        };
        begins(&view, "the agent is at work · up to $10.00 · up to 50 turns · 1 action");
        view.has_taken_turns(3);
        view.has_spent(120_000);
        begins(
            &view,
            "the agent is at work · $0.12 of $10.00 · 3 of 50 turns · 1 action",
        );
        let again = Lived::up_to(EffectName::Agent)
            .parks_and_boots()
            .intends(EffectName::Agent);
        let mut view = at(&again, EffectName::Agent, &policy());
        begins(&view, "the agent is at work (try 2) · $0.31 of $10.00 · 14 of 50 turns");
        view.has_spent(100_000);
        view.has_taken_turns(1);
        begins(&view, "the agent is at work (try 2) · $0.41 of $10.00 · 15 of 50 turns");
        view.begins(&again.run, EffectName::Agent, &policy());
        begins(&view, "the agent is at work (try 2) · $0.31 of $10.00 · 14 of 50 turns");
    }

    #[test]
    fn nothing_is_wider_than_the_terminal_or_obeyed_by_it_whatever_an_agent_says() {
        let lived = Lived::up_to(EffectName::Agent).intends(EffectName::Agent);
        let mut view = at(&lived, EffectName::Agent, &policy());
        view.does(format!("\u{1b}[2J\u{202e}\r\n{}", "界".repeat(100)));
        for columns in [40, 80] {
            let text = view.block(columns, 7);
            let widths: Vec<usize> = text.split('\n').map(width).collect();
            assert!(
                widths[0] + 7 <= columns && widths.iter().all(|width| *width <= columns),
                "{text}"
            );
            assert!(
                !text.contains(|c: char| c != '\n' && c.is_control()) && !text.contains('\u{202e}'),
                "{text}"
            );
            assert_eq!(widths.len(), 3);
        }
    }
}
