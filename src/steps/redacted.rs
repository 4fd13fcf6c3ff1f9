//! What comes of an effect, without secrets: from here it goes into the journal, and from there everywhere else.
//!
//! The history in memory is the one that is written, so that a replay finds the same. The task's data stays as it came.

use crate::driver::{AnswerLost, Probe};
use crate::machine::{AgentReport, Archived, CommandRun, Cut, Fact, Handover, Outcome, PullRequest};
use crate::redact::Redactor;

pub(super) fn probe(redactor: &Redactor, found: Result<Probe, AnswerLost>) -> Result<Probe, AnswerLost> {
    match found {
        Ok(Probe::Ended(outcome)) => Ok(Probe::Ended(self::outcome(redactor, outcome))),
        Ok(not_done @ Probe::NotDone { .. }) => Ok(not_done),
        Err(answer) => Err(lost(redactor, answer)),
    }
}

pub(super) fn act(redactor: &Redactor, came: Result<Outcome, AnswerLost>) -> Result<Outcome, AnswerLost> {
    match came {
        Ok(outcome) => Ok(self::outcome(redactor, outcome)),
        Err(answer) => Err(lost(redactor, answer)),
    }
}

fn lost(redactor: &Redactor, answer: AnswerLost) -> AnswerLost {
    AnswerLost {
        cause: redactor.clean(answer.cause),
    }
}

fn outcome(redactor: &Redactor, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Done { fact } => Outcome::Done {
            fact: self::fact(redactor, fact),
        },
        Outcome::Retry {
            trouble,
            cause,
            after_ms,
            left,
        } => Outcome::Retry {
            trouble,
            cause: redactor.clean(cause),
            after_ms,
            left,
        },
        Outcome::Failed { failure, cause, agent } => Outcome::Failed {
            failure,
            cause: redactor.clean(cause),
            agent: agent.map(|said| report(redactor, said)),
        },
        Outcome::GivenUp { failure, cause } => Outcome::GivenUp {
            failure,
            cause: redactor.clean(cause),
        },
        Outcome::Missed { cause } => Outcome::Missed {
            cause: redactor.clean(cause),
        },
        Outcome::Superseded | Outcome::Parked(_) => outcome,
    }
}

fn fact(redactor: &Redactor, fact: Fact) -> Fact {
    match fact {
        Fact::SetUp(run) => Fact::SetUp(command(redactor, run)),
        Fact::AgentEnded(said) => Fact::AgentEnded(report(redactor, said)),
        Fact::Checked(run) => Fact::Checked(command(redactor, run)),
        Fact::HandedOver(handover) => Fact::HandedOver(Handover {
            cut: handover.cut.map(|cut| Cut {
                failure: cut.failure,
                cause: redactor.clean(cut.cause),
            }),
            ..handover
        }),
        Fact::PullRequest(PullRequest { number, url }) => Fact::PullRequest(PullRequest {
            number,
            url: redactor.clean(url),
        }),
        Fact::Archived(Archived {
            to,
            bytes,
            sha256,
            left_out,
        }) => Fact::Archived(Archived {
            to: redactor.clean(to),
            bytes,
            sha256,
            left_out: left_out.into_iter().map(|what| redactor.clean(what)).collect(),
        }),
        // The task is kept as it came; the others have no words of anybody else in them.
        Fact::Started { .. }
        | Fact::Data { .. }
        | Fact::Token(_)
        | Fact::Cloned(_)
        | Fact::Pushed
        | Fact::Reported { .. } => fact,
    }
}

fn command(redactor: &Redactor, run: CommandRun) -> CommandRun {
    CommandRun {
        output: redactor.clean(run.output),
        ..run
    }
}

fn report(redactor: &Redactor, said: AgentReport) -> AgentReport {
    let clean = |text: Option<String>| text.map(|text| redactor.clean(text));
    AgentReport {
        summary: clean(said.summary),
        session_id: clean(said.session_id),
        model: clean(said.model),
        // Names that were checked, and a status that was cleaned where it was read.
        missing_parts: said.missing_parts,
        effort: said.effort,
    }
}
