//! What was done that others can see, and what is not known of it.

use super::facts::Facts;
use crate::machine::{EffectName, Failure, State, VerdictKind};
use crate::telemetry::rfc3339;

pub(super) fn sentences(facts: &Facts<'_>) -> Vec<String> {
    if facts.run.assignment.is_none() {
        return Vec::new();
    }
    let mut said: Vec<String> = [token(facts), branch(facts), pull_request(facts)]
        .into_iter()
        .flatten()
        .collect();
    if !facts.is_pushed() && !may_be_pushed(facts) {
        let shown = if facts.findings.problems.is_empty() {
            "The journal shows no push and no pull request."
        } else {
            // Rows after what is missing are not followed, and may show both.
            "Of a push or a pull request, the rows before the damage show nothing; look at the rows after it."
        };
        said.push(shown.to_owned());
    }
    said
}

fn token(facts: &Facts<'_>) -> Option<String> {
    let token = match facts.reached()? {
        State::TokenIssued { token, .. } | State::Cloned { token, .. } => token,
        State::AgentRan(work) | State::Pushed(work) | State::PrOpened { work, .. } => &work.token,
        State::Assigned | State::Started | State::DataFetched { .. } | State::Reported => {
            let reason = facts.verdict().and_then(|verdict| verdict.reason);
            return match reason {
                Some(Failure::TokenAmbiguous) => {
                    Some("The task's one-time token was issued, and this runner never had it.".to_owned())
                }
                Some(Failure::TokenAlreadyIssued) => {
                    Some("The task's one-time token had gone to somebody else.".to_owned())
                }
                _ if facts.is_unknown(EffectName::Token) => Some(
                    "The task's one-time token may have been issued: what came of asking for it could not be found out."
                        .to_owned(),
                ),
                _ => None,
            };
        }
    };
    Some(format!(
        "The task's one-time token was issued (its SHA-256 begins with {}); it expires at {}.",
        facts.quote(&token.sha256_prefix, 16),
        rfc3339(token.expires_at_ms)
    ))
}

fn branch(facts: &Facts<'_>) -> Option<String> {
    let repository = facts.repository().unwrap_or_default();
    if let Some((branch, commit)) = facts.reached().and_then(State::pushed) {
        return Some(format!(
            "The branch {} of {repository} is at commit {:.12}.",
            facts.quote(&branch.to_string(), 200),
            commit.as_str()
        ));
    }
    let work = facts.work().filter(|_| may_be_pushed(facts))?;
    if facts.is_unknown(EffectName::Push) {
        return Some(format!(
            "The branch {} may have been pushed to {repository}: what came of the push could not be found out.",
            facts.quote(&work.checkout.branch.to_string(), 200)
        ));
    }
    Some(format!(
        "A push of the branch {} to {repository} was begun, and the journal does not show what came of it.",
        facts.quote(&work.checkout.branch.to_string(), 200)
    ))
}

/// Whether a push was begun whose end is not known.
fn may_be_pushed(facts: &Facts<'_>) -> bool {
    let is_open = facts.run.open.is_some_and(|open| open.effect == EffectName::Push);
    is_open || facts.is_unknown(EffectName::Push)
}

fn pull_request(facts: &Facts<'_>) -> Option<String> {
    match facts.reached()? {
        State::PrOpened { pull_request, .. } => Some(format!(
            "The pull request {} is there for it: {}",
            pull_request.number,
            facts.quote(&pull_request.url, 400)
        )),
        State::Pushed(_)
            if facts
                .run
                .open
                .is_some_and(|open| open.effect == EffectName::PullRequest) =>
        {
            Some("A pull request was asked for, and the journal does not show what came of it.".to_owned())
        }
        State::Pushed(_) if facts.is_unknown(EffectName::PullRequest) => {
            Some("A pull request may have been opened: what came of asking for it could not be found out.".to_owned())
        }
        State::Pushed(_)
            if facts
                .verdict()
                .is_some_and(|verdict| verdict.kind == VerdictKind::Completed) =>
        {
            Some("No pull request was opened: the remote has no forge.".to_owned())
        }
        State::Pushed(_) => Some("No pull request was opened.".to_owned()),
        State::Assigned
        | State::Started
        | State::DataFetched { .. }
        | State::TokenIssued { .. }
        | State::Cloned { .. }
        | State::AgentRan(_)
        | State::Reported => None,
    }
}
