//! The real binary killed by SIGKILL at every place of the second machine, and while GitHub has its request; started again
//! until it ends. In every case nothing is left registered, and no job is run twice.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

use runner::actions::crash::{ActionsCrash, Inside};
use runner::actions::machine::EffectName;
use runner::crash::Side;
use runner::embedded::faults::{Endpoint, Fault, Times};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{Bench, a_job};
use crate::harness::{Serving, until};

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_place_nothing_is_left_registered_and_no_job_is_run_twice() {
    // One place alone: SWEEP_PLACE=actions-after-intent-job cargo test --test it actions::sweep
    let only = std::env::var("SWEEP_PLACE").ok();
    if only.as_ref().is_some_and(|only| !only.starts_with("actions-")) {
        eprintln!("left out: SWEEP_PLACE names a place of a task");
        return;
    }
    let mut places = ActionsCrash::all();
    places.retain(|place| only.as_ref().is_none_or(|only| *only == place.to_string()));
    let count = places.len();
    assert!(count > 0, "{only:?} is no place");
    let room = Arc::new(Semaphore::new(4));
    let mut sweeps = tokio::task::JoinSet::new();
    for place in places {
        let room = Arc::clone(&room);
        sweeps.spawn(async move {
            let _permit = room.acquire_owned().await.unwrap();
            killed_at(place).await;
        });
    }
    while let Some(done) = sweeps.join_next().await {
        done.unwrap();
    }
    println!("proof: crash points of actions: {count} places, {count} kills, 0 registrations left, 0 jobs run twice");
}

async fn killed_at(place: ActionsCrash) {
    // What is looked at on the way stays until the runner is dead.
    let plans = match place {
        ActionsCrash::Inside(Inside::ListenerStarted) => json!([{"job": "true", "after": "never"}, {"job": "true"}]),
        ActionsCrash::Inside(Inside::JobBegun) => json!([{"job": "sleep 600", "keeps": true}]),
        ActionsCrash::Inside(Inside::JobCompleted) => json!([{"job": "true", "keeps": true, "linger": "never"}]),
        _ => json!([{"job": "true", "keeps": true}]),
    };
    let bench = Bench::new(&plans).await;
    let mut command = bench.command();
    command.env("RUNNER_CRASH_AT", place.to_string());
    let mut first = Serving::spawn(command);
    assert_eq!(
        first.wait().await.signal(),
        Some(9),
        "{place} was not reached: {}",
        first.log()
    );
    let (code, log) = until_over(&bench).await;
    assert!(
        bench.github.registered().is_empty(),
        "{place}: {:?}",
        bench.github.registered()
    );
    let jobs = bench.noted("jobs").len();
    let verdict = bench.verdict();
    let reason = verdict["details"]["reason"].as_str();
    if place == ActionsCrash::Inside(Inside::JobBegun) {
        assert_eq!((code, reason, jobs), (1, Some("JobLost"), 1), "{place}: {log}");
    } else {
        assert_eq!((code, reason, jobs), (0, None, 1), "{place}: {verdict}: {log}");
        assert_eq!(verdict["details"]["outcome"], "job", "{place}");
    }
    // What is lost with the process is made anew, and nothing else.
    let registrations = match place {
        ActionsCrash::Outcome(Side::Before | Side::After, EffectName::Register)
        | ActionsCrash::Intent(Side::Before | Side::After, EffectName::Job)
        | ActionsCrash::Inside(Inside::Registered | Inside::ListenerStarted) => 2,
        _ => 1,
    };
    assert_eq!(bench.github.names().len(), registrations, "{place}: {log}");
    assert!(bench.journal_command(&["verify"]).status.success(), "{place}");
}

/// Starts it until it is over; gives the exit code of the last start.
async fn until_over(bench: &Bench) -> (i32, String) {
    for _ in 0..10 {
        match bench.once().await {
            (Some(75), _) => {}
            (Some(code), log) => return (code, log),
            (None, log) => panic!("it was killed: {log}"),
        }
    }
    panic!("it is never over");
}

/// The process dies while GitHub has its request, which GitHub carries out all the same: later than anybody looks.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_github_works_nothing_is_left_registered() {
    for (endpoint, what) in [
        (Endpoint::RunnerRegister, "POST generate-jitconfig"),
        (Endpoint::RunnerRemove, "DELETE runner"),
    ] {
        let bench = Bench::new(&a_job()).await;
        bench
            .github
            .inject(endpoint, Fault::Delay(Duration::from_millis(400)), Times::Next(1));
        let mut first = bench.start();
        until(what, &first, || bench.github.asked_for(what) > 0).await;
        first.kill().await;
        let (code, log) = until_over(&bench).await;
        assert_eq!(code, 0, "{log}");
        assert!(
            bench.github.registered().is_empty(),
            "{what}: {:?}",
            bench.github.registered()
        );
        assert_eq!(bench.noted("jobs"), ["begun"], "{what}");
    }
}
