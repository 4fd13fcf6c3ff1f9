use std::sync::Arc;

use runner_journal::Hash;
use serde_json::json;

use super::super::tests::forwarder;
use super::*;
use crate::machine::{Assignment, EffectName, Ending, Fact, Failure, Outcome, Verdict, transition};
use crate::task::sample;

#[tokio::test]
async fn each_state_between_the_assignment_and_the_verdict_is_told_once_and_a_new_start_too() {
    let assignment = Assignment {
        task_id: "my-task".parse().unwrap(),
        api_url: "http://127.0.0.1:1".parse().unwrap(),
        trace: None,
    };
    let intended = |effect| Event::Intended {
        effect,
        attempt: 1,
        session: None,
        at: 0,
    };
    let done = |effect, fact| Event::Ended {
        effect,
        attempt: 1,
        outcome: Outcome::Done { fact },
        at: 0,
    };
    let forwarder = forwarder();
    let mut observer = forwarder.observer();
    let mut run = Run::default();
    let mut seq = 0;
    let mut record = |event: Event| {
        run = transition(&run, &event).unwrap();
        seq += 1;
        let hash = Hash::ZERO;
        observer.recorded(&run, &event, Head { seq, hash });
        let mut outbox = forwarder.shared().outbox();
        let told = outbox.progress.take().map(|progress| progress.message);
        (told, Value::Object(outbox.details.clone()), run.clone())
    };
    let mut told = |event| record(event).0;

    assert_eq!(told(Event::Booted { at: 0 }), None);
    assert_eq!(told(Event::Assigned { assignment, at: 0 }), None, "the operator knows");
    assert_eq!(told(intended(EffectName::Start)), None);
    assert_eq!(
        told(done(EffectName::Start, Fact::Started { told: true })).unwrap(),
        "Started"
    );
    assert_eq!(told(intended(EffectName::Data)), None);
    let fetched = done(EffectName::Data, Fact::Data { task: sample() });
    assert_eq!(told(fetched).unwrap(), "DataFetched");
    let (message, details, _) = record(Event::Booted { at: 0 });
    assert_eq!(message, None, "the same observer: it has been told");
    assert_eq!(details, json!({"state": "DataFetched", "boot": 1, "seq": 6}));
    let (_, _, run) = record(Event::Booted { at: 0 });

    // A process that goes on with the journal has an observer that was told nothing.
    let mut fresh = forwarder.observer();
    let hash = Hash::ZERO;
    fresh.recorded(&run, &Event::Booted { at: 0 }, Head { seq: 8, hash });
    let mut outbox = forwarder.shared().outbox();
    assert_eq!(
        outbox.progress.take().unwrap().message,
        "DataFetched: start 3 goes on from here"
    );
    assert_eq!(outbox.details["boot"], 3);
    drop(outbox);

    let ending = Ending::Failed {
        failure: Failure::Interrupted,
        cause: String::new(),
        agent: None,
    };
    let verdict = Arc::new(Verdict::compose(&run, &ending, ""));
    let concluded = Event::Concluded { verdict, at: 0 };
    let run = transition(&run, &concluded).unwrap();
    let mut late = forwarder.observer();
    late.recorded(&run, &concluded, Head { seq: 9, hash });
    assert!(
        forwarder.shared().outbox().progress.is_none(),
        "from here on the verdict speaks"
    );
}
