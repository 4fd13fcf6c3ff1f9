//! An outside world that waits before each call for what is to become of it, counts what is done to it, and looks into the
//! journal before it does anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use runner_journal::{Entry, Finding as Found, Hash, Row};

use super::*;

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Good,
    /// The request is delivered twice; the runner hears the first answer.
    Twice,
    /// Nothing is done, and that is known.
    Refused,
    /// Nothing is done, and that is not known.
    LostBefore,
    /// It is done, and that is not known.
    LostAfter,
    /// The answer is lost, and it is done only after somebody has looked whether it was.
    LostLate,
    /// The runner dies in the middle: an agent lives on.
    DieInside,
    /// The runner dies when it is done.
    DieAfter,
    /// The task was ended elsewhere.
    Gone,
    /// The agent is cut short, the check is red.
    Bad,
    /// What the agent was to go on in is gone.
    NothingLeft,
}

/// What is outside and outlives every runner, and what was ever seen of the journal.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing outside that is there or is not"
)]
#[derive(Debug, Default)]
pub(super) struct Outside {
    pub(super) journal: PathBuf,
    /// The call that waits for its fate.
    pub(super) pending: Option<EffectName>,
    pub(super) fate: Option<Fate>,
    pub(super) dead: bool,
    pub(super) ended_elsewhere: bool,
    /// The runner was told that its agent was cut short.
    pub(super) cut: bool,
    /// Heads that were acknowledged: the rows must be there for ever.
    pub(super) acknowledged: Vec<Head>,
    pub(super) live: Option<Run>,
    pub(super) tokens_given: u32,
    sealed: bool,
    /// How often each effect changed something.
    pub(super) deeds: BTreeMap<EffectName, u32>,
    /// What was done by a request that nobody waited for any more: to do it again changes nothing.
    forgiven: BTreeSet<EffectName>,
    late: Vec<EffectName>,
    agent_lives: bool,
    agent_done: Option<u32>,
    pub(super) verdicts: BTreeSet<String>,
    keys: BTreeMap<EffectName, String>,
    /// Attempts that were answered, by an act or by a probe.
    answered: BTreeSet<(EffectName, u32)>,
}

/// The world as one runner has it in hand.
#[derive(Clone, Default)]
pub(super) struct Watched {
    pub(super) outside: Arc<Mutex<Outside>>,
    pub(super) asked: Arc<Notify>,
    pub(super) decided: Arc<Notify>,
}

/// Hears what was acknowledged.
pub(super) struct Witness(pub(super) Arc<Mutex<Outside>>);

impl Observe for Witness {
    fn recorded(&mut self, run: &Run, _event: &Event, head: Head) {
        let mut outside = self.0.lock().unwrap();
        if outside.acknowledged.last() != Some(&head) {
            outside.acknowledged.push(head);
        }
        outside.live = Some(run.clone());
    }
}

fn is_local(effect: EffectName) -> bool {
    matches!(
        effect,
        EffectName::Clone
            | EffectName::Setup
            | EffectName::Agent
            | EffectName::Check
            | EffectName::Handover
            // Sent again whatever became of it: no answer to it is lost.
            | EffectName::Archive
    )
}

impl Outside {
    /// Reads the journal as it is on disk, and holds it against everything that was ever seen.
    pub(super) fn read(&self) -> Vec<Row> {
        let snapshot = Snapshot::take(&self.journal).unwrap();
        let mut rows = Vec::new();
        let summary = snapshot.read(|row| rows.push(row)).unwrap();
        assert!(summary.whole(), "{:?}", summary.problems);
        self.hold_against(&rows);
        if let Some(live) = &self.live {
            let replayed = record::replay(&rows, |hash: &Hash| snapshot.blob(hash).unwrap()).unwrap();
            assert_eq!(replayed, *live, "a replay is not the history that was lived");
        }
        rows
    }

    /// Nothing acknowledged is lost, and nothing is believed that was not done.
    pub(super) fn hold_against(&self, rows: &[Row]) {
        for head in &self.acknowledged {
            let row = usize::try_from(head.seq).ok().and_then(|seq| rows.get(seq - 1));
            assert_eq!(row.map(|row| row.hash), Some(head.hash), "row {} is lost", head.seq);
        }
        for row in rows {
            if let Entry::Outcome {
                effect,
                attempt,
                finding,
                ..
            } = &row.entry
            {
                let effect: EffectName = effect.parse().unwrap();
                let answered = self.answered.contains(&(effect, *attempt));
                assert!(
                    answered || *finding == Found::Unknown,
                    "row {} has an outcome of {effect} {attempt}, of which nobody has heard",
                    row.seq
                );
            }
        }
    }

    /// Architecture invariant 1: nothing is done before its intent is on disk, and is still open there.
    fn intent_is_on_disk(&self, effect: EffectName, call: &Call) {
        let rows = self.read();
        let of_effects = rows.iter().rev().map(|row| &row.entry);
        let last = of_effects.into_iter().find(|entry| {
            matches!(
                entry,
                Entry::Intent { .. } | Entry::Probe { .. } | Entry::Outcome { .. }
            )
        });
        let intended = matches!(last, Some(Entry::Intent { effect: e, attempt, key, .. })
            if *e == effect.to_string() && *attempt == call.attempt && *key == call.key);
        assert!(
            intended,
            "{effect} {} is done, and the last word on disk is {last:?}",
            call.attempt
        );
    }

    fn arrives(&mut self, effect: &Effect, call: &Call) {
        let name = effect.name();
        self.intent_is_on_disk(name, call);
        let key = self.keys.entry(name).or_insert_with(|| call.key.clone());
        assert_eq!(*key, call.key, "another idempotency key");
        let told = self
            .live
            .as_ref()
            .is_some_and(|run| run.state_name() == Some(StateName::Reported));
        if name == EffectName::Archive {
            assert!(told, "the archive before the verdict is told");
        } else {
            assert!(!told, "{name} after all is over");
            assert!(
                self.verdicts.is_empty() || name == EffectName::Report,
                "{name} after a verdict was told"
            );
        }
        if name == EffectName::Agent {
            assert!(!self.agent_lives, "an agent is started beside another");
        }
        self.pending = Some(name);
    }

    fn deed(&mut self, effect: EffectName) {
        let before = self.deeds.get(&effect).copied().unwrap_or_default();
        let once = matches!(effect, EffectName::Push | EffectName::PullRequest);
        if before > 0 && once {
            assert!(self.forgiven.contains(&effect), "{effect} is done twice");
            return;
        }
        self.deeds.insert(effect, before + 1);
    }

    /// Does it. What is answered to a request that comes a second time is what the real other side answers.
    fn work(&mut self, effect: &Effect, attempt: u32) -> Outcome {
        let name = effect.name();
        match effect {
            Effect::Start { .. } => done(Fact::Started { told: true }),
            Effect::Data => done(Fact::Data { task: sample() }),
            Effect::Token { history } => {
                if self.tokens_given > 0 {
                    return failed(match history {
                        TokenHistory::NeverAsked => Failure::TokenAlreadyIssued,
                        TokenHistory::AnswerLost => Failure::TokenAmbiguous,
                        TokenHistory::MintFailed => Failure::TokenMintFailed,
                    });
                }
                self.tokens_given += 1;
                done(Fact::Token(token_facts()))
            }
            Effect::Clone { .. } => {
                self.deed(name);
                done(Fact::Cloned(checkout()))
            }
            Effect::Setup(_) => done(Fact::SetUp(exited(0))),
            Effect::Agent(_) => {
                self.deed(name);
                self.agent_done = Some(attempt);
                done(Fact::AgentEnded(AgentReport::default()))
            }
            Effect::Check(_) => done(Fact::Checked(exited(0))),
            Effect::Handover { cut, .. } => {
                self.deed(name);
                done(Fact::HandedOver(handover(cut.clone())))
            }
            Effect::Push { .. } => {
                self.deed(name);
                done(Fact::Pushed)
            }
            Effect::PullRequest { .. } => {
                self.deed(name);
                done(Fact::PullRequest(pull_request()))
            }
            Effect::Report { verdict, .. } => {
                let ack = if self.verdicts.insert(verdict.body.clone()) {
                    Ack::Accepted
                } else {
                    Ack::AlreadyNotified
                };
                assert_eq!(self.verdicts.len(), 1, "two verdicts");
                done(Fact::Reported { ack })
            }
            Effect::Archive { .. } => {
                self.deed(name);
                done(Fact::Archived(archived()))
            }
        }
    }

    fn look(&mut self, effect: &Effect, attempt: u32) -> Probe {
        let did = |name: EffectName| self.deeds.get(&name).copied().unwrap_or_default() > 0;
        let found = match effect {
            Effect::Archive {
                patience: ArchivePatience::LastTime,
                ..
            } => return Probe::Ended(missed()),
            Effect::Start { .. }
            | Effect::Data
            | Effect::Setup(_)
            | Effect::Check(_)
            | Effect::Report { .. }
            | Effect::Archive { .. } => None,
            Effect::Token { .. } => self.sealed.then(|| Fact::Token(token_facts())),
            Effect::Clone { .. } => did(EffectName::Clone).then(|| Fact::Cloned(checkout())),
            Effect::Agent(_) => (self.agent_done == Some(attempt)).then(|| Fact::AgentEnded(AgentReport::default())),
            Effect::Handover { cut, .. } => did(EffectName::Handover).then(|| Fact::HandedOver(handover(cut.clone()))),
            Effect::Push { .. } => did(EffectName::Push).then_some(Fact::Pushed),
            Effect::PullRequest { .. } => did(EffectName::PullRequest).then(|| Fact::PullRequest(pull_request())),
        };
        if matches!(effect, Effect::Agent(_)) {
            // Who looks for an agent ends what is left of it.
            self.agent_lives = false;
        }
        match found {
            Some(fact) => Probe::Ended(done(fact)),
            None => Probe::NotDone(Left::default()),
        }
    }

    fn land_what_is_late(&mut self, effect: &Effect, attempt: u32) {
        let name = effect.name();
        if let Some(at) = self.late.iter().position(|late| *late == name) {
            self.late.remove(at);
            self.forgiven.insert(name);
            self.work(effect, attempt);
        }
    }

    fn ended_badly(effect: &Effect) -> Option<Outcome> {
        match effect.name() {
            EffectName::Agent => Some(Outcome::Failed {
                failure: Failure::AgentTimedOut,
                cause: String::new(),
                agent: Some(AgentReport::default()),
            }),
            EffectName::Check => Some(done(Fact::Checked(exited(1)))),
            EffectName::Archive => Some(missed()),
            EffectName::Start
            | EffectName::Data
            | EffectName::Token
            | EffectName::Clone
            | EffectName::Setup
            | EffectName::Handover
            | EffectName::Push
            | EffectName::PullRequest
            | EffectName::Report => None,
        }
    }

    /// What an act comes to that is not simply done; none where it is.
    fn trouble(&mut self, effect: &Effect, fate: Fate) -> Option<Result<Outcome, AnswerLost>> {
        let name = effect.name();
        let told_or_not = matches!(
            effect,
            Effect::Start {
                patience: StartPatience::LastTime,
                ..
            }
        );
        let last_archive = matches!(
            effect,
            Effect::Archive {
                patience: ArchivePatience::LastTime,
                ..
            }
        );
        let answer = match fate {
            Fate::Refused | Fate::LostBefore | Fate::LostLate if last_archive => missed(),
            Fate::Refused | Fate::LostBefore | Fate::LostLate if told_or_not => done(Fact::Started { told: false }),
            Fate::LostBefore | Fate::LostLate if !is_local(name) => {
                if fate == Fate::LostLate {
                    self.late.push(name);
                }
                return Some(Err(lost()));
            }
            Fate::Refused | Fate::LostBefore | Fate::LostLate => retry(),
            Fate::Gone if name == EffectName::Report => done(Fact::Reported {
                ack: Ack::EndedElsewhere,
            }),
            Fate::Gone if matches!(name, EffectName::Start | EffectName::Data | EffectName::Token) => {
                self.ended_elsewhere = true;
                Outcome::Superseded
            }
            Fate::NothingLeft if name == EffectName::Agent => Outcome::Retry {
                trouble: Trouble::NothingToGoOnIn,
                cause: String::new(),
                after_ms: None,
                left: anew(),
            },
            Fate::Bad => {
                self.cut |= name == EffectName::Agent;
                Self::ended_badly(effect)?
            }
            Fate::Good
            | Fate::Twice
            | Fate::LostAfter
            | Fate::DieInside
            | Fate::DieAfter
            | Fate::Gone
            | Fate::NothingLeft => return None,
        };
        Some(Ok(answer))
    }
}

fn missed() -> Outcome {
    Outcome::Missed { cause: String::new() }
}

fn pull_request() -> PullRequest {
    PullRequest {
        number: 1,
        url: "http://127.0.0.1/1".to_owned(),
    }
}

impl Watched {
    async fn fate(&self) -> Fate {
        self.asked.notify_one();
        loop {
            let fate = self.outside.lock().unwrap().fate.take();
            if let Some(fate) = fate {
                self.outside.lock().unwrap().pending = None;
                return fate;
            }
            self.decided.notified().await;
        }
    }

    async fn die<T>(&self) -> T {
        self.outside.lock().unwrap().dead = true;
        self.asked.notify_one();
        std::future::pending().await
    }
}

impl Execute for Watched {
    async fn probe(&self, effect: &Effect, call: &Call) -> Result<Probe, AnswerLost> {
        self.outside.lock().unwrap().pending = Some(effect.name());
        let fate = self.fate().await;
        if matches!(fate, Fate::DieInside | Fate::DieAfter) {
            return self.die().await;
        }
        let mut outside = self.outside.lock().unwrap();
        if matches!(
            fate,
            Fate::Refused | Fate::LostBefore | Fate::LostAfter | Fate::LostLate
        ) {
            return Err(lost());
        }
        let found = outside.look(effect, call.attempt);
        outside.land_what_is_late(effect, call.attempt);
        outside.answered.insert((effect.name(), call.attempt));
        Ok(match found {
            Probe::NotDone(_) if fate == Fate::NothingLeft && effect.name() == EffectName::Agent => {
                Probe::NotDone(anew())
            }
            found @ (Probe::NotDone(_) | Probe::Ended(_)) => found,
        })
    }

    async fn act(&self, effect: &Effect, call: &Call) -> Result<Outcome, AnswerLost> {
        let name = effect.name();
        self.outside.lock().unwrap().arrives(effect, call);
        let fate = self.fate().await;
        if fate == Fate::DieInside {
            self.outside.lock().unwrap().agent_lives = name == EffectName::Agent;
            return self.die().await;
        }
        let answer = {
            let mut outside = self.outside.lock().unwrap();
            if let Some(answer) = outside.trouble(effect, fate) {
                answer
            } else {
                let outcome = outside.work(effect, call.attempt);
                if fate == Fate::Twice && !is_local(name) {
                    outside.forgiven.insert(name);
                    outside.work(effect, call.attempt);
                }
                Ok(outcome)
            }
        };
        if fate == Fate::DieAfter {
            return self.die().await;
        }
        if fate == Fate::LostAfter && !is_local(name) {
            return Err(lost());
        }
        let mut outside = self.outside.lock().unwrap();
        if matches!(&answer, Ok(Outcome::Done { fact: Fact::Token(_) })) {
            outside.sealed = true;
        }
        if answer.is_ok() {
            outside.answered.insert((name, call.attempt));
        }
        answer
    }

    fn notes(&self) -> Vec<Note> {
        Vec::new()
    }
}
