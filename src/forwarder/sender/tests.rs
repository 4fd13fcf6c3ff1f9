use super::super::Forwarder;
use super::super::tests::{details, forwarder, said};
use super::*;
use crate::adapters::hostile::client;

/// One that has nobody to send to: what it takes up is looked at.
fn sender(forwarder: &Forwarder, now: Instant) -> Sender {
    let base = "http://127.0.0.1:1".parse().unwrap();
    let api = TaskApi::new(client(), base, "my-task".parse().unwrap(), None);
    Sender::new(Arc::clone(&forwarder.0.shared), api, 1, now)
}

/// The message of what is told at that moment; none where nothing is.
fn told(sender: &mut Sender, now: Instant) -> Option<String> {
    sender.fill(now);
    let request = sender.progress.current.take()?;
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["details"]["state"], "Cloned");
    Some(body["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_sign_of_life_is_told_every_thirty_seconds_at_most_and_a_state_at_once() {
    let now = Instant::now();
    let after = |seconds| now + Duration::from_secs(seconds);
    let forwarder = forwarder();
    let mut sender = sender(&forwarder, now);
    let entered = |message: &str| forwarder.entered(message.to_owned(), details("Cloned"));

    entered("Cloned");
    assert_eq!(told(&mut sender, now).unwrap(), "Cloned");
    forwarder.activity(&said(&"first"));
    assert_eq!(told(&mut sender, after(1)), None);
    assert_eq!(sender.sign_at, Some(after(30)), "it wakes up for it");
    forwarder.activity(&said(&"second"));
    assert_eq!(told(&mut sender, after(29)), None);
    assert_eq!(told(&mut sender, after(30)).unwrap(), "second", "the newest");
    assert_eq!(
        told(&mut sender, after(500)),
        None,
        "nothing happened: there is no progress"
    );
    forwarder.activity(&said(&"third"));
    entered("Cloned: start 2 goes on from here");
    forwarder.activity(&said(&"fourth"));
    let state = "Cloned: start 2 goes on from here";
    assert_eq!(
        told(&mut sender, after(501)).unwrap(),
        state,
        "no activity takes its place"
    );
    assert_eq!(told(&mut sender, after(530)), None);
    forwarder.activity(&said(&"fifth"));
    assert_eq!(told(&mut sender, after(531)).unwrap(), "fifth");
}

#[tokio::test]
async fn a_sign_of_life_waits_behind_a_state_that_could_not_be_told() {
    let now = Instant::now();
    let later = now + BETWEEN_SIGNS * 2;
    let forwarder = forwarder();
    let mut sender = sender(&forwarder, now);
    forwarder.entered("Cloned".to_owned(), details("Cloned"));
    sender.fill(now);
    sender.progress.missed(Some(Duration::from_mins(5)), "key");
    forwarder.activity(&said(&"first"));
    sender.fill(later);
    let key = sender.progress.current.as_ref().unwrap().key.clone();
    assert_eq!(key, "my-task/progress/1000000001");
    assert_eq!(sender.sign_at, None, "it does not wake up in vain");
    // A newer state takes its place, but does not come any earlier.
    forwarder.entered("AgentRan".to_owned(), details("AgentRan"));
    sender.fill(later);
    let request = sender.progress.current.as_ref().unwrap();
    assert!(request.key.ends_with("/1000000002"), "{}", request.key);
    assert!(!sender.progress.is_due(later));
}

#[tokio::test]
async fn events_are_gathered_for_half_a_second_or_until_a_request_is_full() {
    let now = Instant::now();
    let forwarder = forwarder();
    let mut sender = sender(&forwarder, now);
    forwarder.activity(&said(&"one"));
    sender.fill(now);
    assert!(sender.events.current.is_none());
    assert_eq!(sender.gathered_at, Some(now + GATHERING));
    forwarder.activity(&said(&"two"));
    sender.fill(now + GATHERING);
    assert_eq!(sender.events.current.take().unwrap().events, 2);
    for number in 0..150 {
        forwarder.activity(&said(&number));
    }
    sender.fill(now + GATHERING);
    assert_eq!(sender.events.current.take().unwrap().events, 100);
    sender.fill(now + GATHERING);
    assert!(sender.events.current.is_none(), "the rest waits for more");
}
