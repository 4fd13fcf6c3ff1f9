//! Killed twice: every ordered pair of places. What the first kill left, the second start goes on from until it dies as well.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use runner::crash::{CrashPoint, Inside};
use tokio::sync::Semaphore;

use super::{Expected, dies_at, ended, watched};
use crate::harness::{Bench, Outside, whole};

/// Of all pairs, every so manieth is tried outside of the whole proof: they then fall on first and second places alike, because
/// it divides no number of places.
const SAMPLE: usize = 199;
/// The runners wait for servers and processes most of the time.
const AT_ONCE: usize = 6;

#[derive(Default)]
struct Seen {
    pairs: AtomicUsize,
    second_places: AtomicUsize,
    agents_lost: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_place_and_then_at_any_other_the_task_ends_once_and_nothing_is_done_twice() {
    // One pair alone: SWEEP_PAIR=after-intent-agent,inside-agent_started cargo test --test it pairs
    let only = std::env::var("SWEEP_PAIR").ok();
    let places = CrashPoint::all();
    let all = places
        .iter()
        .flat_map(|first| places.iter().map(|second| (*first, *second)));
    let pairs: Vec<_> = match only {
        Some(only) => all
            .filter(|(first, second)| format!("{first},{second}") == only)
            .collect(),
        None if whole() => all.collect(),
        None => all.step_by(SAMPLE).collect(),
    };
    assert!(!pairs.is_empty(), "SWEEP_PAIR names no pair");
    let (count, seen) = (pairs.len(), Arc::new(Seen::default()));
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut sweeps = tokio::task::JoinSet::new();
    for (first, second) in pairs {
        let (room, seen) = (Arc::clone(&room), Arc::clone(&seen));
        sweeps.spawn(async move {
            let _permit = room.acquire_owned().await.unwrap();
            killed_at(first, second, &seen).await;
            let done = seen.pairs.fetch_add(1, Relaxed) + 1;
            if done.is_multiple_of(100) {
                eprintln!("{done} of {count} pairs");
            }
        });
    }
    while let Some(done) = sweeps.join_next().await {
        done.unwrap();
    }
    let [pairs, seconds, lost] = [&seen.pairs, &seen.second_places, &seen.agents_lost].map(|n| n.load(Relaxed));
    assert!(seconds > 0, "no second place was reached");
    println!(
        "proof: pairs of crash points: {pairs} pairs, {} kills, {seconds} second places reached, {lost} agents lost and said so, \
         0 duplicated effects",
        pairs + seconds
    );
}

async fn killed_at(first: CrashPoint, second: CrashPoint, seen: &Seen) {
    let name = format!("{first},{second}");
    let outside = Outside::start().await;
    let bench = watched(&outside);
    dies_at(first, &outside, &bench).await;
    let mut serving = bench.start_to_crash_at(&second.to_string());
    serving.assign(&outside.assignment()).await;
    let status = serving.wait().await;
    let reached = status.signal() == Some(9);
    let code = match status.code() {
        None if reached => bench.until_over(&outside).await,
        Some(code @ (0 | 1)) => code,
        Some(_) | None => panic!("{name}: ended with {status}: {}", serving.log()),
    };
    seen.second_places.fetch_add(reached.into(), Relaxed);
    let received = CrashPoint::Inside(Inside::TokenReceived);
    let expected = if first == received || (reached && second == received) {
        Expected::TokenAmbiguous
    } else if reached && cut_short(&bench) == 2 {
        seen.agents_lost.fetch_add(1, Relaxed);
        Expected::AgentLost
    } else {
        Expected::Completed
    };
    ended(&outside, &bench, expected, code, &name).await;
}

/// How many starts of the agent a later start of the runner found unfinished. Two are all that there are.
fn cut_short(bench: &Bench) -> usize {
    let probes = bench.rows("probe", Some("agent"));
    probes.iter().filter(|row| row["result"] == "not_done").count()
}
