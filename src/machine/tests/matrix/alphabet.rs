//! The alphabet of the matrix: what is tried in every configuration.

use strum::IntoEnumIterator;

use super::super::super::*;
use super::super::oracle::{Changed, Op, Said};

/// Every event that can be tried anywhere, in the oracle's words.
pub(super) fn alphabet() -> Vec<Op> {
    const OF_AN_EFFECT: [fn(EffectName) -> Op; 12] = [
        Op::ProbeNotDone,
        Op::ProbeAnew,
        Op::ProbeDone,
        Op::Retry,
        Op::RetryAnew,
        Op::Fail,
        Op::Cut,
        Op::GiveUp,
        Op::Miss,
        Op::Supersede,
        Op::Park,
        Op::ParkAnew,
    ];
    let mut ops = vec![Op::Boot, Op::Note, Op::Assign];
    for effect in EffectName::iter() {
        ops.extend([0, -1, 1].map(|off| Op::Intend(effect, off)));
        ops.extend(OF_AN_EFFECT.map(|op| op(effect)));
        for of in EffectName::iter() {
            if (effect, of) == (EffectName::Handover, EffectName::Handover) {
                for said in [Said::Nothing, Said::Why] {
                    ops.extend([Changed::Yes, Changed::No].map(|changed| Op::HandOver(changed, said)));
                }
                continue;
            }
            ops.push(Op::Done(effect, of, Changed::Yes));
            if matches!(of, EffectName::Check | EffectName::Handover) {
                ops.push(Op::Done(effect, of, Changed::No));
            }
        }
    }
    ops.push(Op::FetchLocal);
    ops.extend(VerdictKind::iter().map(Op::Conclude));
    ops
}

/// The events that differ from one in nothing that legality or what follows may depend on, itself among them.
pub(super) fn likes_of(event: Event) -> Vec<Event> {
    let mut likes = Vec::new();
    match &event {
        Event::Noted { at, .. } => {
            let at = *at;
            likes.extend(notes().map(|note| Event::Noted { note, at }));
        }
        Event::Ended {
            effect,
            attempt,
            outcome,
            at,
        } => likes.extend(likes_of_outcome(outcome).into_iter().map(|outcome| Event::Ended {
            effect: *effect,
            attempt: *attempt,
            outcome,
            at: *at,
        })),
        _ => likes.push(event),
    }
    likes
}

fn likes_of_outcome(outcome: &Outcome) -> Vec<Outcome> {
    let done = |fact| Outcome::Done { fact };
    match outcome {
        Outcome::Retry { left, .. } => Trouble::iter()
            .map(|trouble| Outcome::Retry {
                trouble,
                cause: String::new(),
                after_ms: None,
                left: *left,
            })
            .collect(),
        Outcome::Done {
            fact: Fact::Reported { .. },
        } => Ack::iter().map(|ack| done(Fact::Reported { ack })).collect(),
        Outcome::Done {
            fact: Fact::Checked(check),
        } => {
            // One that could not be run says nothing that an agent could mend: as one that passed.
            let ends = if check.passed() {
                [CommandEnd::Exit(0), CommandEnd::Interrupted, CommandEnd::NotStarted]
            } else {
                [CommandEnd::Exit(1), CommandEnd::Signal(9), CommandEnd::TimedOut]
            };
            let ended_so = |end| CommandRun { end, ..check.clone() };
            ends.map(|end| done(Fact::Checked(ended_so(end)))).to_vec()
        }
        other => vec![other.clone()],
    }
}

fn notes() -> impl Iterator<Item = Note> {
    let sandbox = Note::Sandbox {
        mode: String::new(),
        rights: Vec::new(),
    };
    let lost = EffectName::iter().map(|effect| Note::AnswerLost {
        effect,
        cause: String::new(),
    });
    let others = [
        sandbox,
        Note::OutOfMemory { killed: 1 },
        Note::PluginMissing(MissingPart {
            plugin: String::new(),
            server: None,
            status: String::new(),
        }),
        Note::Parked,
        Note::Undelivered,
    ];
    others.into_iter().chain(lost)
}

/// The same of the attempts before and after, of which no intent is open.
pub(super) fn misnumbered(event: &Event) -> Vec<Event> {
    let by = |off: i32| {
        let mut event = event.clone();
        match &mut event {
            Event::Probed { attempt, .. } | Event::Ended { attempt, .. } => {
                *attempt = attempt.saturating_add_signed(off);
                Some(event)
            }
            _ => None,
        }
    };
    [-1, 1].into_iter().filter_map(by).collect()
}
