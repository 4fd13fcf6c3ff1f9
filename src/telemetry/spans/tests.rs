use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use runner_journal::{Row, Snapshot};

use super::*;
use crate::machine::{Effort, Failure, Left, Next, transition};
use crate::record;

fn agent() -> AgentIdentity {
    AgentIdentity {
        name: "claude",
        provider: Some("anthropic"),
        model: Some("opus".to_owned()),
    }
}

fn frozen() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journals/v1")
}

/// The journals of whole runs.
const FROZEN: [&str; 7] = [
    "completed",
    "completed-after-two-crashes",
    "died-at-work",
    "red-check",
    "salvaged-after-a-time-out",
    "superseded",
    "token-ambiguous",
];

/// What the rows of a frozen journal are.
fn history(name: &str) -> Vec<(Run, Event, u64)> {
    let dir = tempfile::tempdir().unwrap();
    for file in ["journal.db", "journal.db-wal"] {
        if let Ok(packed) = std::fs::read(frozen().join(name).join(format!("{file}.zst"))) {
            std::fs::write(dir.path().join(file), zstd::decode_all(packed.as_slice()).unwrap()).unwrap();
        }
    }
    let snapshot = Snapshot::take(&dir.path().join("journal.db")).unwrap();
    let mut rows: Vec<Row> = Vec::new();
    snapshot.read(|row| rows.push(row)).unwrap();
    let mut run = Run::default();
    let mut events = Vec::new();
    for row in &rows {
        let event = record::step(&mut run, row, &mut |hash| snapshot.blob(hash).ok().flatten()).unwrap();
        events.extend(event.map(|event| (run.clone(), event, row.seq)));
    }
    events
}

/// A fold that goes on where a frozen journal ends.
struct Fold {
    spans: Spans,
    run: Run,
    seq: u64,
    finished: Vec<Span>,
}

impl Fold {
    fn of(name: &str) -> Self {
        let mut fold = Self {
            spans: Spans::new(agent()),
            run: Run::default(),
            seq: 0,
            finished: Vec::new(),
        };
        for (run, event, seq) in history(name) {
            fold.finished.extend(fold.spans.take(&run, &event, seq));
            (fold.run, fold.seq) = (run, seq);
        }
        fold
    }

    /// Goes on with this event, so many milliseconds after the last.
    fn then(&mut self, after: Millis, event: impl FnOnce(Millis) -> Event) -> &mut Self {
        let event = event(self.spans.last.at + after);
        self.run = transition(&self.run, &event).unwrap();
        self.seq += 1;
        self.finished.extend(self.spans.take(&self.run, &event, self.seq));
        self
    }

    fn span(&self, name: &str) -> &Span {
        let found: Vec<&Span> = self.finished.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name} of {:?}", self.finished);
        found[0]
    }
}

fn text(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| match value {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
    })
}

/// The spans as a tree: what is in what, from when to when, how it ended, and what it goes on from.
fn tree(spans: &[Span]) -> String {
    let names: BTreeMap<SpanId, String> = spans
        .iter()
        .map(|span| {
            let number = text(span, "runner.attempt").or_else(|| text(span, "runner.boot"));
            (span.id, format!("{} {}", span.name, number.unwrap_or_default()))
        })
        .collect();
    let began = spans.iter().map(|span| span.start).min().unwrap_or_default();
    let mut children: BTreeMap<Option<SpanId>, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        let parent = match span.parent {
            Parent::Own(id) => Some(id),
            Parent::None | Parent::Remote(_) => None,
        };
        children.entry(parent).or_default().push(span);
    }
    let mut lines = String::new();
    let mut left: Vec<(usize, &Span)> = Vec::new();
    let push = |left: &mut Vec<_>, depth, of: Option<SpanId>| {
        let mut of = children.get(&of).cloned().unwrap_or_default();
        of.sort_by_key(|span| std::cmp::Reverse((span.start, span.seq)));
        left.extend(of.into_iter().map(|span| (depth, span)));
    };
    push(&mut left, 0, None);
    while let Some((depth, span)) = left.pop() {
        let ended = text(span, "runner.outcome").or_else(|| text(span, "runner.farewell"));
        let ended = ended.or_else(|| text(span, "runner.verdict")).unwrap_or_default();
        let before: Vec<&str> = span.links.iter().map(|id| names[id].trim()).collect();
        let after = if before.is_empty() {
            String::new()
        } else {
            format!(" after {}", before.join(", "))
        };
        let error = if span.status == Status::Unset { "" } else { " (error)" };
        let _ = writeln!(
            lines,
            "{}{} {}–{} {ended}{error}{after}",
            "  ".repeat(depth),
            names[&span.id].trim(),
            span.start - began,
            span.end - began,
        );
        push(&mut left, depth + 1, Some(span.id));
    }
    lines
}

#[test]
fn two_crashes_are_three_boots_of_one_trace_and_every_attempt_is_where_it_was_made() {
    let mut fold = Fold::of("completed-after-two-crashes");
    fold.finished.extend(fold.spans.finish());
    assert_eq!(
        tree(&fold.finished),
        "\
RUN runner/task 0–1079 completed
  boot 1 0–47 none (error)
    start 1 2–34 done
    data 1 34–41 done
    token 1 41–47 done
    clone 1 47–47 lost (error)
  boot 2 251–861 none (error) after boot 1
    clone 2 264–454 done after clone 1
    setup 1 454–510 done
    invoke_agent claude 1 510–553 done
    check 1 553–570 done
    handover 1 570–861 done
    push 1 861–861 done
  boot 3 998–1079 done after boot 2
    pull_request 1 1044–1075 done
    report 1 1075–1079 done
"
    );
    let push = fold.span("push");
    assert_eq!(text(push, "runner.found_by_boot").as_deref(), Some("3"));
    let root = fold.span("RUN runner/task");
    for (name, value) in [
        ("cicd.pipeline.run.id", "t-1"),
        ("cicd.pipeline.result", "success"),
        ("vcs.repository.name", "r"),
        ("vcs.owner.name", "o"),
        ("vcs.ref.head.name", "runner/t-1"),
        ("vcs.ref.head.revision", "808ca1f7124dbcd995942cff72f5427f6013cbdc"),
        ("vcs.ref.base.revision", "e79dcc0e39d58e30659af5e968bd0bbf327a8d14"),
        ("vcs.change.id", "1"),
        ("runner.boots", "3"),
    ] {
        assert_eq!(text(root, name).as_deref(), Some(value), "{name}");
    }
    let states = root.occurrences.iter().filter(|o| o.name == "entered").count();
    assert_eq!(states, 9, "{:?}", root.occurrences);
}

#[test]
fn whatever_happened_there_is_one_trace_and_every_parent_is_in_it() {
    for name in FROZEN {
        let mut fold = Fold::of(name);
        if name == "died-at-work" {
            // As the start that goes on finds it.
            let found = Finding::NotDone(Left::default());
            fold.then(5_000, |at| Event::Booted { at });
            fold.then(10, |at| Event::Probed {
                effect: EffectName::Agent,
                attempt: 1,
                finding: found,
                at,
            });
        }
        fold.finished.extend(fold.spans.finish());
        let spans = &fold.finished;
        let ids: BTreeSet<SpanId> = spans.iter().map(|span| span.id).collect();
        assert_eq!(ids.len(), spans.len(), "{name}: a span twice");
        let trace = fold.spans.trace().unwrap();
        for span in spans {
            assert_eq!((span.trace, span.task), (trace.id(), trace.task()), "{name}");
            assert!(span.start <= span.end, "{name}: {span:?}");
            if let Parent::Own(parent) = span.parent {
                let still_open = name == "died-at-work" && (parent == trace.task() || parent == trace.boot(2));
                assert!(ids.contains(&parent) || still_open, "{name}: {span:?}");
            }
        }
        let roots = spans.iter().filter(|span| span.parent == Parent::None).count();
        assert_eq!(roots, usize::from(name != "died-at-work"), "{name}");
    }
}

#[test]
fn nothing_of_what_was_asked_or_said_is_in_a_span() {
    for name in FROZEN {
        let mut fold = Fold::of(name);
        fold.finished.extend(fold.spans.finish());
        let all = format!("{:?}", fold.finished);
        let task = history(name).into_iter().find_map(|(run, ..)| {
            let task = run.state.as_ref()?.task()?;
            Some((task.description.clone(), task.context.clone()))
        });
        let Some((description, context)) = task else { continue };
        for line in description.lines().chain(context.lines()).filter(|line| line.len() > 8) {
            assert!(!all.contains(line), "{name}: {line}");
        }
    }
}

#[test]
fn an_agent_that_died_with_its_runner_is_as_long_as_it_ran_and_so_is_its_boot() {
    let mut fold = Fold::of("died-at-work");
    let begun = fold.spans.last.at;
    let left = Left {
        effort: Effort {
            ran_ms: 60_000,
            cost_micro_usd: Some(250_000),
            turns: Some(3),
            input_tokens: Some(10),
            output_tokens: Some(20),
        },
        next: Next::GoOn,
    };
    fold.then(90_000, |at| Event::Booted { at });
    assert!(
        fold.finished.iter().all(|span| span.name != "boot"),
        "it may have lived on"
    );
    fold.then(2_000, |at| Event::Probed {
        effect: EffectName::Agent,
        attempt: 1,
        finding: Finding::NotDone(left),
        at,
    });
    let agent = fold.span("invoke_agent claude");
    assert_eq!((agent.start, agent.end), (begun, begun + 60_000));
    for (name, value) in [
        ("gen_ai.operation.name", "invoke_agent"),
        ("gen_ai.provider.name", "anthropic"),
        ("gen_ai.request.model", "opus"),
        ("gen_ai.usage.input_tokens", "10"),
        ("gen_ai.usage.output_tokens", "20"),
        ("runner.agent.turns", "3"),
        ("runner.agent.cost_usd", "0.25"),
        ("error.type", "lost"),
    ] {
        assert_eq!(text(agent, name).as_deref(), Some(value), "{name}");
    }
    assert!(matches!(agent.status, Status::Error(_)));
    let boot = fold.span("boot");
    assert_eq!(boot.end, begun + 60_000);
    assert_eq!(agent.parent, Parent::Own(boot.id));
    assert_eq!(text(boot, "error.type").as_deref(), Some("killed"));
}

#[test]
fn two_killed_starts_in_a_row_are_both_told_of_by_the_third() {
    let mut fold = Fold::of("died-at-work");
    fold.then(1_000, |at| Event::Booted { at });
    fold.then(1_000, |at| Event::Booted { at });
    fold.then(10, |at| Event::Probed {
        effect: EffectName::Agent,
        attempt: 1,
        finding: Finding::NotDone(Left::default()),
        at,
    });
    let boots: Vec<_> = fold
        .finished
        .iter()
        .filter(|span| span.name == "boot")
        .map(|span| text(span, "runner.boot").unwrap())
        .collect();
    assert_eq!(boots, ["1", "2"]);
}

#[test]
fn a_parked_start_ends_well_and_its_attempt_is_gone_on_with_by_a_linked_one() {
    let mut fold = Fold::of("died-at-work");
    fold.then(1_000, |at| Event::Ended {
        effect: EffectName::Agent,
        attempt: 1,
        outcome: Outcome::Parked(Left::default()),
        at,
    });
    fold.then(10, |at| Event::Noted { note: Note::Parked, at });
    let boot = fold.span("boot");
    assert_eq!(text(boot, "runner.farewell").as_deref(), Some("parked"));
    assert_eq!(boot.status, Status::Unset);
    let (parked, first) = (boot.id, fold.span("invoke_agent claude").id);
    assert_eq!(fold.spans.finish(), [], "its last word was a row");
    fold.finished.clear();
    fold.then(5_000, |at| Event::Booted { at });
    fold.then(10, |at| Event::Intended {
        effect: EffectName::Agent,
        attempt: 2,
        session: None,
        at,
    });
    fold.then(10, |at| Event::Ended {
        effect: EffectName::Agent,
        attempt: 2,
        outcome: Outcome::Failed {
            failure: Failure::AgentFailed,
            cause: "x".repeat(1_000),
            agent: None,
        },
        at,
    });
    let second = fold.span("invoke_agent claude");
    assert_eq!(second.links, [first]);
    assert_eq!(text(second, "error.type").as_deref(), Some("AgentFailed"));
    assert!(matches!(&second.status, Status::Error(cause) if cause.len() < 320));
    let trace = fold.spans.trace().unwrap().clone();
    assert_eq!(second.parent, Parent::Own(trace.boot(2)));
    assert_eq!(parked, trace.boot(1));
}

#[test]
fn what_happens_again_and_again_is_counted_and_not_kept() {
    let mut fold = Fold::of("died-at-work");
    for _ in 0..100 {
        let note = Note::OutOfMemory { killed: 1 };
        fold.then(1, |at| Event::Noted { note, at });
    }
    fold.then(1, |at| Event::Noted { note: Note::Parked, at });
    let boot = fold.span("boot");
    assert_eq!(boot.occurrences.len(), OCCURRENCES);
    // The sandbox's note, the hundred, and the last one.
    assert_eq!(boot.more_occurrences, 102 - 64);
}

#[test]
fn a_start_that_found_nothing_left_to_do_is_no_part_of_the_trace() {
    let mut fold = Fold::of("completed");
    let before = fold.finished.len();
    fold.then(60_000, |at| Event::Booted { at });
    // The boot that had done it all ended without a row of its own.
    assert_eq!(fold.finished.len(), before + 1);
    assert_eq!(text(fold.span("boot"), "runner.farewell").as_deref(), Some("done"));
    assert_eq!(fold.spans.finish(), []);
}

/// Where the grace runs out while it archives, the next start tells of it what it told itself.
#[test]
fn a_start_that_ended_while_it_archived_is_told_of_once_and_alike() {
    let archiving = || {
        let mut fold = Fold::of("completed");
        fold.finished.clear();
        fold.then(5, |at| Event::Intended {
            effect: EffectName::Archive,
            attempt: 1,
            session: None,
            at,
        });
        fold
    };
    let by_itself = archiving().spans.finish();
    assert_eq!(by_itself.len(), 1);
    assert_eq!(text(&by_itself[0], "runner.farewell").as_deref(), Some("done"));
    let mut next = archiving();
    next.then(60_000, |at| Event::Booted { at });
    next.then(10, |at| Event::Probed {
        effect: EffectName::Archive,
        attempt: 1,
        finding: Finding::NotDone(Left::default()),
        at,
    });
    assert_eq!(next.span("boot"), &by_itself[0]);
    let archive = next.span("archive");
    assert_eq!(archive.end, by_itself[0].end, "it was seen last when its start was");
}

#[test]
fn a_clock_that_jumps_back_makes_no_span_that_ends_before_it_began() {
    let mut fold = Fold::of("died-at-work");
    fold.then(-3_600_000, |at| Event::Ended {
        effect: EffectName::Agent,
        attempt: 1,
        outcome: Outcome::Superseded,
        at,
    });
    let agent = fold.span("invoke_agent claude");
    assert_eq!(agent.start, agent.end);
}
