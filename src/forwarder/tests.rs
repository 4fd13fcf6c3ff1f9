use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::adapters::agent::ToolResult;
use crate::adapters::hostile::{client, nobody_there};
use crate::embedded::calls::Call;
use crate::embedded::faults::{Ending, Endpoint, Fault, Faults, Times};
use crate::embedded::task_api::{Mint, TaskApiServer};
use crate::ids::TaskId;
use crate::task::{TaskData, TaskRepo};
use queue::{BATCH_EVENTS, QUEUE_EVENTS};

/// Nobody waits for as long: what takes it has gone wrong.
const LONG: Duration = Duration::from_mins(2);
const FIRST: u64 = 1_000_000_001;

fn task() -> TaskId {
    "my-task".parse().unwrap()
}

/// A clock that goes on by a second each time it is looked at.
fn ticking() -> Clock {
    let now = AtomicI64::new(0);
    Arc::new(move || now.fetch_add(1000, Ordering::SeqCst))
}

pub(super) fn forwarder() -> Forwarder {
    Forwarder::new(ticking(), Metrics::new())
}

pub(super) fn said(text: &impl ToString) -> Activity {
    Activity::Said(text.to_string())
}

pub(super) fn details(state: &str) -> Map<String, Value> {
    Map::from_iter([("state".to_owned(), json!(state))])
}

struct World {
    faults: Faults,
    server: TaskApiServer,
    forwarder: Forwarder,
}

impl World {
    async fn without_task() -> Self {
        let faults = Faults::new();
        Self {
            server: TaskApiServer::start(faults.clone()).await.unwrap(),
            faults,
            forwarder: forwarder(),
        }
    }

    async fn new() -> Self {
        let world = Self::without_task().await;
        let data = TaskData {
            description: String::new(),
            context: String::new(),
            source_url: None,
            repo: TaskRepo {
                url: String::new(),
                git_ref: None,
            },
        };
        world.server.add_task(&task(), data, Mint::failing());
        world
    }

    fn api(&self) -> TaskApi {
        TaskApi::new(client(), self.server.api_url().clone(), task(), None)
    }

    fn start(&self) {
        self.forwarder.start(|| self.api(), 1);
    }

    fn says(&self, texts: impl IntoIterator<Item = u32>) {
        for text in texts {
            self.forwarder.activity(&said(&text));
        }
    }

    fn events(&self) -> Vec<Call> {
        self.server.calls(Endpoint::Events)
    }

    fn activities(&self) -> Vec<Value> {
        self.server.counts(&task()).activities
    }

    fn progress(&self) -> Vec<Value> {
        self.server.counts(&task()).progress
    }

    fn tally(&self) -> Tally {
        self.forwarder.shared().outbox().tally
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let met = self.server.call_log().until(|| condition(self));
        timeout(LONG, met).await.expect("it never came");
    }

    async fn answered(&self, events: usize) {
        let answered = |call: &Call| call.ending == Ending::Answered(200);
        self.until(|world| world.events().iter().filter(|call| answered(call)).count() == events)
            .await;
    }
}

fn keys(calls: &[Call]) -> Vec<&str> {
    calls.iter().map(|call| call.idempotency_key().unwrap()).collect()
}

fn field<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().map(|event| &event[name]).collect()
}

/// Whether the future has come to its end already.
async fn is_over(future: impl Future<Output = ()>) -> bool {
    timeout(Duration::ZERO, future).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_in_order_in_batches_one_request_at_a_time_with_progress_among_them() {
    let world = World::new().await;
    for endpoint in [Endpoint::Events, Endpoint::Progress] {
        world
            .faults
            .inject(endpoint, Fault::Delay(Duration::from_millis(30)), Times::Always);
    }
    world.says(0..250);
    world.forwarder.entered("Cloned".to_owned(), details("Cloned"));
    world.start();
    world.answered(2).await;
    world.forwarder.entered("AgentRan".to_owned(), details("AgentRan"));
    world.answered(3).await;
    world.forwarder.close(LONG).await;

    let told = world.activities();
    let numbers: Vec<u64> = field(&told, "sequence").iter().map(|n| n.as_u64().unwrap()).collect();
    assert_eq!(numbers, (FIRST..FIRST + 250).collect::<Vec<_>>());
    let summaries: Vec<String> = (0..250).map(|n| n.to_string()).collect();
    assert_eq!(
        field(&told, "summary"),
        summaries.iter().map(String::as_str).collect::<Vec<_>>()
    );
    assert_eq!(
        told[249]["timestamp"], "1970-01-01T00:04:09.000Z",
        "when it happened, not when it was sent"
    );
    assert_eq!(
        keys(&world.events()),
        [
            "my-task/events/1000000001",
            "my-task/events/1000000101",
            "my-task/events/1000000201"
        ]
    );
    assert_eq!(
        keys(&world.server.calls(Endpoint::Progress)),
        ["my-task/progress/1000000001", "my-task/progress/1000000002"]
    );
    assert_eq!(
        world.progress(),
        ["Cloned", "AgentRan"].map(|s| json!({"event": "progress", "message": s, "details": {"state": s}}))
    );
    assert_eq!(world.server.call_log().most_at_once(), 1);
    let tally = Tally {
        made: 250,
        sent: 250,
        dropped: 0,
    };
    assert_eq!(world.tally(), tally);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_million_activities_before_a_slow_api_stay_within_bounds_and_none_goes_uncounted() {
    const MADE: u32 = 500_000;
    let world = World::new().await;
    world
        .faults
        .inject(Endpoint::Events, Fault::Delay(Duration::from_secs(2)), Times::Always);
    world.start();
    let forwarder = world.forwarder.clone();
    let most = tokio::task::spawn_blocking(move || {
        let mut most = 0;
        for number in 0..MADE {
            let activity = if number % 2 == 0 {
                said(&number)
            } else {
                Activity::ToolEnded {
                    tool: None,
                    result: ToolResult::Succeeded,
                    summary: None,
                }
            };
            forwarder.activity(&activity);
            if number % 1000 == 0 {
                most = most.max(forwarder.shared().outbox().queue.len());
            }
        }
        most
    });
    assert!(most.await.unwrap() <= QUEUE_EVENTS);
    world.faults.clear(Endpoint::Events);
    world.forwarder.close(LONG).await;

    let told = world.activities();
    let admitted: u64 = told.iter().filter_map(|e| e["metadata"]["dropped"].as_u64()).sum();
    assert_eq!(
        told.len() as u64 + admitted,
        u64::from(MADE),
        "what was told and what is said to be dropped"
    );
    let Tally { made, sent, dropped } = world.tally();
    assert_eq!((made, sent, dropped), (u64::from(MADE), told.len() as u64, admitted));
    let metrics = world.forwarder.shared().metrics.encode().unwrap();
    for line in [
        format!("runner_events_total{{result=\"sent\"}} {sent}\n"),
        format!("runner_events_total{{result=\"dropped\"}} {dropped}\n"),
    ] {
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    assert!(world.events().iter().all(|call| call.body.len() < 300 * BATCH_EVENTS));
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_and_keys_rise_over_restarts() {
    let mut world = World::new().await;
    for boot in [1, 2, 10] {
        world.forwarder = forwarder();
        world.forwarder.start(|| world.api(), boot);
        world.says(0..2);
        world.forwarder.entered("Cloned".to_owned(), details("Cloned"));
        world.forwarder.close(LONG).await;
    }
    let expected: Vec<Value> = [1_u64, 2, 10]
        .into_iter()
        .flat_map(|boot| [json!(boot * 1_000_000_000 + 1), json!(boot * 1_000_000_000 + 2)])
        .collect();
    assert_eq!(
        field(&world.activities(), "sequence"),
        expected.iter().collect::<Vec<_>>()
    );
    assert_eq!(
        keys(&world.server.calls(Endpoint::Progress)),
        [
            "my-task/progress/1000000001",
            "my-task/progress/2000000001",
            "my-task/progress/10000000001"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_410_to_anything_is_seen_and_nothing_is_sent_after_it() {
    for endpoint in [Endpoint::Events, Endpoint::Progress] {
        let world = World::new().await;
        world.start();
        let ended = world.forwarder.ended_elsewhere();
        assert!(!is_over(world.forwarder.ended_elsewhere()).await, "not yet");
        world.server.end_elsewhere(&task());
        if endpoint == Endpoint::Events {
            world.says(0..1);
        } else {
            world.forwarder.entered("Cloned".to_owned(), details("Cloned"));
        }
        timeout(LONG, ended).await.unwrap();
        world.says(1..500);
        world.forwarder.entered("AgentRan".to_owned(), details("AgentRan"));
        world.forwarder.close(LONG).await;
        assert!(
            is_over(world.forwarder.ended_elsewhere()).await,
            "also for one who asks late"
        );
        assert_eq!(world.server.calls(endpoint).len(), 1);
        assert_eq!(world.server.call_log().all().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_404_ends_the_telling_and_nothing_else() {
    let world = World::without_task().await;
    world.start();
    world.says(0..3);
    world.until(|world| world.events().len() == 1).await;
    world.forwarder.close(LONG).await;
    world.says(3..500);
    assert!(
        !is_over(world.forwarder.ended_elsewhere()).await,
        "it is no reason to stop the agent"
    );
    assert_eq!(world.server.call_log().all().len(), 1);
    assert_eq!((world.tally().made, world.tally().dropped), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_told_again_is_told_in_the_same_bytes_and_key_while_newer_events_wait_behind() {
    let world = World::new().await;
    for fault in [Fault::Refuse, Fault::Status(503), Fault::Status(429), Fault::DropAfter] {
        world.faults.inject(Endpoint::Events, fault, Times::Next(1));
    }
    world.says(0..3);
    world.start();
    world.until(|world| !world.events().is_empty()).await;
    world.says(3..5);
    world.answered(2).await;
    world.forwarder.close(LONG).await;

    let calls = world.events();
    assert_eq!(calls.len(), 6);
    let (first, second) = calls.split_at(5);
    for call in first {
        assert_eq!(call.body, first[0].body);
        assert_eq!(call.idempotency_key(), Some("my-task/events/1000000001"));
    }
    assert_eq!(keys(second), ["my-task/events/1000000004"]);
    let told = world.activities();
    assert_eq!(field(&told, "summary"), ["0", "1", "2", "3", "4"]);
    assert_eq!(told[4]["sequence"], FIRST + 4);
    assert_eq!((world.tally().sent, world.tally().dropped), (5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_kept() {
    let world = World::new().await;
    let slowly = Fault::Answer {
        status: 503,
        error: "slowly".to_owned(),
        retry_after: Some(2),
    };
    world.faults.inject(Endpoint::Events, slowly, Times::Next(1));
    let began = Instant::now();
    world.says(0..1);
    world.start();
    world.answered(1).await;
    // Without it, the longest wait would be half a second to gather and half a second to the second try.
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_refused_is_dropped_and_the_next_one_says_so() {
    let world = World::new().await;
    world
        .faults
        .inject(Endpoint::Events, Fault::Status(400), Times::Next(1));
    world.says(0..100);
    world.start();
    world
        .until(|world| {
            world
                .events()
                .first()
                .is_some_and(|call| call.ending == Ending::Answered(400))
        })
        .await;
    world.says(100..103);
    world.forwarder.close(LONG).await;
    let told = world.activities();
    assert_eq!(field(&told, "summary"), ["100", "101", "102"]);
    assert_eq!(
        field(&told, "metadata"),
        [&json!({"dropped": 100}), &Value::Null, &Value::Null]
    );
    assert_eq!(told[0]["sequence"], FIRST + 100, "a sequence is never used again");
    assert_eq!(
        (world.tally().made, world.tally().sent, world.tally().dropped),
        (103, 3, 100)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_cannot_be_told_do_not_hold_up_progress() {
    let world = World::new().await;
    world.faults.inject(Endpoint::Events, Fault::Status(503), Times::Always);
    world.start();
    world.says(0..1);
    world.until(|world| !world.events().is_empty()).await;
    world.forwarder.entered("AgentRan".to_owned(), details("AgentRan"));
    world.until(|world| world.progress().len() == 1).await;
    assert_eq!(field(&world.progress(), "message"), ["AgentRan"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_states_entered_while_one_is_being_told_only_the_last_is_told() {
    let world = World::new().await;
    world
        .faults
        .inject(Endpoint::Progress, Fault::Delay(Duration::from_secs(1)), Times::Next(1));
    world.start();
    world.forwarder.entered("Started".to_owned(), details("Started"));
    world
        .until(|world| !world.server.calls(Endpoint::Progress).is_empty())
        .await;
    for state in ["DataFetched", "TokenIssued", "Cloned"] {
        world.forwarder.entered(state.to_owned(), details(state));
    }
    world.forwarder.close(LONG).await;
    assert_eq!(field(&world.progress(), "message"), ["Started", "Cloned"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_when_it_is_closed_is_told_and_nothing_after_that() {
    let world = World::new().await;
    world.start();
    world.says(0..150);
    world.forwarder.entered("PrOpened".to_owned(), details("PrOpened"));
    world.forwarder.close(LONG).await;
    assert_eq!((world.activities().len(), world.progress().len()), (150, 1));

    let verdict = br#"{"event":"completed","message":"","details":{}}"#;
    world.api().status(verdict, "k").await.unwrap();
    world.says(150..500);
    world.forwarder.entered("Reported".to_owned(), details("Reported"));
    world.forwarder.close(LONG).await;
    let calls = world.server.call_log().all();
    assert_eq!(calls.last().unwrap().endpoint, Endpoint::Verdict);
    assert_eq!(world.tally().made, 150, "what comes too late is not even taken in");
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_in_time_whatever_the_api_does() {
    // An API that is slow, one that is busy, one that is not there, and none yet.
    let slow = World::new().await;
    slow.faults.inject(Endpoint::Events, Fault::Delay(LONG), Times::Always);
    slow.start();
    let busy = World::new().await;
    busy.faults.inject(Endpoint::Events, Fault::Status(503), Times::Always);
    busy.start();
    let alone = World::new().await;
    let base = nobody_there().await.parse().unwrap();
    alone.forwarder.start(|| TaskApi::new(client(), base, task(), None), 1);
    let early = World::new().await;
    for world in [slow, busy, alone, early] {
        world.says(0..=100);
        timeout(LONG / 2, world.forwarder.close(Duration::from_secs(1)))
            .await
            .unwrap();
        let calls = world.server.call_log().all().len();
        assert!(world.forwarder.0.sending.lock().await.is_finished());
        // A start that comes too late starts nothing.
        world.start();
        assert_eq!((world.tally().sent, world.tally().dropped), (0, 101));
        assert_eq!(world.server.call_log().all().len(), calls);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_on_once_the_last_handle_is_dropped() {
    let world = World::new().await;
    world.faults.inject(Endpoint::Events, Fault::Delay(LONG), Times::Always);
    world.start();
    world.says(0..200);
    world.until(|world| !world.events().is_empty()).await;
    let shared = Arc::downgrade(&world.forwarder.0.shared);
    let observer = world.forwarder.observer();
    let World { server, forwarder, .. } = world;
    drop(forwarder);
    assert!(shared.upgrade().is_some(), "the observer has it still");
    drop(observer);
    let gone = async {
        while shared.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, gone).await.unwrap();
    assert_eq!(server.calls(Endpoint::Events).len(), 1);
}
