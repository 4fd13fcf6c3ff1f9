//! What rows count, without a process around them.

use std::collections::BTreeSet;

use runner_journal::Head;

use super::*;
use crate::adapters::agent::MicroUsd;
use crate::adapters::model::{Metered, Request, Tokens};
use crate::machine::{
    AgentReport, Assignment, Checkout, EffectName, Effort, Event, Fact, Failure, Finding, Left, Millis, Note, Outcome,
    Run, State, TokenFacts, Verdict, transition,
};
use crate::task::Task;

/// A history that is counted as it is written.
struct Life {
    run: Run,
    measure: Measure,
    metrics: Metrics,
    now: Millis,
}

impl Life {
    fn new(metrics: Metrics) -> Self {
        Self {
            run: Run::default(),
            measure: Measure::new(metrics.clone()),
            metrics,
            now: 1_000_000,
        }
    }

    /// The next process, on the same history.
    fn boots_again(self) -> Self {
        let mut next = Self {
            measure: Measure::new(Metrics::new()),
            metrics: Metrics::new(),
            ..self
        };
        next.measure = Measure::new(next.metrics.clone());
        next.now += 60_000;
        let at = next.now;
        next.write(&Event::Booted { at });
        next
    }

    fn write(&mut self, event: &Event) {
        self.run = transition(&self.run, event).unwrap();
        self.measure.recorded(&self.run, event, Head::EMPTY);
    }

    fn intend(&mut self, effect: EffectName) {
        let attempt = self.run.tally(effect).attempts + 1;
        let at = self.now;
        self.write(&Event::Intended {
            effect,
            attempt,
            session: None,
            at,
        });
    }

    fn end(&mut self, effect: EffectName, outcome: Outcome, after: Millis) {
        self.now += after;
        let attempt = self.run.tally(effect).attempts;
        let at = self.now;
        self.write(&Event::Ended {
            effect,
            attempt,
            outcome,
            at,
        });
    }

    /// The verdict that follows.
    fn concluded(&self) -> Event {
        let ending = self.run.ending.clone().unwrap();
        Event::Concluded {
            verdict: Arc::new(Verdict::compose(&self.run, &ending, "")),
            at: self.now,
        }
    }

    fn done(&mut self, effect: EffectName, fact: Fact) {
        self.intend(effect);
        self.end(effect, Outcome::Done { fact }, 2000);
    }

    fn lines(&self) -> BTreeSet<String> {
        self.metrics.encode().unwrap().lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn shows(&self, line: &str) {
        let lines = self.lines();
        assert!(lines.contains(line), "{line} is not in {lines:#?}");
    }
}

/// Up to the agent.
fn cloned(metrics: Metrics) -> Life {
    let mut life = Life::new(metrics);
    life.write(&Event::Booted { at: life.now });
    let assignment = Assignment {
        task_id: "t-1".parse().unwrap(),
        api_url: "http://127.0.0.1:1".parse().unwrap(),
        trace: None,
    };
    life.write(&Event::Assigned {
        assignment,
        at: life.now,
    });
    life.done(EffectName::Start, Fact::Started { told: true });
    life.done(EffectName::Data, Fact::Data { task: task() });
    let token = TokenFacts {
        sha256_prefix: "00000000".to_owned(),
        expires_at_ms: 1_000_000_000,
    };
    life.done(EffectName::Token, Fact::Token(token));
    let checkout = Checkout {
        base: "a".repeat(40).parse().unwrap(),
        base_branch: "main".parse().unwrap(),
        branch: "runner/t-1".parse().unwrap(),
    };
    life.done(EffectName::Clone, Fact::Cloned(checkout));
    assert!(matches!(life.run.state, Some(State::Cloned { .. })));
    life
}

fn task() -> Arc<Task> {
    let raw = serde_json::json!({"description": "d", "context": "c", "repo": {"url": "https://github.com/o/r"}});
    let raw = serde_json::to_vec(&raw).unwrap();
    let policy = crate::ids::RepoPolicy {
        plain_http: crate::ids::PlainHttp::LoopbackOnly,
        local: crate::ids::LocalRepos::Refused,
    };
    Arc::new(Task::parse(&raw, policy).unwrap())
}

fn effort(cost: u64) -> Effort {
    Effort {
        ran_ms: 1500,
        cost_micro_usd: Some(cost),
        turns: Some(2),
        input_tokens: Some(100),
        output_tokens: Some(10),
    }
}

fn agent_ended(cost: u64) -> Outcome {
    Outcome::Done {
        fact: Fact::AgentEnded(AgentReport {
            model: Some("claude-opus-4-5-20251101".to_owned()),
            effort: effort(cost),
            ..AgentReport::default()
        }),
    }
}

fn request(model: &str) -> Metered {
    Metered::Ended(Request {
        model: Some(model.to_owned()),
        tokens: Tokens {
            input: 70,
            cache_read: 7,
            ..Tokens::default()
        },
        cost_usd: 0.25,
        spent: MicroUsd::from_micros(250_000),
        said_all: true,
    })
}

fn listed() -> Arc<Prices> {
    Arc::new(Prices::load(None).unwrap())
}

#[test]
fn an_effect_is_counted_by_what_came_of_it_with_its_time() {
    let life = cloned(Metrics::new());
    life.shows("runner_effect_attempts_total{effect=\"clone\",result=\"done\"} 1");
    life.shows("runner_effect_duration_seconds_sum{effect=\"clone\",result=\"done\"} 2.0");
    life.shows("runner_effect_duration_seconds_bucket{le=\"1.0\",effect=\"clone\",result=\"done\"} 0");
    life.shows("runner_effect_duration_seconds_bucket{le=\"3.0\",effect=\"clone\",result=\"done\"} 1");
    life.shows("runner_state{state=\"Cloned\"} 1");
    life.shows("runner_state{state=\"TokenIssued\"} 0");
    life.shows("runner_state_entered_timestamp_seconds{state=\"Cloned\"} 1008.0");
    life.shows("runner_effect_open{effect=\"clone\"} 0");
}

#[test]
fn an_agent_that_nobody_meters_is_taken_at_its_word_once() {
    let mut life = cloned(Metrics::with(model::Account::by_hearsay(Some(listed()))));
    life.intend(EffectName::Agent);
    life.end(EffectName::Agent, agent_ended(250_000), 10);
    life.shows("runner_agent_starts_total 1");
    life.shows("runner_agent_turns_total 2");
    life.shows("runner_agent_run_seconds_total 1.5");
    life.shows("runner_agent_tokens_total{model=\"claude-opus-4-5\",type=\"input\"} 100");
    life.shows("runner_agent_cost_usd_total{model=\"claude-opus-4-5\"} 0.25");
    life.shows("runner_agent_spent_usd 0.25");
}

#[test]
fn what_the_proxy_counted_is_not_counted_again_as_the_agents_word() {
    let mut life = cloned(Metrics::with(model::Account::by_proxy(listed())));
    let watch = life.metrics.model_watch();
    life.intend(EffectName::Agent);
    watch(&Metered::Began);
    watch(&request("claude-opus-4-5-20251101"));
    life.shows("runner_agent_spent_usd 0.25");
    life.end(EffectName::Agent, agent_ended(300_000), 10);
    life.shows("runner_agent_tokens_total{model=\"claude-opus-4-5\",type=\"input\"} 70");
    life.shows("runner_agent_tokens_total{model=\"claude-opus-4-5\",type=\"cache_read\"} 7");
    life.shows("runner_agent_cost_usd_total{model=\"claude-opus-4-5\"} 0.25");
    // The journal's word is the last: it may know of requests that did not say what they used.
    life.shows("runner_agent_spent_usd 0.3");
    // One that comes late is counted, and is no more than the journal says.
    watch(&request("claude-opus-4-5-20251101"));
    life.shows("runner_agent_model_requests_total{model=\"claude-opus-4-5\",usage=\"known\"} 2");
    life.shows("runner_agent_spent_usd 0.3");
}

#[test]
fn an_agent_that_went_past_the_proxy_is_taken_at_its_word() {
    let mut life = cloned(Metrics::with(model::Account::by_proxy(listed())));
    life.intend(EffectName::Agent);
    life.end(EffectName::Agent, agent_ended(300_000), 10);
    life.shows("runner_agent_cost_usd_total{model=\"claude-opus-4-5\"} 0.3");
}

#[test]
fn what_a_killed_process_counted_is_not_counted_again_by_the_next_and_the_gauges_go_on() {
    let mut life = cloned(Metrics::new());
    life.intend(EffectName::Agent);
    life.end(
        EffectName::Agent,
        Outcome::Parked(Left {
            effort: effort(100_000),
            ..Left::default()
        }),
        10,
    );
    life.shows("runner_agent_cost_usd_total{model=\"other\"} 0.1");
    life.intend(EffectName::Agent);
    let mut life = life.boots_again();
    life.shows("runner_agent_turns_total 0");
    life.shows("runner_agent_spent_usd 0.1");
    life.shows("runner_boots 2");
    life.shows("runner_stalled_boots 1");
    life.shows("runner_effect_open{effect=\"agent\"} 1");
    life.shows("runner_state_entered_timestamp_seconds{state=\"Cloned\"} 1008.0");
    // What was found of the killed start is new to everybody.
    let left = Left {
        effort: effort(40_000),
        ..Left::default()
    };
    life.write(&Event::Probed {
        effect: EffectName::Agent,
        attempt: 2,
        finding: Finding::NotDone(left),
        at: life.now,
    });
    life.shows("runner_effect_attempts_total{effect=\"agent\",result=\"lost\"} 1");
    life.shows("runner_agent_turns_total 2");
    life.shows("runner_agent_cost_usd_total{model=\"other\"} 0.04");
    life.shows("runner_agent_spent_usd 0.14");
    let durations = life.lines();
    assert!(
        !durations
            .iter()
            .any(|line| line.contains("duration_seconds_count{effect=\"agent\"")),
        "how long it ran is not what passed until somebody looked"
    );
}

#[test]
fn a_verdict_that_nobody_was_told_of_has_its_time_in_a_later_process_too() {
    let mut life = cloned(Metrics::new());
    life.intend(EffectName::Agent);
    life.end(EffectName::Agent, Outcome::Superseded, 2_000);
    life.write(&life.concluded());
    let shown = "runner_verdict_timestamp_seconds{event=\"superseded\"} 1010.0";
    life.shows(shown);
    life.boots_again().shows(shown);
    // One that was frozen right before the process died: this start is the first that is known to have it.
    let mut life = cloned(Metrics::new());
    life.intend(EffectName::Agent);
    let failed = Outcome::Failed {
        failure: Failure::AgentMissing,
        cause: "it is not there".to_owned(),
        agent: None,
    };
    life.end(EffectName::Agent, failed, 2_000);
    life.write(&life.concluded());
    life.boots_again()
        .shows("runner_verdict_timestamp_seconds{event=\"failed\"} 1070.0");
}

#[test]
fn processes_that_the_kernel_killed_are_counted() {
    let mut life = cloned(Metrics::new());
    life.shows("runner_out_of_memory_kills_total 0");
    life.write(&Event::Noted {
        note: Note::OutOfMemory { killed: 3 },
        at: life.now,
    });
    life.shows("runner_out_of_memory_kills_total 3");
}

#[test]
fn a_name_from_outside_is_no_label() {
    let metrics = Metrics::with(model::Account::by_proxy(listed()));
    let watch = metrics.model_watch();
    for n in 0..100 {
        watch(&request(&format!("model-{n}")));
    }
    let text = metrics.encode().unwrap();
    assert!(
        text.contains("runner_agent_model_requests_total{model=\"other\",usage=\"known\"} 100"),
        "{text}"
    );
    assert!(!text.contains("model-1"), "{text}");
}

#[test]
fn what_is_declared_is_what_is_shown_with_its_type() {
    let life = cloned(Metrics::new());
    let shown = Exposition::read(&life.metrics.encode().unwrap()).unwrap();
    for family in &shown.families {
        let declared = life
            .metrics
            .declared()
            .iter()
            .find(|declared| declared.family == family.name);
        let declared = declared.unwrap_or_else(|| panic!("{} is not declared", family.name));
        assert_eq!(declared.kind, family.kind, "{}", family.name);
        assert_eq!(format!("{}.", declared.help), family.help);
    }
}

#[test]
fn every_name_is_in_base_units_and_says_what_it_is() {
    let metrics = Metrics::new();
    let mut seen = BTreeSet::new();
    for Declared { family, kind, help } in metrics.declared() {
        assert!(seen.insert(family), "{family} is there twice");
        assert!(family.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{family}");
        assert!(
            family.starts_with("runner_") || family.starts_with("process_"),
            "{family}"
        );
        for suffix in [
            "_total",
            "_info",
            "_count",
            "_sum",
            "_bucket",
            "_ms",
            "_milliseconds",
            "_cents",
        ] {
            assert!(!family.ends_with(suffix), "{family}");
        }
        if *kind == Kind::Histogram {
            assert!(family.ends_with("_seconds"), "{family}");
        }
        assert!(help.len() > 15 && !help.ends_with('.'), "{family}: {help}");
    }
    assert!(seen.len() > 30);
}

#[test]
fn the_table_in_the_docs_has_every_metric_and_no_other() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/observability.md")).unwrap();
    let section = docs
        .split("\n## Metrics\n")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<(String, String)> = rows
        .filter_map(|row| {
            let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
            Some((cells.next()?, cells.next()?))
        })
        .collect();
    let metrics = Metrics::new();
    let declared = metrics.declared().iter().map(|declared| {
        let suffix = match declared.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        let kind: &'static str = declared.kind.into();
        (format!("{}{suffix}", declared.family), kind.to_owned())
    });
    assert_eq!(documented, declared.collect(), "the docs, then what is declared");
}
