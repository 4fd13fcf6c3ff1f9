//! An agent run to its end, with the real binary: what ends it, and that nothing it prints can hold it up.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its room has failed")]

use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use runner::adapters::agent::{
    Activity, AgentEnd, AgentKind, Bounds, EndedBy, Haste, Judgement, Order, Probe, RunError, Seen, probe, run,
};
use runner::process::{Exit, Input, Launch, Stopped};
use runner::redact::Redactor;
use runner::sandbox::Demand;
use tempfile::TempDir;

use crate::harness::transcript;

/// Long enough that a test which waits for it has failed.
const NEVER: Duration = Duration::from_mins(1);
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/claude");

struct Room(TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn launch(&self, script: &str) -> Launch {
        Launch {
            runner: env!("CARGO_BIN_EXE_runner").into(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            cwd: self.0.path().into(),
            env: vec![
                ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
                ("FIXTURES".into(), FIXTURES.into()),
            ],
            stdin: Input::Null,
            confinement: None,
            require: Demand::BestEffort,
            lock: self.path("agent.lock"),
            report: self.path("report.json"),
            grace: Duration::from_millis(100),
            set_aside: 0,
        }
    }

    async fn run(&self, kind: AgentKind, script: &str, bounds: Bounds) -> (AgentEnd<()>, Vec<Activity>) {
        let (end, seen) = self.watched(kind, script, bounds).await;
        let did = seen.into_iter().filter_map(|seen| match seen {
            Seen::Does(activity) => Some(activity),
            Seen::Turns(_) | Seen::Spent(_) => None,
        });
        (end, did.collect())
    }

    async fn watched(&self, kind: AgentKind, script: &str, bounds: Bounds) -> (AgentEnd<()>, Vec<Seen>) {
        let mut seen = Vec::new();
        let (launch, transcript) = (self.launch(script), self.path("transcript"));
        let end = run(
            kind,
            &launch,
            &transcript,
            bounds,
            pending(),
            |one| seen.push(one),
            Redactor::new(),
        );
        (end.await.unwrap(), seen)
    }

    fn probe(&self, kind: AgentKind) -> Probe {
        probe(
            kind,
            &self.path("transcript"),
            &self.path("report.json"),
            SystemTime::now(),
        )
        .unwrap()
    }
}

#[tokio::test]
async fn what_an_agent_prints_is_its_transcript_and_the_probe_finds_the_same_end() {
    let room = Room::new();
    let script = "cat \"$FIXTURES/success.jsonl\"; echo trouble >&2";
    let (end, seen) = room.watched(AgentKind::Claude, script, Bounds::new(NEVER)).await;
    assert_eq!(end.by, EndedBy::Itself);
    assert_eq!(end.stderr, "trouble\n");
    assert_eq!(
        transcript(&room.path("transcript")),
        fs::read_to_string(Path::new(FIXTURES).join("success.jsonl")).unwrap()
    );
    assert!(
        seen.iter()
            .any(|seen| matches!(seen, Seen::Does(Activity::Tool { name, .. }) if name == "Write")),
        "{seen:?}"
    );
    // Told until its result counts them, which is when this reads both at once.
    let mut turns = seen.iter().filter_map(|seen| match seen {
        Seen::Turns(turns) => Some(*turns),
        Seen::Does(_) | Seen::Spent(_) => None,
    });
    assert_eq!(turns.next_back(), end.judgement.report().turns, "{seen:?}");
    let Probe::Finished { judgement, ended } = room.probe(AgentKind::Claude) else {
        panic!("not finished");
    };
    assert_eq!((*judgement, ended), (end.judgement, end.ended));
}

#[tokio::test]
async fn an_agent_is_ended_by_its_time_out_and_by_silence() {
    let soon = Duration::from_millis(300);
    let room = Room::new();
    let (end, _) = room
        .run(
            AgentKind::Command,
            "while :; do echo x; sleep 0.02; done",
            Bounds::new(soon),
        )
        .await;
    assert_eq!((end.by, end.ended.stopped), (EndedBy::TimeOut, Stopped::Asked));

    let room = Room::new();
    let silent = Bounds {
        idle: Some(soon),
        ..Bounds::new(NEVER)
    };
    let (end, _) = room.run(AgentKind::Command, "echo x; exec sleep 60", silent).await;
    assert_eq!((end.by, end.ended.exit), (EndedBy::Idle, Exit::Signal(15)));
    assert!(matches!(room.probe(AgentKind::Command), Probe::NotFinished { .. }));
}

#[tokio::test]
async fn an_agent_that_does_not_go_after_its_result_is_ended_and_has_succeeded() {
    let room = Room::new();
    let bounds = Bounds {
        linger: Duration::from_millis(200),
        ..Bounds::new(NEVER)
    };
    let (end, _) = room
        .run(
            AgentKind::Claude,
            "cat \"$FIXTURES/success.jsonl\"; exec sleep 60",
            bounds,
        )
        .await;
    assert_eq!(end.by, EndedBy::LingeredAfterResult);
    assert!(matches!(end.judgement, Judgement::Succeeded(_)), "{:?}", end.judgement);
    assert!(matches!(room.probe(AgentKind::Claude), Probe::Finished { .. }));
}

#[tokio::test]
async fn an_agent_is_stopped_with_the_reason_that_was_given() {
    let room = Room::new();
    let (sender, stop) = tokio::sync::oneshot::channel();
    let mut sender = Some(sender);
    let script = r#"echo '{"type":"assistant","message":{"content":[{"type":"text","text":"hello"}]}}'; exec sleep 60"#;
    let (launch, transcript) = (room.launch(script), room.path("transcript"));
    let end = run(
        AgentKind::Claude,
        &launch,
        &transcript,
        Bounds::new(NEVER),
        async {
            let reason = stop.await.unwrap();
            let haste = Haste::InOrder;
            Order { reason, haste }
        },
        |_| {
            if let Some(sender) = sender.take() {
                sender.send("ended elsewhere").unwrap();
            }
        },
        Redactor::new(),
    );
    let end = end.await.unwrap();
    assert_eq!(end.by, EndedBy::Stop("ended elsewhere"));
    assert!(
        matches!(
            end.judgement,
            Judgement::NoResult {
                exit: Exit::Signal(15),
                ..
            }
        ),
        "{:?}",
        end.judgement
    );
}

#[tokio::test]
async fn an_agent_that_has_to_end_at_once_gets_no_grace_and_nothing_of_it_is_left() {
    let room = Room::new();
    let (ready, stop) = tokio::sync::oneshot::channel();
    let mut ready = Some(ready);
    let mut launch = room.launch(
        "trap 'echo bye' TERM; setsid sh -c 'echo $$ > daemon; exec sleep 60' & until [ -s daemon ]; do sleep 0.01; done; \
         echo '{\"type\":\"assistant\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"hello\"}]}}'; \
         while :; do sleep 0.01; done",
    );
    launch.grace = NEVER;
    let transcript = room.path("transcript");
    let end = run(
        AgentKind::Claude,
        &launch,
        &transcript,
        Bounds::new(NEVER),
        async {
            stop.await.unwrap();
            Order {
                reason: (),
                haste: Haste::AtOnce,
            }
        },
        |_| {
            if let Some(ready) = ready.take() {
                ready.send(()).unwrap();
            }
        },
        Redactor::new(),
    );
    let end = end.await.unwrap();
    assert_eq!((end.by, end.ended.exit), (EndedBy::Stop(()), Exit::Signal(9)));
    assert_eq!(end.ended.stopped, Stopped::Asked);
    let daemon = fs::read_to_string(room.path("daemon")).unwrap();
    assert!(!Path::new("/proc").join(daemon.trim()).exists());
    assert!(!crate::harness::transcript(&transcript).contains("bye"));
}

#[tokio::test]
async fn a_flood_on_both_outputs_holds_nothing_up() {
    let room = Room::new();
    let script =
        "head -c 20000000 /dev/zero >&2 & head -c 20000000 /dev/zero; wait; echo; echo last words >&2; echo done";
    let (end, _) = room.run(AgentKind::Command, script, Bounds::new(NEVER)).await;
    assert_eq!(end.by, EndedBy::Itself);
    assert!(end.stderr.ends_with("last words\n") && end.stderr.len() <= 8 * 1024);
    assert_eq!(transcript(&room.path("transcript")).len(), 20_000_006);
    assert_eq!(end.judgement.report().summary.as_deref(), Some("done"));
}

#[tokio::test]
async fn an_earlier_transcript_is_not_written_over_and_nothing_is_started() {
    let room = Room::new();
    fs::write(room.path("transcript"), "earlier").unwrap();
    let (launch, transcript) = (room.launch("echo started > started"), room.path("transcript"));
    let refused = run(
        AgentKind::Command,
        &launch,
        &transcript,
        Bounds::new(NEVER),
        pending::<Order<()>>(),
        |_| {},
        Redactor::new(),
    );
    assert!(matches!(refused.await, Err(RunError::TranscriptExists { .. })));
    assert_eq!(fs::read_to_string(room.path("transcript")).unwrap(), "earlier");
    assert!(!room.path("started").exists());
}
