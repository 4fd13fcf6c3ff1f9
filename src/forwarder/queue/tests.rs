use super::*;
use crate::adapters::agent::Activity;

fn said(number: usize) -> Event {
    Event::of(&Activity::Said(format!("said {number}")), 0)
}

fn called(number: usize) -> Event {
    let tool = Activity::Tool {
        name: "Bash".to_owned(),
        summary: format!("called {number}"),
        input: serde_json::Map::new(),
    };
    Event::of(&tool, 0)
}

fn drain(queue: &mut Queue) -> Vec<Taken> {
    std::iter::from_fn(|| queue.take_batch()).collect()
}

fn summaries(taken: &[Taken]) -> Vec<String> {
    let events = taken.iter().flat_map(|taken| &taken.events);
    events.map(|event| event.summary.clone()).collect()
}

#[test]
fn events_leave_in_the_order_in_which_they_came_a_hundred_at_a_time() {
    let mut queue = Queue::default();
    let mut expected = Vec::new();
    for number in 0..250 {
        let event = if number % 3 == 0 { said(number) } else { called(number) };
        expected.push(event.summary.clone());
        assert_eq!(queue.push(event), 0);
    }
    let taken = drain(&mut queue);
    let lengths: Vec<_> = taken.iter().map(|taken| (taken.events.len(), taken.dropped)).collect();
    assert_eq!(lengths, [(100, 0), (100, 0), (50, 0)]);
    assert_eq!(summaries(&taken), expected);
    assert_eq!((queue.len(), queue.bytes), (0, 0));
}

#[test]
fn the_oldest_thinking_goes_first_and_then_the_oldest_of_all_and_the_next_request_says_how_many() {
    let mut queue = Queue::default();
    for number in 0..QUEUE_EVENTS {
        // Two thoughts: the first and the last.
        let thought = number == 0 || number == QUEUE_EVENTS - 1;
        queue.push(if thought { said(number) } else { called(number) });
    }
    for number in 0..3 {
        assert_eq!(queue.push(called(QUEUE_EVENTS + number)), 1);
    }
    assert_eq!(queue.len(), QUEUE_EVENTS);
    let taken = drain(&mut queue);
    let left = summaries(&taken);
    assert!(
        left.iter().all(|summary| summary.starts_with("called")),
        "both thoughts went"
    );
    assert_eq!(left.first().unwrap(), "called 2", "then the oldest call");
    assert_eq!(left.last().unwrap(), &format!("called {}", QUEUE_EVENTS + 2));
    let dropped: Vec<u64> = taken.iter().map(|taken| taken.dropped).collect();
    assert_eq!((dropped[0], dropped.iter().sum::<u64>()), (3, 3), "told once");
}

#[test]
fn bytes_are_bounded_in_the_queue_and_in_a_request() {
    let mut queue = Queue::default();
    let long = Event::of(&Activity::Said("x".repeat(100_000)), 0);
    let mut dropped = 0;
    for _ in 0..50 {
        dropped += queue.push(long.clone());
    }
    assert!(
        queue.bytes <= QUEUE_BYTES && queue.bytes > QUEUE_BYTES - 200_000,
        "{}",
        queue.bytes
    );
    assert_eq!(dropped + queue.len() as u64, 50);
    assert!(queue.fills_a_batch());
    assert_eq!(queue.take_batch().unwrap().events.len(), 2);
    // One that is larger than a request may be is alone in its own.
    let mut queue = Queue::default();
    queue.push(Event::of(&Activity::Said("x".repeat(BATCH_BYTES + 1)), 0));
    queue.push(said(1));
    let lengths: Vec<_> = drain(&mut queue).iter().map(|taken| taken.events.len()).collect();
    assert_eq!(lengths, [1, 1]);
}
