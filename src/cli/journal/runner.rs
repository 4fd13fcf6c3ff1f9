//! The journal of `runner actions`, read by the machine that wrote it: where it stands, and what happened in a few sentences.

use runner_journal::{Entry, Row};
use serde::Serialize;

use super::bodies::Bodies;
use super::explain::Explanation;
use super::words::{one_line, span};
use crate::actions::machine::{Assignment, EffectName, Failure, JobEnd, Note, Run, State, VerdictKind};
use crate::actions::record::{self, RowError};
use crate::actions::server::VerdictStatus;
use crate::machine::Millis;

/// What the rows of a runner add up to, and what they told on the way there.
#[derive(Debug, Default)]
pub(super) struct Runner {
    pub(super) run: Run,
    began: Option<Millis>,
    last_at: Millis,
    lost_answers: u32,
    /// Starts that ended without a word.
    crashed: u32,
    left: bool,
}

/// Which runner a journal is of, as a dump begins with it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Registered {
    /// The name that it has, or had last.
    pub(super) name: Option<String>,
    /// Whose jobs it takes.
    pub(super) target: String,
}

impl Registered {
    pub(super) fn of(assignment: &Assignment, name: Option<String>) -> Self {
        Self {
            name,
            target: assignment.target.to_string(),
        }
    }
}

impl Runner {
    /// Takes a row, or says why the machine does not.
    pub(super) fn take(&mut self, row: &Row) -> Result<(), RowError> {
        let before = self.run.clone();
        record::step(&mut self.run, row)?;
        self.began.get_or_insert(row.at_ms);
        self.last_at = row.at_ms;
        match &row.entry {
            Entry::Boot { .. } => {
                let unfinished = before.assignment.is_some() && before.verdict.is_none();
                self.crashed += u32::from(unfinished && !self.left);
                self.left = false;
            }
            Entry::Note { body } => match serde_json::from_str(body) {
                Ok(Note::AnswerLost { .. }) => self.lost_answers += 1,
                Ok(Note::Left { .. }) => self.left = true,
                Err(_) => {}
            },
            Entry::Enter { .. }
            | Entry::Intent { .. }
            | Entry::Probe { .. }
            | Entry::Outcome { .. }
            | Entry::Verdict { .. }
            | Entry::Ack { .. } => {}
        }
        Ok(())
    }

    pub(super) fn registered(&self) -> Option<Registered> {
        let name = self
            .run
            .registration
            .as_ref()
            .map(|registration| registration.name.clone());
        let assignment = self.run.assignment.as_ref()?;
        Some(Registered::of(assignment, name))
    }

    pub(super) fn verdict(&self) -> Option<VerdictStatus> {
        self.run.verdict.as_ref().map(|(verdict, _)| VerdictStatus {
            event: verdict.kind,
            reason: verdict.reason,
            message: verdict.message.clone(),
        })
    }

    /// In sentences. Nothing is said in them that the rows do not show.
    pub(super) fn explanation(&self, bodies: &Bodies) -> Explanation {
        let quote = |text: &str| one_line(&bodies.show(text), 400);
        let target = self
            .run
            .assignment
            .as_ref()
            .map(|assignment| assignment.target.to_string());
        let of = target.map_or_else(String::new, |target| format!(" of {target}"));
        Explanation {
            verdict: match (&self.run.verdict, self.run.state) {
                (Some((verdict, _)), _) => {
                    let how = match verdict.kind {
                        VerdictKind::Completed => "did what it was for",
                        VerdictKind::Failed => "failed",
                    };
                    format!("The Actions runner{of} {how}: {}", quote(&verdict.message))
                }
                (None, Some(state)) => format!("The Actions runner{of} is not finished: it came to {state}."),
                (None, None) => "Nothing was assigned.".to_owned(),
            },
            happened: self.happened(&quote),
            outside: self.outside(&quote),
            cost: self.began.map(|began| {
                format!(
                    "{} from the first row to the last",
                    span(self.last_at.saturating_sub(began).max(0))
                )
            }),
            next: self.next(),
        }
    }

    fn happened(&self, quote: &impl Fn(&str) -> String) -> Vec<String> {
        let mut said = Vec::new();
        let attempts = |effect| self.run.tally(effect).attempts;
        match attempts(EffectName::Register) {
            0 => {}
            1 => said.push("Its registration was tried once.".to_owned()),
            tries => said.push(format!(
                "Its registration was tried {tries} times, each under a name of its own."
            )),
        }
        if self.run.taken > 0 {
            said.push(format!("{} of those names belonged to others.", self.run.taken));
        }
        if self.lost_answers > 0 {
            let times = if self.lost_answers == 1 {
                "once"
            } else {
                "several times"
            };
            said.push(format!(
                "An answer of GitHub was lost {times}, and what it was about was looked for."
            ));
        }
        match attempts(EffectName::Job) {
            0 => said.push("The listener was never launched.".to_owned()),
            1 => said.push("The listener was launched once.".to_owned()),
            launches => said.push(format!("The listener was launched {launches} times.")),
        }
        if let Some(report) = &self.run.job {
            let how = match (report.end, report.result) {
                (JobEnd::None, _) => "It had no job.".to_owned(),
                (JobEnd::Lost, _) => "A job began, and its end is not known.".to_owned(),
                (JobEnd::Ran, Some(result)) => format!("A job was run, with the result {result}."),
                (JobEnd::Ran, None) => "A job was run to its end.".to_owned(),
            };
            said.push(how);
            if let Some(listener) = &report.listener {
                said.push(format!("The listener ended with {}.", quote(listener)));
            }
        }
        if self.crashed > 0 {
            let starts = if self.crashed == 1 { "start" } else { "starts" };
            said.push(format!(
                "{} {starts} of the runner ended without a word, and the next one went on.",
                self.crashed
            ));
        }
        said
    }

    fn outside(&self, quote: &impl Fn(&str) -> String) -> Vec<String> {
        let mut said = Vec::new();
        match (&self.run.registration, self.run.suspects.len()) {
            (Some(registration), _) => said.push(format!(
                "The runner {} (number {}) is registered, unless GitHub has removed it since.",
                quote(&registration.name),
                registration.id
            )),
            (None, 0) if self.run.tally(EffectName::Register).attempts > 0 && self.run.open.is_none() => {
                said.push("Nothing of this journal is registered any more.".to_owned());
            }
            (None, 0) => {}
            (None, many) => said.push(format!("{many} registrations that nobody answered may still be there.")),
        }
        if let Some(open) = self.run.open {
            said.push(format!("What came of the last {} is not known.", open.effect));
        }
        said
    }

    fn next(&self) -> Option<String> {
        match &self.run.verdict {
            Some((verdict, _)) => verdict.reason.map(Failure::hint).map(str::to_owned),
            None => Some(
                "start `runner actions` again with the same state directory and settings: it goes on, and removes what is \
                 registered"
                    .to_owned(),
            ),
        }
    }

    /// Whether nothing more comes after the state of this name.
    pub(super) fn is_last(state: &str) -> bool {
        state.parse::<State>().is_ok_and(|state| state.successors().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Redactor;

    #[test]
    fn a_clock_that_somebody_made_up_is_no_trouble() {
        let runner = Runner {
            began: Some(Millis::MIN),
            last_at: Millis::MAX,
            ..Runner::default()
        };
        let explained = runner.explanation(&Bodies::Redacted(Redactor::new()));
        assert!(explained.cost.is_some());
    }
}
