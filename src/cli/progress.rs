//! The steps as they happen, for a person: in place on a terminal, plain lines elsewhere.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use runner_journal::Head;

use crate::adapters::agent::Activity;
use crate::driver::Observe;
use crate::machine::{EffectName, Event, Fact, Finding, Millis, Note, Outcome, Run};
use crate::redact::Redactor;
use crate::steps::Watch;
use crate::text::{count, printable};

/// What is shown on standard error. Cheap to clone: the driver has one, the agent's watch another.
#[derive(Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
    shown: Arc<Mutex<Shown>>,
    redactor: Redactor,
}

#[derive(Default)]
struct Shown {
    intended_at: Millis,
    current: String,
}

impl Progress {
    pub(super) fn new(redactor: Redactor) -> Self {
        // Hidden where standard error is no terminal: then lines are printed instead.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self {
            bar,
            shown: Arc::default(),
            redactor,
        }
    }

    /// Says what the agent is doing.
    pub(super) fn watch(&self) -> Watch {
        let progress = self.clone();
        Arc::new(move |activity| progress.agent(activity))
    }

    /// Ends the display.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn agent(&self, activity: &Activity) {
        let text = match activity {
            Activity::Said(text) => format!("agent: {text}"),
            Activity::Tool { name, summary, .. } => format!("agent: {name} {summary}"),
            Activity::Retry { attempt, of, status } => {
                let status = status.map(|s| format!(" after {s}")).unwrap_or_default();
                format!("agent: asks its model again{status} ({attempt} of {of})")
            }
            Activity::Error(text) => format!("agent: error: {text}"),
            Activity::ToolEnded { .. } => return,
        };
        let text = self.redactor.clean(text);
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if self.bar.is_hidden() {
            eprintln!("      {text}");
        } else {
            self.bar.set_message(text);
        }
    }

    fn line(&self, text: &str) {
        let text = printable(&self.redactor.redact(text));
        if self.bar.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bar.println(&text);
        }
    }

    fn doing(&self, effect: EffectName, at: Millis) {
        let text = doing(effect);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.intended_at = at;
        text.clone_into(&mut shown.current);
        self.bar.set_message(text.to_owned());
    }

    fn took(&self, at: Millis) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let ms = (at - shown.intended_at).max(0);
        format!("{}.{} s", ms / 1000, ms % 1000 / 100)
    }
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

fn did(fact: &Fact) -> String {
    match fact {
        Fact::Started { told: true } => "told the API that the task has begun".to_owned(),
        Fact::Started { told: false } => "went on without telling the API".to_owned(),
        Fact::Data { task } => format!("fetched the task: {}", task.title()),
        Fact::Token(token) => format!("got the one-time token ({}…, sealed)", token.sha256_prefix),
        Fact::Cloned(checkout) => format!("cloned at {:.12}, branch {}", checkout.base.as_str(), checkout.branch),
        Fact::SetUp(_) => "set up".to_owned(),
        Fact::Checked(check) if check.passed() => "the check passed".to_owned(),
        Fact::Checked(check) => format!("the check is red: {}", check.end),
        Fact::AgentEnded(report) => {
            let cost = report
                .effort
                .cost_micro_usd
                .map(|m| format!(", ${}.{:02}", m / 1_000_000, m % 1_000_000 / 10_000));
            format!("the agent is done{}", cost.unwrap_or_default())
        }
        Fact::HandedOver(handover) => match &handover.head {
            Some(head) => format!(
                "took over {}, {}: {:.12}",
                count(handover.commits, "commit"),
                count(handover.files, "file"),
                head.as_str()
            ),
            None => "took over nothing: the agent changed nothing".to_owned(),
        },
        Fact::Pushed => "pushed".to_owned(),
        Fact::PullRequest(pull_request) => format!("opened the pull request {}", pull_request.url),
        Fact::Reported { .. } => "reported".to_owned(),
        Fact::Archived(archived) => format!("archived: {}", archived.to),
    }
}

impl Observe for Progress {
    fn recorded(&mut self, run: &Run, event: &Event, _head: Head) {
        match event {
            Event::Booted { .. } if run.boot.number > 1 => {
                self.line(&format!(
                    "  -   start {} goes on where the last one stopped",
                    run.boot.number
                ));
            }
            Event::Intended { effect, at, .. } => self.doing(*effect, *at),
            Event::Ended {
                effect, outcome, at, ..
            } => match outcome {
                Outcome::Done {
                    fact: fact @ Fact::Checked(check),
                } if !check.passed() => self.line(&format!("  !!  {} ({})", did(fact), self.took(*at))),
                Outcome::Done { fact } => self.line(&format!("  ok  {} ({})", did(fact), self.took(*at))),
                Outcome::Retry { cause, .. } => self.line(&format!("  ..  {effect}: {cause}; trying again")),
                Outcome::Failed { failure, cause, .. } | Outcome::GivenUp { failure, cause } => {
                    self.line(&format!("  !!  {failure}: {cause}"));
                }
                Outcome::Missed { cause } => self.line(&format!("  !!  {effect}: {cause}; the verdict stands")),
                Outcome::Superseded => self.line("  !!  the task was ended elsewhere"),
                Outcome::Parked(_) => self.line("  --  parked"),
            },
            Event::Noted {
                note: Note::AnswerLost { effect, cause },
                ..
            } => self.line(&format!("  ..  {effect}: the answer was lost ({cause}); looking")),
            Event::Probed {
                effect,
                finding: Finding::Done,
                ..
            } => self.line(&format!("  -   {effect} had been done already")),
            Event::Booted { .. }
            | Event::Assigned { .. }
            | Event::Probed { .. }
            | Event::Concluded { .. }
            | Event::Noted { .. } => {}
        }
    }
}
