//! What a span says: OpenTelemetry's names where it has some, `runner.` before our own.
//!
//! Nothing here is unbounded, and nothing is the task's text: what the agent was asked and what it said stay in the journal.

use std::collections::BTreeMap;

use super::{AgentIdentity, Farewell, Value};
use crate::ids::RepoUrl;
use crate::machine::{
    Ack, Assignment, CommandEnd, EffectName, Effort, Fact, Failure, Millis, MissingPart, Note, Outcome, Run, Trouble,
    Verdict, VerdictKind,
};
use crate::record::MACHINE;
use crate::task::Task;
use crate::text::cut;

/// The longest value, in bytes.
const LENGTH: usize = 512;

/// Attributes by name: what is said later counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes(BTreeMap<&'static str, Value>);

impl Attributes {
    pub(super) fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        let value = match value.into() {
            Value::Text(text) => Value::Text(cut(&text, LENGTH)),
            number @ (Value::Int(_) | Value::Double(_) | Value::Bool(_)) => number,
        };
        self.0.insert(name, value);
    }

    pub(super) fn into_list(self) -> Vec<(&'static str, Value)> {
        self.0.into_iter().collect()
    }

    /// The run of a pipeline (`cicd.pipeline.*`): the pipeline is the machine, the run is the task.
    pub(super) fn assignment(&mut self, assignment: &Assignment) {
        self.set("cicd.pipeline.name", MACHINE);
        self.set("cicd.pipeline.action.name", "RUN");
        self.set("cicd.pipeline.run.id", assignment.task_id.as_str());
    }

    /// A task of that run (`cicd.pipeline.task.*`): one attempt at an effect.
    pub(super) fn attempt(&mut self, run: &Run, effect: EffectName, number: u32) {
        let task = run.assignment.as_ref().map_or("", |a| a.task_id.as_str());
        self.set("cicd.pipeline.task.name", effect.to_string());
        self.set("cicd.pipeline.task.run.id", format!("{task}/{effect}/{number}"));
        self.set("runner.attempt", number);
        self.set("runner.boot", run.boot.number);
        if effect == EffectName::Check {
            self.set("cicd.pipeline.task.type", "test");
        }
    }

    /// The agent, as it is set (`gen_ai.*`).
    pub(super) fn agent(&mut self, agent: &AgentIdentity) {
        self.set("gen_ai.operation.name", "invoke_agent");
        self.set("gen_ai.agent.name", agent.name);
        if let Some(provider) = agent.provider {
            self.set("gen_ai.provider.name", provider);
        }
        if let Some(model) = &agent.model {
            self.set("gen_ai.request.model", model.as_str());
        }
    }

    /// What a start of the agent took, by its own rows: the sum over all of them is the task's.
    pub(super) fn effort(&mut self, effort: &Effort) {
        if let Some(tokens) = effort.input_tokens {
            self.set("gen_ai.usage.input_tokens", tokens);
        }
        if let Some(tokens) = effort.output_tokens {
            self.set("gen_ai.usage.output_tokens", tokens);
        }
        if let Some(turns) = effort.turns {
            self.set("runner.agent.turns", turns);
        }
        if let Some(cost) = effort.cost_micro_usd {
            self.set("runner.agent.cost_usd", dollars(cost));
        }
    }

    /// The attempt whose outcome nobody saw.
    pub(super) fn lost(&mut self) {
        self.set("runner.outcome", "lost");
        self.set("error.type", "lost");
        self.set("cicd.pipeline.task.run.result", "error");
    }

    pub(super) fn is_lost(&self) -> bool {
        self.0.get("runner.outcome") == Some(&Value::from("lost"))
    }

    /// What came of an attempt. Gives how long it says that it ran.
    pub(super) fn outcome(&mut self, effect: EffectName, outcome: &Outcome) -> Millis {
        let (name, result) = match outcome {
            Outcome::Done { fact } => ("done", done(fact)),
            Outcome::Retry { .. } => ("retry", "error"),
            Outcome::Failed { failure, .. } => ("failed", result_of(*failure)),
            Outcome::GivenUp { .. } => ("given_up", "error"),
            Outcome::Missed { .. } => ("missed", "failure"),
            Outcome::Superseded => ("superseded", "cancellation"),
            Outcome::Parked(_) => ("parked", "cancellation"),
        };
        self.set("runner.outcome", name);
        self.set("cicd.pipeline.task.run.result", result);
        match outcome {
            Outcome::Done { fact } => {
                self.fact(fact);
                match fact {
                    Fact::SetUp(run) | Fact::Checked(run) => run.ran_ms,
                    Fact::AgentEnded(report) => {
                        self.effort(&report.effort);
                        if let Some(session) = &report.session_id {
                            self.set("gen_ai.conversation.id", session.as_str());
                        }
                        if let Some(model) = &report.model {
                            self.set("gen_ai.response.model", model.as_str());
                        }
                        report.effort.ran_ms
                    }
                    Fact::Started { .. }
                    | Fact::Data { .. }
                    | Fact::Token(_)
                    | Fact::Cloned(_)
                    | Fact::HandedOver(_)
                    | Fact::Pushed
                    | Fact::PullRequest(_)
                    | Fact::Reported { .. }
                    | Fact::Archived(_) => 0,
                }
            }
            Outcome::Retry {
                trouble,
                after_ms,
                left,
                ..
            } => {
                self.set("error.type", trouble_name(*trouble));
                if let Some(after) = after_ms {
                    self.set("runner.retry_after_ms", *after);
                }
                self.effort(&left.effort);
                left.effort.ran_ms
            }
            Outcome::Failed { failure, agent, .. } => {
                self.set("error.type", failure.to_string());
                let effort = agent.as_ref().map(|report| report.effort).unwrap_or_default();
                if effect == EffectName::Agent {
                    self.effort(&effort);
                }
                effort.ran_ms
            }
            Outcome::GivenUp { failure, .. } => {
                self.set("error.type", failure.to_string());
                0
            }
            Outcome::Missed { .. } | Outcome::Superseded => 0,
            Outcome::Parked(left) => {
                self.effort(&left.effort);
                left.effort.ran_ms
            }
        }
    }

    /// What is known now: of the attempt that found it out, and of the task.
    pub(super) fn fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Started { told } => self.set("runner.started.told", *told),
            Fact::Data { task } => self.repository(task),
            Fact::Cloned(checkout) => {
                self.set("vcs.ref.base.name", checkout.base_branch.to_string());
                self.set("vcs.ref.base.type", "branch");
                self.set("vcs.ref.base.revision", checkout.base.to_string());
                self.set("vcs.ref.head.name", checkout.branch.to_string());
                self.set("vcs.ref.head.type", "branch");
            }
            Fact::SetUp(run) => self.command(run.end),
            Fact::Checked(run) => {
                self.command(run.end);
                self.set("runner.check.passed", run.passed());
            }
            Fact::HandedOver(handover) => {
                if let Some(head) = &handover.head {
                    self.set("vcs.ref.head.revision", head.to_string());
                }
                self.set("runner.commits", handover.commits);
                self.set("runner.files", handover.files);
            }
            Fact::PullRequest(pull_request) => {
                self.set("vcs.change.id", pull_request.number.to_string());
                self.set("vcs.change.state", "open");
                self.set("runner.pull_request.url", pull_request.url.as_str());
            }
            Fact::Reported { ack } => self.set("runner.ack", ack_name(*ack)),
            Fact::Archived(archived) => self.set(
                "runner.archive.bytes",
                i64::try_from(archived.bytes).unwrap_or(i64::MAX),
            ),
            Fact::Token(_) | Fact::AgentEnded(_) | Fact::Pushed => {}
        }
    }

    fn command(&mut self, end: CommandEnd) {
        self.set("runner.command.end", end.to_string());
        if let CommandEnd::Exit(code) = end {
            self.set("process.exit.code", code);
        }
    }

    fn repository(&mut self, task: &Task) {
        match &task.repo {
            RepoUrl::Http(url) => {
                self.set("vcs.repository.url.full", url.as_str());
                let parts = url.path_segments().into_iter().flatten();
                let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
                if let [owners @ .., name] = parts.as_slice() {
                    self.set("vcs.repository.name", name.trim_end_matches(".git"));
                    if !owners.is_empty() {
                        self.set("vcs.owner.name", owners.join("/"));
                    }
                }
                if url.host_str() == Some("github.com") {
                    self.set("vcs.provider.name", "github");
                }
            }
            // Where it lies on somebody's machine is nobody else's business.
            RepoUrl::Local(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                self.set("vcs.repository.name", name.trim_end_matches(".git"));
            }
        }
    }

    /// How the task ended, once the verdict is frozen.
    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        let result = match (verdict.kind, verdict.reason) {
            (VerdictKind::Completed, _) => "success",
            (VerdictKind::Superseded, _) => "cancellation",
            (VerdictKind::Failed, Some(failure)) => result_of(failure),
            (VerdictKind::Failed, None) => "failure",
        };
        self.set("cicd.pipeline.result", result);
        self.set("runner.verdict", verdict.kind.to_string());
        if let Some(reason) = verdict.reason {
            self.set("error.type", reason.to_string());
        }
    }

    /// What the whole task took.
    pub(super) fn total(&mut self, run: &Run) {
        let agent = run.tally(EffectName::Agent);
        self.set("runner.boots", run.boot.number);
        self.set("runner.agent.starts", agent.attempts);
        if let Some(turns) = agent.effort.turns {
            self.set("runner.agent.turns", turns);
        }
        if let Some(cost) = agent.effort.cost_micro_usd {
            self.set("runner.agent.cost_usd", dollars(cost));
        }
    }
}

fn dollars(micros: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a bill of 2^53 millionths is not one")]
    let micros = micros as f64;
    micros / 1_000_000.0
}

/// What is said of a note: its name, its attributes, and whether it is a boot's last word.
pub(super) fn note(note: &Note) -> (&'static str, Attributes, Option<Farewell>) {
    let mut said = Attributes::default();
    match note {
        Note::Sandbox { mode, rights } => {
            said.set("runner.sandbox.mode", mode.as_str());
            said.set("runner.sandbox.rights", rights.join(" "));
            ("sandbox", said, None)
        }
        Note::OutOfMemory { killed } => {
            said.set("runner.killed", *killed);
            ("out_of_memory", said, None)
        }
        Note::PluginMissing(MissingPart { plugin, server, status }) => {
            said.set("runner.plugin.name", plugin.as_str());
            if let Some(server) = server {
                said.set("runner.plugin.server", server.as_str());
            }
            said.set("runner.plugin.status", status.as_str());
            ("plugin_missing", said, None)
        }
        Note::AnswerLost { effect, cause } => {
            said.set("cicd.pipeline.task.name", effect.to_string());
            said.set("runner.cause", cut(cause, super::CAUSE_LIMIT));
            ("answer_lost", said, None)
        }
        Note::Parked => ("parked", said, Some(Farewell::Parked)),
        Note::Undelivered => ("undelivered", said, Some(Farewell::Undelivered)),
    }
}

/// `cicd.pipeline.task.run.result`: a red check is a result, and the task goes on.
fn done(fact: &Fact) -> &'static str {
    match fact {
        Fact::Checked(run) if !run.was_run() => "skipped",
        Fact::Checked(run) if run.end == CommandEnd::TimedOut => "timeout",
        Fact::Checked(run) if !run.passed() => "failure",
        Fact::Checked(_)
        | Fact::Started { .. }
        | Fact::Data { .. }
        | Fact::Token(_)
        | Fact::Cloned(_)
        | Fact::SetUp(_)
        | Fact::AgentEnded(_)
        | Fact::HandedOver(_)
        | Fact::Pushed
        | Fact::PullRequest(_)
        | Fact::Reported { .. }
        | Fact::Archived(_) => "success",
    }
}

/// `cicd.pipeline.result`: `error` is the system's own trouble, `failure` that of the work.
fn result_of(failure: Failure) -> &'static str {
    match failure {
        Failure::AgentTimedOut | Failure::AgentIdle => "timeout",
        Failure::Interrupted => "cancellation",
        Failure::TaskDataInvalid
        | Failure::RefNotFound
        | Failure::AgentFailed
        | Failure::AgentBudgetExceeded
        | Failure::AgentTurnsExceeded
        | Failure::AgentOutOfMemory
        | Failure::SetupFailed
        | Failure::NoChanges
        | Failure::PolicyViolation
        | Failure::PushRejected
        | Failure::PushConflict
        | Failure::PrRefused => "failure",
        Failure::ApiUnreachable
        | Failure::TaskNotFound
        | Failure::TokenAlreadyIssued
        | Failure::TokenMintFailed
        | Failure::TokenAmbiguous
        | Failure::TokenLost
        | Failure::TokenExpired
        | Failure::CloneFailed
        | Failure::AgentMissing
        | Failure::AgentLost
        | Failure::CrashLoop
        | Failure::DiskFull
        | Failure::SandboxUnavailable
        | Failure::Internal => "error",
    }
}

fn trouble_name(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Unreachable => "unreachable",
        Trouble::MintFailed => "mint_failed",
        Trouble::Claimed => "claimed",
        Trouble::NoResult => "no_result",
        Trouble::NothingToGoOnIn => "nothing_to_go_on_in",
    }
}

fn ack_name(ack: Ack) -> &'static str {
    match ack {
        Ack::Accepted => "accepted",
        Ack::AlreadyNotified => "already_notified",
        Ack::CallbackPending => "callback_pending",
        Ack::TakenAsClaimed => "taken_as_claimed",
        Ack::NobodyLeft => "nobody_left",
        Ack::EndedElsewhere => "ended_elsewhere",
    }
}
