//! The steps as they happen, for a person: in place on a terminal, plain lines elsewhere.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use runner_journal::Head;

use super::journal::paint::{Look, Paint};
use super::journal::width::columns_of;
use super::journal::words::{one_line, span};
use crate::adapters::agent::{Activity, Seen};
use crate::driver::Observe;
use crate::machine::{EffectName, Event, Fact, Finding, Millis, Note, Outcome, Policy, Run};
use crate::redact::Redactor;
use crate::steps::Watch;
use crate::text::{count, printable};
use view::{View, usd};

mod view;

/// What is shown on standard error. Cheap to clone: the driver has one, the agent's watch another.
#[derive(Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
    shown: Arc<Mutex<Shown>>,
    policy: Arc<Policy>,
    paint: Paint,
    redactor: Redactor,
}

#[derive(Default)]
struct Shown {
    intended_at: Millis,
    view: View,
}

/// How wide the spinner and the time are before the step under way.
const LEAD: usize = 7;

impl Progress {
    pub(super) fn new(redactor: Redactor, policy: Policy) -> Self {
        // Hidden where standard error is no terminal: then lines are printed instead.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let shown: Arc<Mutex<Shown>> = Arc::default();
        let drawn = Arc::clone(&shown);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {block}") {
            // Asked for at each drawing: a terminal may become narrower.
            bar.set_style(
                style.with_key("block", move |_: &ProgressState, out: &mut dyn fmt::Write| {
                    let block = lock(&drawn).view.block(columns_of(&io::stderr()), LEAD);
                    let _ = out.write_str(&block);
                }),
            );
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self {
            bar,
            shown,
            policy: Arc::new(policy),
            paint: Paint::of_stderr(),
            redactor,
        }
    }

    /// Says what the agent is doing.
    pub(super) fn watch(&self) -> Watch {
        let progress = self.clone();
        Arc::new(move |seen| match seen {
            Seen::Does(activity) => progress.agent(activity),
            Seen::Turns(turns) => lock(&progress.shown).view.has_taken_turns(*turns),
            Seen::Spent(spent) => lock(&progress.shown).view.has_spent(spent.micros()),
        })
    }

    /// Ends the display.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn agent(&self, activity: &Activity) {
        let text = match activity {
            Activity::Said(text) => text.clone(),
            Activity::Tool { name, summary, .. } => format!("{name} {summary}"),
            Activity::Retry { attempt, of, status } => {
                let status = status.map(|s| format!(" after {s}")).unwrap_or_default();
                format!("asks its model again{status} ({attempt} of {of})")
            }
            Activity::Error(text) => format!("error: {text}"),
            Activity::ToolEnded { .. } => return,
        };
        let text = self.redactor.clean(format!("agent: {text}"));
        if self.bar.is_hidden() {
            eprintln!("      {}", one_line(&text, usize::MAX));
        } else {
            lock(&self.shown).view.does(text);
        }
    }

    /// A line that stays: a mark, which is coloured, and what it says.
    fn line(&self, mark: Mark, text: &str) {
        let text = printable(&self.redactor.redact(text));
        let (mark, look) = match mark {
            Mark::Done => ("ok", Look::Good),
            Mark::Failed => ("!!", Look::Bad),
            Mark::Again => ("..", Look::Odd),
            Mark::Left => ("--", Look::Odd),
            Mark::Found => ("- ", Look::Plain),
        };
        let style = self.paint.style(look);
        if self.bar.is_hidden() {
            eprintln!("  {mark}  {text}");
        } else {
            self.bar.println(format!("  {style}{mark}{style:#}  {text}"));
        }
    }

    fn doing(&self, run: &Run, effect: EffectName, at: Millis) {
        let mut shown = lock(&self.shown);
        shown.intended_at = at;
        shown.view.begins(run, effect, &self.policy);
    }

    fn took(&self, at: Millis) -> String {
        span((at - lock(&self.shown).intended_at).max(0))
    }
}

/// How a step came to its end.
#[derive(Debug, Clone, Copy)]
enum Mark {
    Done,
    Failed,
    Again,
    Left,
    Found,
}

fn lock(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
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
            let cost = report.effort.cost_micro_usd.map(|micro| format!(", {}", usd(micro)));
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
                let text = format!("start {} goes on where the last one stopped", run.boot.number);
                self.line(Mark::Found, &text);
            }
            Event::Intended { effect, at, .. } => self.doing(run, *effect, *at),
            Event::Ended {
                effect, outcome, at, ..
            } => match outcome {
                Outcome::Done { fact } => {
                    let red = matches!(fact, Fact::Checked(check) if !check.passed());
                    let mark = if red { Mark::Failed } else { Mark::Done };
                    self.line(mark, &format!("{} ({})", did(fact), self.took(*at)));
                }
                Outcome::Retry { cause, .. } => self.line(Mark::Again, &format!("{effect}: {cause}; trying again")),
                Outcome::Failed { failure, cause, .. } | Outcome::GivenUp { failure, cause } => {
                    self.line(Mark::Failed, &format!("{failure}: {cause}"));
                }
                Outcome::Missed { cause } => self.line(Mark::Failed, &format!("{effect}: {cause}; the verdict stands")),
                Outcome::Superseded => self.line(Mark::Failed, "the task was ended elsewhere"),
                Outcome::Parked(_) => self.line(Mark::Left, "parked"),
            },
            Event::Noted {
                note: Note::AnswerLost { effect, cause },
                ..
            } => self.line(
                Mark::Again,
                &format!("{effect}: the answer was lost ({cause}); looking"),
            ),
            Event::Probed {
                effect,
                finding: Finding::Done,
                ..
            } => self.line(Mark::Found, &format!("{effect} had been done already")),
            Event::Booted { .. }
            | Event::Assigned { .. }
            | Event::Probed { .. }
            | Event::Concluded { .. }
            | Event::Noted { .. } => {}
        }
    }
}
