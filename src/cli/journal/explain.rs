//! `runner journal explain`: what happened, in a few sentences for somebody who never saw a state machine.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::bodies::Bodies;
use super::head::Head;
use super::output::to_stdout;
use super::place::Place;
use super::post_mortem::PostMortem;
use super::width::{columns, wrapped};
use super::words::span;
use crate::cli::CliError;
use crate::machine::State;
use crate::redact::Redactor;
use facts::Facts;

mod advice;
mod facts;
mod happened;
mod outside;
#[cfg(test)]
mod tests;
mod verdict;

/// How wide a line is where nobody says it.
const IN_WORDS: usize = 100;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner journal explain                                the newest journal on this machine
  runner journal explain /var/lib/runner/journal.db
  runner journal explain --json ./journal.db | jq -r .explanation.next")]
pub(super) struct Explain {
    /// One JSON object, for a program
    #[arg(long)]
    json: bool,
    /// The journal
    #[arg(value_name = "PATH")]
    pub(super) path: Option<PathBuf>,
}

/// A journal in sentences. Nothing is said in them that its rows do not show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Explanation {
    /// How it ended, or how far it has come.
    pub(super) verdict: String,
    /// What happened, in order.
    pub(super) happened: Vec<String>,
    /// What was done that others can see, and what is not known of it.
    pub(super) outside: Vec<String>,
    /// Time, money, turns and tokens; none where nothing was assigned.
    pub(super) cost: Option<String>,
    /// What to do now; none where there is nothing left to do.
    pub(super) next: Option<String>,
}

/// The object that `--json` prints: the head of a dump, and the sentences.
#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    head: Head,
    explanation: Explanation,
}

impl Explain {
    pub(super) fn execute(&self, place: &Place) -> Result<u8, CliError> {
        let post_mortem = PostMortem::open(place)?;
        let bodies = Bodies::Redacted(Redactor::new());
        let explanation = if let Some(runner) = &post_mortem.runner {
            runner.explanation(&bodies)
        } else {
            // What a row of another machine means, only that one can say.
            post_mortem.is_ours()?;
            Explanation::of(&post_mortem, &bodies)
        };
        to_stdout(|out| {
            if self.json {
                let head = post_mortem.head(&bodies);
                serde_json::to_writer_pretty(&mut *out, &Explained { head, explanation })?;
                writeln!(out)
            } else {
                explanation.print(out, columns())
            }
        })?;
        Ok(post_mortem.complain())
    }
}

/// What a task's journal tells, in 100 columns.
pub(super) fn in_words(path: &Path) -> Option<String> {
    let post_mortem = PostMortem::open(&Place::of(path)).ok()?;
    post_mortem.is_ours().ok()?;
    let mut text = Vec::new();
    Explanation::of(&post_mortem, &Bodies::Redacted(Redactor::new()))
        .print(&mut text, IN_WORDS)
        .ok()?;
    String::from_utf8(text).ok()
}

impl Explanation {
    /// What a journal tells.
    pub(super) fn of(post_mortem: &PostMortem, bodies: &Bodies) -> Self {
        let facts = Facts {
            run: &post_mortem.run,
            story: &post_mortem.story,
            rows: post_mortem.summary.rows,
            findings: post_mortem.findings(),
            bodies,
        };
        Self {
            verdict: verdict::sentence(&facts),
            happened: happened::sentences(&facts),
            outside: outside::sentences(&facts),
            cost: cost(&facts),
            next: advice::sentence(&facts),
        }
    }

    /// For a terminal: each part a paragraph.
    fn print(&self, out: &mut dyn io::Write, columns: usize) -> io::Result<()> {
        let paragraph = |out: &mut dyn io::Write, text: &str| {
            wrapped(text, columns)
                .iter()
                .try_for_each(|line| writeln!(out, "{line}"))
        };
        paragraph(out, &self.verdict)?;
        for part in [&self.happened, &self.outside] {
            if !part.is_empty() {
                writeln!(out)?;
                paragraph(out, &part.join(" "))?;
            }
        }
        for (name, text) in [("Cost", &self.cost), ("Next", &self.next)] {
            if let Some(text) = text {
                writeln!(out)?;
                paragraph(out, &format!("{name}: {text}"))?;
            }
        }
        Ok(())
    }
}

/// What it took, as far as somebody counted.
fn cost(facts: &Facts<'_>) -> Option<String> {
    facts.run.assignment.as_ref()?;
    let effort = facts.effort();
    // A later start of what is over writes a row too, which is no part of what it took.
    let (until, what) = match facts.run.state {
        Some(State::Reported) => (facts.run.since, "the end"),
        _ => (facts.story.last_at, "the last row"),
    };
    // The clocks are whatever the rows say.
    let took = until.saturating_sub(facts.run.assigned_at).max(0);
    let mut text = format!("{} from the assignment to {what}", span(took));
    if effort.ran_ms > 0 {
        let _ = write!(text, ", {} of it the agent ran", span(effort.ran_ms));
    }
    let counted = [
        effort.cost_micro_usd.map(usd),
        effort.turns.map(|turns| number(turns, "turn")),
        effort.input_tokens.map(|tokens| number(tokens, "token") + " read"),
        effort.output_tokens.map(|tokens| number(tokens, "token") + " written"),
    ];
    let counted: Vec<String> = counted.into_iter().flatten().collect();
    let model = facts
        .reached()
        .and_then(|state| state.agent()?.model.as_deref())
        .map(|model| format!(" ({})", facts.quote(model, 60)))
        .unwrap_or_default();
    if !counted.is_empty() {
        let _ = write!(text, "; {}{model}", counted.join(", "));
    } else if facts.agent_starts() > 0 {
        text.push_str("; nobody counted money, turns or tokens");
    }
    text.push('.');
    Some(text)
}

/// Millionths of a dollar for a person: cents, and where it is less than ten of them, the digits that are there.
fn usd(micro: u64) -> String {
    let (dollars, rest) = (micro / 1_000_000, micro % 1_000_000);
    if micro > 0 && micro < 100_000 {
        format!("${dollars}.{:04}", rest / 100)
    } else {
        format!("${dollars}.{:02}", rest / 10_000)
    }
}

/// `1 turn`, `12,345 turns`.
fn number(number: u64, what: &str) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text} {what}{}", if number == 1 { "" } else { "s" })
}
