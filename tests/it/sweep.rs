//! The real binary killed by SIGKILL at every place that the enum names, and while every server has its request; started
//! again until it ends. In every case there is one verdict, acknowledged once, and nothing is done twice.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

use runner::crash::{CrashPoint, Inside, Write};
use runner::embedded::faults::{Endpoint, Fault, Times};
use runner::machine::EffectName;
use tokio::sync::Semaphore;

use crate::archive;
use crate::harness::{AGENT, Bench, CANARY, NEVER, Outside, files_with};

mod pairs;
mod random;

/// Where a task's archive goes, in its bench.
const ARCHIVE: &str = "archive";

/// What a task that was killed somewhere has to have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Completed,
    /// Its check stayed red.
    Draft,
    /// Its agent failed, and had changed something.
    Salvaged,
    /// The token was given, and is nowhere: said once, and honestly.
    TokenAmbiguous,
    /// Its agent was cut short as often as it may be started.
    AgentLost,
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_place_the_task_ends_once_and_nothing_is_done_twice() {
    // One place alone, to look into it: SWEEP_PLACE=after-intent-agent cargo test --test it sweep
    let only = std::env::var("SWEEP_PLACE").ok();
    let mut places = CrashPoint::all();
    places.retain(|place| only.as_ref().is_none_or(|only| *only == place.to_string()));
    assert!(!places.is_empty(), "{only:?} is no place");
    let count = places.len();
    // As many as there are cores would do; the runners mostly wait.
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
    // Each place was reached, or its sweep had failed.
    println!("proof: crash points: {count} places, {count} kills, 0 duplicated effects");
}

/// The same around the token where it is sealed under a key, and with a secrets directory that no restart outlives.
#[tokio::test(flavor = "multi_thread")]
async fn killed_around_a_token_that_is_sealed_under_a_key_the_task_ends_once() {
    let around = |place: &CrashPoint| match place {
        CrashPoint::Intent(_, effect) | CrashPoint::Outcome(_, effect) => *effect == EffectName::Token,
        CrashPoint::Inside(place) => matches!(
            place,
            Inside::TokenReceived | Inside::SealWritten | Inside::SealRenamed | Inside::AgentStarted
        ),
        CrashPoint::Write(..) => false,
    };
    let only = std::env::var("SWEEP_PLACE").ok();
    let chosen = |place: &CrashPoint| around(place) && only.as_ref().is_none_or(|only| *only == place.to_string());
    for place in CrashPoint::all().into_iter().filter(chosen) {
        let outside = Outside::start().await;
        let bench = Bench::new(&outside);
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&key, [b'k'; 32]).unwrap();
        let bench = bench.with("RUNNER_SEAL_KEY_FILE", key.path().to_str().unwrap());
        dies_at(place, &outside, &bench).await;
        std::fs::remove_dir_all(bench.path("secrets")).unwrap();
        is_over(place, &outside, &bench).await;
    }
}

/// The same from the agent on, where it fails after it has changed something: what it left is saved once.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_work_of_an_agent_that_failed_is_saved_the_task_ends_once() {
    killed_from_the_agent_on(Expected::Salvaged, |bench| {
        bench.with("RUNNER_AGENT_COMMAND", &format!("{AGENT}; exit 1"))
    })
    .await;
}

/// The same where the check is red, also after the agent was told of it.
#[tokio::test(flavor = "multi_thread")]
async fn killed_around_a_check_that_stays_red_the_task_ends_once() {
    killed_from_the_agent_on(Expected::Draft, |bench| {
        bench
            .with(
                "RUNNER_AGENT_COMMAND",
                "cat > /dev/null; echo run >> \"$HOME/runs\"; echo change > change.txt",
            )
            .with("RUNNER_CHECK_COMMAND", "exit 1")
    })
    .await;
}

async fn killed_from_the_agent_on(expected: Expected, set: impl Fn(Bench) -> Bench) {
    // A draft is pushed like any other pull request.
    let saved = expected == Expected::Salvaged;
    let reached = |place: &CrashPoint| match place {
        CrashPoint::Intent(_, effect) | CrashPoint::Outcome(_, effect) => match effect {
            EffectName::Agent | EffectName::Handover => true,
            EffectName::Check => !saved,
            EffectName::Push | EffectName::PullRequest | EffectName::Report => saved,
            EffectName::Start
            | EffectName::Data
            | EffectName::Token
            | EffectName::Clone
            | EffectName::Setup
            | EffectName::Archive => false,
        },
        CrashPoint::Write(_, write) => saved && *write == Write::Verdict,
        CrashPoint::Inside(place) => match place {
            Inside::AgentStarted | Inside::AgentDead => true,
            Inside::HandoverIndexed
            | Inside::HandoverPacked
            | Inside::HandoverSynced
            | Inside::HandoverNamed
            | Inside::PullRequestLooked => saved,
            Inside::ArchiveMade | Inside::ArchiveNamed => false,
            Inside::TokenReceived
            | Inside::SealWritten
            | Inside::SealRenamed
            | Inside::CloneFetched
            | Inside::CloneRenamed
            | Inside::TreeMoved
            | Inside::TreeReady => false,
        },
    };
    let only = std::env::var("SWEEP_PLACE").ok();
    let chosen = |place: &CrashPoint| reached(place) && only.as_ref().is_none_or(|only| *only == place.to_string());
    let room = Arc::new(Semaphore::new(4));
    let mut sweeps = tokio::task::JoinSet::new();
    for place in CrashPoint::all().into_iter().filter(chosen) {
        let room = Arc::clone(&room);
        let permit = room.acquire_owned().await.unwrap();
        let outside = Outside::start().await;
        let bench = set(Bench::new(&outside));
        sweeps.spawn(async move {
            dies_at(place, &outside, &bench).await;
            let code = bench.until_over(&outside).await;
            ended(&outside, &bench, expected, code, &place.to_string()).await;
            drop(permit);
        });
    }
    while let Some(done) = sweeps.join_next().await {
        done.unwrap();
    }
}

async fn killed_at(place: CrashPoint) {
    let outside = Outside::start().await;
    let bench = watched(&outside);
    dies_at(place, &outside, &bench).await;
    is_over(place, &outside, &bench).await;
}

/// A task that has every effect.
fn watched(outside: &Outside) -> Bench {
    let bench = Bench::new(outside);
    let archive = bench.path(ARCHIVE);
    std::fs::create_dir(&archive).unwrap();
    bench
        .with("RUNNER_ARCHIVE_URL", &format!("file://{}", archive.display()))
        .with("RUNNER_SETUP_COMMAND", "touch ../tmp/set-up")
        .with(
            "RUNNER_CHECK_COMMAND",
            "test -e ../tmp/set-up && grep -q change change.txt",
        )
}

async fn dies_at(place: CrashPoint, outside: &Outside, bench: &Bench) {
    let mut first = bench.start_to_crash_at(&place.to_string());
    first.assign(&outside.assignment()).await;
    let status = first.wait().await;
    assert_eq!(status.signal(), Some(9), "{place} was not reached: {}", first.log());
}

async fn is_over(place: CrashPoint, outside: &Outside, bench: &Bench) {
    let code = bench.until_over(outside).await;
    let expected = match place {
        CrashPoint::Inside(Inside::TokenReceived) => Expected::TokenAmbiguous,
        CrashPoint::Inside(_) | CrashPoint::Intent(..) | CrashPoint::Outcome(..) | CrashPoint::Write(..) => {
            Expected::Completed
        }
    };
    ended(outside, bench, expected, code, &place.to_string()).await;
}

pub(crate) async fn ended(outside: &Outside, bench: &Bench, expected: Expected, code: i32, place: &str) {
    if std::env::var_os("SWEEP_PLACE").is_some() {
        for row in bench.dump() {
            println!("{row}");
        }
    }
    let counts = outside.counts();
    let verdict = outside.verdict();
    let first = counts.verdicts_received.first();
    assert!(
        counts.verdicts_received.iter().all(|v| Some(v) == first),
        "{place}: two verdicts"
    );
    assert_eq!(counts.tokens_answered, 1, "{place}: the token is given once");
    let rows = bench.dump();
    let count = |kind: &str| rows.iter().filter(|row| row["kind"] == kind).count();
    assert_eq!((count("verdict"), count("ack")), (1, 1), "{place}");
    let holding = files_with(bench.dir.path(), CANARY);
    assert!(holding.is_empty(), "{place}: the token is on disk: {holding:?}");
    if bench.path(ARCHIVE).exists() {
        archive::is_there_and_whole(&bench.path(ARCHIVE), &verdict, place);
    }
    let commits = || {
        outside.remote(&[
            "rev-list",
            "--count",
            &format!("{}..runner/{}", outside.base, outside.task),
        ])
    };
    match expected {
        Expected::Completed | Expected::Draft | Expected::Salvaged => {
            let pulls = outside.forge.pulls();
            assert_eq!(pulls.len(), 1, "{place}");
            assert_eq!(pulls[0].draft, expected != Expected::Completed, "{place}");
            assert_eq!(verdict["details"]["prURL"], pulls[0].html_url, "{place}: {verdict}");
            if expected == Expected::Salvaged {
                assert_eq!(verdict["event"], "failed", "{place}: {verdict}");
                assert_eq!(verdict["details"]["reason"], "AgentFailed", "{place}: {verdict}");
                assert_eq!(verdict["details"]["outcome"], "salvaged", "{place}: {verdict}");
                // One after the acknowledgement finds nothing to do.
                assert!(matches!(code, 0 | 1), "{place}: {code}");
            } else {
                // The start that reported ends with 0; one after the acknowledgement finds nothing to do, which is 0 too.
                assert_eq!(
                    (verdict["event"].as_str(), code),
                    (Some("completed"), 0),
                    "{place}: {verdict}"
                );
            }
            assert_eq!(commits(), "1", "{place}");
            let change = outside.remote(&["show", &format!("runner/{}:change.txt", outside.task)]);
            assert_eq!(change, "change", "{place}: the change is there once");
            let most = if expected == Expected::Draft { 3 } else { 2 };
            assert!(
                (1..=most).contains(&bench.runs()),
                "{place}: the agent ran {} times",
                bench.runs()
            );
        }
        Expected::TokenAmbiguous => {
            assert_eq!(verdict["details"]["reason"], "TokenAmbiguous", "{place}");
            assert_eq!(outside.forge.pulls().len(), 0, "{place}");
            assert_eq!(outside.branch().await, None, "{place}");
            assert_eq!(bench.runs(), 0, "{place}: the agent is not paid");
        }
        Expected::AgentLost => {
            assert_eq!(verdict["details"]["reason"], "AgentLost", "{place}: {verdict}");
            assert!(matches!(code, 0 | 1), "{place}: {code}");
            assert!(bench.runs() <= 2, "{place}: the agent ran {} times", bench.runs());
            // What it had done is saved once, if it had done anything.
            assert!(outside.forge.pulls().len() <= 1, "{place}");
            if outside.branch().await.is_some() {
                assert_eq!(commits(), "1", "{place}");
            }
        }
    }
}

/// An agent without conversations begins anew when its runner died; the tree of its first start is half a change by then.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_an_old_tree_is_removed_nothing_of_it_has_its_name() {
    let outside = Outside::start().await;
    let bench = watched(&outside).with("RUNNER_AGENT_ATTEMPTS", "3");
    dies_at(CrashPoint::Inside(Inside::AgentStarted), &outside, &bench).await;
    std::fs::write(bench.path("workspace/repo/half"), "").unwrap();
    let place = CrashPoint::Inside(Inside::TreeMoved);
    dies_at(place, &outside, &bench).await;
    assert!(bench.path("workspace/repo.removed/half").exists());
    assert!(!bench.path("workspace/repo").exists());
    is_over(place, &outside, &bench).await;
    assert!(!bench.path("workspace/repo.removed").exists());
}

/// The process dies while a server has its request, and the server does the work all the same.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_server_works_the_task_ends_once() {
    for (endpoint, expected) in [
        (Endpoint::Started, Expected::Completed),
        (Endpoint::Data, Expected::Completed),
        (Endpoint::Token, Expected::TokenAmbiguous),
        (Endpoint::PullList, Expected::Completed),
        (Endpoint::PullCreate, Expected::Completed),
        (Endpoint::Verdict, Expected::Completed),
    ] {
        let outside = Outside::start().await;
        let bench = Bench::new(&outside);
        outside
            .faults
            .inject(endpoint, Fault::Delay(Duration::from_millis(300)), Times::Next(1));
        let mut first = bench.start();
        first.assign(&outside.assignment()).await;
        let log = match endpoint {
            Endpoint::PullList | Endpoint::PullCreate => outside.forge.call_log(),
            _ => outside.api.call_log(),
        };
        let asked = log.until(|| !log.of(endpoint).is_empty());
        tokio::time::timeout(NEVER, asked).await.unwrap();
        first.kill().await;
        if endpoint == Endpoint::Token {
            // The token counts as given before anyone asks again; else the second request would get it.
            let done = log.until(|| outside.counts().tokens_minted == 1);
            tokio::time::timeout(NEVER, done).await.unwrap();
        }
        let code = bench.until_over(&outside).await;
        if endpoint == Endpoint::Token {
            let reason = outside.verdict()["details"]["reason"].clone();
            assert_eq!((reason.as_str(), code), (Some("TokenAmbiguous"), 1));
        } else {
            ended(&outside, &bench, expected, code, &endpoint.to_string()).await;
        }
    }
}

/// The same for git: the push reaches the server, which updates the branch after the runner is dead.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_push_the_branch_is_there_once() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside);
    outside.faults.inject(
        Endpoint::GitPush,
        Fault::Delay(Duration::from_millis(300)),
        Times::Next(1),
    );
    let mut first = bench.start();
    first.assign(&outside.assignment()).await;
    assert!(first.line_with("push").await.is_some(), "{}", first.log());
    let begun = std::time::Instant::now();
    while outside.git.counts().pushes == 0 {
        assert!(begun.elapsed() < NEVER, "{}", first.log());
        tokio::task::yield_now().await;
    }
    first.kill().await;
    let code = bench.until_over(&outside).await;
    ended(&outside, &bench, Expected::Completed, code, "push").await;
}
