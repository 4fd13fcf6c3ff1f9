//! The real binary while the world around it fails: every way in which a task can end, and that it ends so once.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::signal::Signal;
use runner::embedded::faults::{Endpoint, Fault, Times};
use runner::embedded::task_api::{Counts, Mint};
use runner::secret::Secret;
use runner::task::TaskData;
use serde_json::json;

use crate::harness::{Bench, CANARY, Outside, WAITING_AGENT, data, until};

/// One world, one runner, one task that has gone wrong in one way.
struct Trial {
    outside: Outside,
    bench: Bench,
}

impl Trial {
    async fn new() -> Self {
        let outside = Outside::start().await;
        let bench = Bench::new(&outside);
        Self { outside, bench }
    }

    async fn with(settings: &[(&str, &str)]) -> Self {
        let mut trial = Self::new().await;
        for (name, value) in settings {
            trial.bench = trial.bench.with(name, value);
        }
        trial
    }

    async fn faulty(faults: &[(Endpoint, Fault, Times)]) -> Self {
        let trial = Self::new().await;
        for (endpoint, fault, times) in faults {
            trial.outside.faults.inject(*endpoint, fault.clone(), *times);
        }
        trial
    }

    /// Runs one start to its end, which has this exit code.
    async fn ends_with(&self, code: i32) -> String {
        let (ended, log) = self.bench.once(&self.outside).await;
        assert_eq!(ended, Some(code), "{log}");
        log
    }

    fn counts(&self) -> Counts {
        self.outside.counts()
    }

    /// The one failure that was told, in the contract's words; gives its message.
    fn failed(&self, reason: &str) -> String {
        let verdict = self.outside.verdict();
        assert_eq!(verdict["event"], "failed", "{verdict}");
        assert_eq!(verdict["details"]["reason"], reason, "{verdict}");
        assert_eq!(verdict["details"]["error"], verdict["message"]);
        self.one_verdict();
        verdict["message"].as_str().unwrap().to_owned()
    }

    /// The task completed, with one of everything.
    async fn completed(&self) {
        let verdict = self.outside.verdict();
        assert_eq!(verdict["event"], "completed", "{verdict}");
        assert_eq!(verdict["details"]["outcome"], "pull_request");
        self.one_verdict();
        assert_eq!(self.counts().tokens_minted, 1);
        assert_eq!(self.outside.forge.pulls().len(), 1);
        let head = self.outside.branch().await.expect("the branch");
        assert_eq!(verdict["details"]["commit"], head.as_str());
        let range = format!("{}..{head}", self.outside.base);
        assert_eq!(self.outside.remote(&["rev-list", "--count", &range]), "1");
    }

    /// One verdict in the journal, and whatever was sent of it were the same bytes under the same key.
    fn one_verdict(&self) {
        let received = self.counts().verdicts_received;
        assert!(received.windows(2).all(|pair| pair[0] == pair[1]), "two verdicts");
        let calls = self.outside.api.calls(Endpoint::Verdict);
        assert!(calls.iter().all(|call| call.idempotency_key() == Some("t-1/report/1")));
        assert_eq!(self.bench.rows("verdict", None).len(), 1);
        assert_eq!(self.bench.rows("ack", None).len(), 1);
    }

    /// Nothing was paid for, and nothing is there.
    fn nothing_was_run(&self) {
        assert_eq!(self.bench.runs(), 0, "the agent ran");
        assert_eq!(self.outside.forge.pulls().len(), 0);
        assert_eq!(self.outside.git.counts().pushes, 0);
    }

    fn asked(&self, endpoint: Endpoint) -> usize {
        self.outside.api.calls(endpoint).len()
    }
}

fn once(endpoint: Endpoint, fault: Fault) -> [(Endpoint, Fault, Times); 1] {
    [(endpoint, fault, Times::Next(1))]
}

fn says(status: u16, error: &str) -> Fault {
    Fault::Answer {
        status,
        error: error.to_owned(),
        retry_after: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_answer_is_lost_is_ambiguous_once_and_nothing_is_run() {
    let trial = Trial::faulty(&once(Endpoint::Token, Fault::DropAfter)).await;
    trial.ends_with(1).await;
    trial.failed("TokenAmbiguous");
    trial.nothing_was_run();
    assert_eq!((trial.counts().tokens_minted, trial.counts().tokens_answered), (1, 0));
    assert_eq!(trial.asked(Endpoint::Token), 2, "the server is the arbiter");
    assert_eq!(trial.counts().verdicts_received.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_push_pull_request_or_status_is_found_and_nothing_is_done_twice() {
    for endpoint in [
        Endpoint::GitPush,
        Endpoint::PullCreate,
        Endpoint::Verdict,
        Endpoint::Started,
    ] {
        let trial = Trial::faulty(&once(endpoint, Fault::DropAfter)).await;
        trial.ends_with(0).await;
        trial.completed().await;
        assert_eq!(trial.outside.forge.calls(Endpoint::PullCreate).len(), 1, "{endpoint}");
        // git's own client sends a push again where the line was cut; the lease keeps the second one from doing anything.
        let pushes = trial.outside.git.counts().pushes;
        assert!(
            pushes == 1 || (endpoint == Endpoint::GitPush && pushes == 2),
            "{endpoint}: {pushes}"
        );
        assert_eq!(trial.bench.rows("outcome", Some("push")).len(), 1, "{endpoint}");
        let sent = trial.counts().verdicts_received.len();
        assert_eq!(sent, if endpoint == Endpoint::Verdict { 2 } else { 1 }, "{endpoint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_could_not_be_minted_is_not_called_lost() {
    let trial = Trial::new().await;
    trial
        .outside
        .api
        .add_task(&trial.outside.task, data(&trial.outside.git), Mint::failing());
    trial.ends_with(1).await;
    trial.failed("TokenMintFailed");
    trial.nothing_was_run();
    assert_eq!(trial.asked(Endpoint::Token), 2);

    let trial = Trial::faulty(&once(Endpoint::Token, says(409, "token already issued"))).await;
    trial.ends_with(1).await;
    trial.failed("TokenAlreadyIssued");
    trial.nothing_was_run();
    assert_eq!(trial.asked(Endpoint::Token), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_pass_are_waited_for_wherever_they_come() {
    use strum::IntoEnumIterator;
    let everywhere: Vec<_> = Endpoint::iter()
        .map(|e| (e, Fault::Status(503), Times::Next(2)))
        .collect();
    let trial = Trial::faulty(&everywhere).await;
    trial.ends_with(0).await;
    trial.completed().await;
    for endpoint in [Endpoint::Started, Endpoint::Data, Endpoint::Token, Endpoint::Verdict] {
        let calls = trial.outside.api.calls(endpoint);
        assert_eq!(calls.len(), 3, "{endpoint}");
        let keys: Vec<_> = calls.iter().map(|call| call.idempotency_key()).collect();
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "{endpoint}: {keys:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_concurrent_update_of_the_token_is_asked_again_and_retry_after_is_kept() {
    let trial = Trial::faulty(&[
        (
            Endpoint::Token,
            says(409, "concurrent update conflict, retry"),
            Times::Next(2),
        ),
        (
            Endpoint::Data,
            Fault::Answer {
                status: 429,
                error: "slowly".to_owned(),
                retry_after: Some(2),
            },
            Times::Next(1),
        ),
    ])
    .await;
    trial.ends_with(0).await;
    trial.completed().await;
    assert_eq!((trial.asked(Endpoint::Token), trial.asked(Endpoint::Data)), (3, 2));
    let time = |row: &serde_json::Value| row["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let refused = &trial.bench.rows("outcome", Some("data"))[0];
    assert_eq!(refused["body"]["after_ms"], 2000, "{refused}");
    let again = &trial.bench.rows("intent", Some("data"))[1];
    let waited = time(again).duration_since(time(refused));
    assert!(waited.as_millis() >= 2000, "{waited}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_cannot_be_delivered_is_delivered_by_a_later_start_in_the_same_bytes() {
    for (agent, code, event) in [
        (crate::harness::AGENT, 0, "completed"),
        ("echo no >&2; exit 1", 1, "failed"),
    ] {
        let trial = Trial::with(&[("RUNNER_API_PATIENCE", "4s"), ("RUNNER_AGENT_COMMAND", agent)]).await;
        trial
            .outside
            .faults
            .inject(Endpoint::Verdict, Fault::Refuse, Times::Always);
        trial.ends_with(75).await;
        assert_eq!(trial.counts().verdict, None);
        let tried = trial.asked(Endpoint::Verdict);
        assert!(tried >= 2, "{tried}");
        trial.ends_with(75).await;
        trial.outside.faults.clear(Endpoint::Verdict);
        let log = trial.ends_with(code).await;
        assert_eq!(trial.outside.verdict()["event"], event, "{log}");
        let calls = trial.outside.api.calls(Endpoint::Verdict);
        assert!(calls.windows(2).all(|pair| pair[0].body == pair[1].body), "other bytes");
        assert_eq!(
            (trial.counts().verdicts_received.len(), trial.counts().acknowledgements),
            (1, 1)
        );
        trial.one_verdict();
        let said = trial.bench.rows("verdict", None);
        assert_eq!(
            said[0]["body"],
            trial.outside.verdict(),
            "the frozen bytes are what was sent"
        );
        trial.ends_with(0).await;
        assert_eq!(trial.counts().verdicts_received.len(), 1, "there is nothing left to do");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_stays_away_is_waited_for_as_long_as_the_patience_lasts_and_no_longer() {
    for endpoint in [Endpoint::Data, Endpoint::GitFetch, Endpoint::PullList] {
        let trial = Trial::with(&[("RUNNER_API_PATIENCE", "1s")]).await;
        trial.outside.faults.inject(endpoint, Fault::Status(503), Times::Always);
        trial.ends_with(1).await;
        trial.failed("ApiUnreachable");
    }
}

/// It says something, and would go on for ever.
const TALKING_AGENT: &str = r#"cat > /dev/null
echo '{"type":"assistant","message":{"content":[{"type":"text","text":"at work"}]}}'
echo half > half.txt
exec sleep 1000"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_task_was_ended_elsewhere_is_stopped_and_nothing_of_it_is_sent() {
    let faults = once(Endpoint::Events, says(410, "task is already terminal"));
    let mut trial = Trial::faulty(&faults).await;
    trial.bench = trial.bench.with("RUNNER_AGENT_COMMAND", TALKING_AGENT);
    trial.ends_with(0).await;
    let counts = trial.counts();
    assert!(counts.verdicts_received.is_empty(), "{:?}", counts.verdicts_received);
    assert!(trial.outside.forge.pulls().is_empty());
    assert!(trial.outside.branch().await.is_none());
    let rows = trial.bench.dump();
    let verdict = rows.iter().find(|row| row["kind"] == "verdict").unwrap();
    assert_eq!(verdict["body"]["event"], "superseded", "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_whose_task_was_ended_elsewhere_is_stopped_and_nothing_is_pushed() {
    let faults = once(Endpoint::Events, says(410, "task is already terminal"));
    let mut trial = Trial::faulty(&faults).await;
    // What it says at its end is on its way when the check begins.
    let agent = TALKING_AGENT.replace("exec sleep 1000", "true");
    trial.bench = trial
        .bench
        .with("RUNNER_AGENT_COMMAND", &agent)
        .with("RUNNER_CHECK_COMMAND", "exec sleep 1000");
    trial.ends_with(0).await;
    assert!(trial.outside.branch().await.is_none());
    assert!(trial.outside.forge.pulls().is_empty());
    assert_eq!(trial.asked(Endpoint::Verdict), 0);
    let verdict = &trial.bench.rows("verdict", None)[0];
    assert_eq!(verdict["body"]["event"], "superseded", "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_hears_what_the_agent_does_and_each_state_and_nothing_after_the_verdict() {
    let mut trial = Trial::new().await;
    let agent = TALKING_AGENT.replace("exec sleep 1000", "true");
    trial.bench = trial.bench.with("RUNNER_AGENT_COMMAND", &agent);
    trial.ends_with(0).await;
    let counts = trial.counts();
    let told: Vec<_> = counts
        .activities
        .iter()
        .map(|told| (&told["type"], &told["summary"]))
        .collect();
    assert_eq!(told, [(&json!("thinking"), &json!("at work"))]);
    assert_eq!(counts.activities[0]["sequence"], 1_000_000_001_u64);
    let last = counts
        .progress
        .last()
        .map(|told| told["message"].as_str().unwrap_or_default().to_owned());
    assert_eq!(last.as_deref(), Some("PrOpened"), "{:?}", counts.progress);
    assert_eq!(
        counts.events.last().map(String::as_str),
        Some("completed"),
        "{:?}",
        counts.events
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_was_ended_elsewhere_is_superseded_and_nothing_is_sent() {
    for endpoint in [Endpoint::Started, Endpoint::Data, Endpoint::Token] {
        let trial = Trial::faulty(&once(endpoint, says(410, "task is already terminal"))).await;
        trial.ends_with(0).await;
        assert_eq!(trial.asked(Endpoint::Verdict), 0, "{endpoint}: nothing is sent");
        trial.nothing_was_run();
        let verdict = &trial.bench.rows("verdict", None)[0];
        assert_eq!(verdict["body"]["event"], "superseded", "{endpoint}");
        trial.ends_with(0).await;
        assert_eq!(trial.bench.rows("verdict", None).len(), 1, "{endpoint}");
    }
}

/// No other answer says it: the runner hears of it with its report.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_was_ended_while_the_agent_ran_ends_with_0_and_its_report_is_not_sent_again() {
    let trial = Trial::with(&[("RUNNER_AGENT_COMMAND", WAITING_AGENT)]).await;
    let faults = &trial.outside.faults;
    faults.inject(Endpoint::Progress, Fault::Status(400), Times::Always);
    let mut serving = trial.bench.start();
    serving.assign(&trial.outside.assignment()).await;
    trial.bench.agent_is_there(&serving).await;
    trial.outside.api.end_elsewhere(&trial.outside.task);
    trial.bench.let_the_agent_go();
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    assert_eq!(trial.counts().verdict, None);
    assert_eq!(trial.asked(Endpoint::Verdict), 1);
    trial.ends_with(0).await;
    assert_eq!(trial.asked(Endpoint::Verdict), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_not_known_is_said_so_and_where_nobody_is_left_to_tell_the_exit_is_1() {
    let trial = Trial::faulty(&once(Endpoint::Data, says(404, "task not found"))).await;
    trial.ends_with(1).await;
    trial.failed("TaskNotFound");
    trial.nothing_was_run();

    let trial = Trial::faulty(&[
        (Endpoint::Data, says(404, "task not found"), Times::Always),
        (Endpoint::Verdict, says(404, "task not found"), Times::Always),
    ])
    .await;
    trial.ends_with(1).await;
    assert_eq!((trial.asked(Endpoint::Verdict), trial.counts().verdict), (1, None));
    trial.ends_with(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_is_there_already_is_a_conflict_before_the_agent_is_paid() {
    let trial = Trial::new().await;
    trial.outside.remote(&["branch", "runner/t-1", "main"]);
    trial.ends_with(1).await;
    let message = trial.failed("PushConflict");
    assert!(
        message.contains("runner/t-1") && message.contains(trial.outside.base.as_str()),
        "{message}"
    );
    trial.nothing_was_run();
    assert_eq!(
        trial.outside.branch().await.as_ref(),
        Some(&trial.outside.base),
        "untouched"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_appears_while_the_agent_runs_is_a_conflict_and_is_left_alone() {
    let trial = Trial::with(&[("RUNNER_AGENT_COMMAND", WAITING_AGENT)]).await;
    let mut serving = trial.bench.start();
    serving.assign(&trial.outside.assignment()).await;
    trial.bench.agent_is_there(&serving).await;
    trial.outside.remote(&["branch", "runner/t-1", "main"]);
    trial.bench.let_the_agent_go();
    assert_eq!(serving.wait().await.code(), Some(1), "{}", serving.log());
    trial.failed("PushConflict");
    assert_eq!(
        trial.outside.branch().await.as_ref(),
        Some(&trial.outside.base),
        "untouched"
    );
    assert_eq!(trial.outside.forge.pulls().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_that_declines_is_a_rejected_push_in_its_own_words() {
    let trial = Trial::new().await;
    let hooks = trial.outside.git.path("o", "r").unwrap().join("hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    let hook = hooks.join("pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho branches here are protected >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    trial.ends_with(1).await;
    let message = trial.failed("PushRejected");
    assert!(
        message.contains("pre-receive hook declined") || message.contains("protected"),
        "{message}"
    );
    assert_eq!(
        (trial.outside.branch().await, trial.outside.forge.pulls().len()),
        (None, 0)
    );
    assert_eq!(trial.outside.git.counts().pushes, 1, "it is not tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ref_that_does_not_exist_is_named() {
    let trial = Trial::new().await;
    let base = data(&trial.outside.git);
    let task = TaskData {
        repo: runner::task::TaskRepo {
            git_ref: Some("no-such-branch".to_owned()),
            ..base.repo.clone()
        },
        ..base
    };
    let mint = Mint::fixed(Secret::new(CANARY), Duration::from_hours(1));
    trial.outside.api.add_task(&trial.outside.task, task, mint);
    trial.ends_with(1).await;
    let message = trial.failed("RefNotFound");
    assert!(message.contains("no-such-branch"), "{message}");
    trial.nothing_was_run();
}

#[tokio::test(flavor = "multi_thread")]
async fn task_data_that_cannot_be_used_is_refused_before_the_token_is_spent() {
    let outside_data = |change: fn(&mut TaskData)| async move {
        let trial = Trial::new().await;
        let mut task = data(&trial.outside.git);
        change(&mut task);
        let mint = Mint::fixed(Secret::new(CANARY), Duration::from_hours(1));
        trial.outside.api.add_task(&trial.outside.task, task, mint);
        trial.ends_with(1).await;
        trial.failed("TaskDataInvalid");
        trial.nothing_was_run();
        assert_eq!(trial.counts().tokens_minted, 0);
    };
    outside_data(|task| task.repo.url = "ext::sh -c id".to_owned()).await;
    outside_data(|task| task.repo.url = "/etc".to_owned()).await;
    outside_data(|task| task.repo.url = "http://forge.example/o/r".to_owned()).await;
    outside_data(|task| task.repo.git_ref = Some("--upload-pack=id".to_owned())).await;
    outside_data(|task| task.description = " \n".to_owned()).await;
}

/// `command` has an exit code, which is its word: it is not asked twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_says_no_has_failed_and_is_not_started_again() {
    let says_no = "cat > /dev/null; echo run >> \"$HOME/runs\"; echo it is no use >&2; exit 3";
    let trial = Trial::with(&[("RUNNER_AGENT_COMMAND", says_no)]).await;
    trial.ends_with(1).await;
    let message = trial.failed("AgentFailed");
    assert!(message.contains("it is no use") && message.contains('3'), "{message}");
    assert_eq!(trial.bench.runs(), 1);
    assert_eq!(
        (trial.outside.branch().await, trial.outside.forge.pulls().len()),
        (None, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_changes_nothing_has_failed_or_completed_as_the_setting_says() {
    let idle = "cat > /dev/null; echo there is nothing to do";
    let trial = Trial::with(&[("RUNNER_AGENT_COMMAND", idle)]).await;
    trial.ends_with(1).await;
    let message = trial.failed("NoChanges");
    assert!(message.contains("there is nothing to do"), "{message}");
    assert_eq!(trial.outside.verdict()["details"]["outcome"], "no_changes");

    let trial = Trial::with(&[("RUNNER_AGENT_COMMAND", idle), ("RUNNER_NO_CHANGES", "complete")]).await;
    trial.ends_with(0).await;
    let verdict = trial.outside.verdict();
    assert_eq!(
        (&verdict["event"], &verdict["details"]["outcome"]),
        (&"completed".into(), &"no_changes".into())
    );
    assert_eq!(verdict["details"]["branch"], serde_json::Value::Null);
    assert_eq!(
        (trial.outside.git.counts().pushes, trial.outside.forge.pulls().len()),
        (0, 0)
    );
    trial.one_verdict();
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_the_agent_runs_it_is_interrupted_once_within_the_grace() {
    let trial = Trial::with(&[("RUNNER_AGENT_COMMAND", WAITING_AGENT), ("RUNNER_TERM_GRACE", "10s")]).await;
    let mut serving = trial.bench.start();
    serving.assign(&trial.outside.assignment()).await;
    trial.bench.agent_is_there(&serving).await;
    let told = std::time::Instant::now();
    serving.signal(Signal::SIGTERM);
    // Another one changes nothing: not the grace, and not the end.
    assert!(serving.line_with("Interrupted").await.is_some(), "{}", serving.log());
    if std::fs::exists(format!("/proc/{}", serving.pid())).unwrap() {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(serving.pid().cast_signed()), Signal::SIGTERM);
    }
    assert_eq!(serving.wait().await.code(), Some(1), "{}", serving.log());
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    trial.failed("Interrupted");
    assert_eq!(
        (
            trial.counts().verdicts_received.len(),
            trial.outside.git.counts().pushes
        ),
        (1, 0)
    );
    trial.ends_with(0).await;
    assert_eq!(trial.counts().verdicts_received.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_term_at_once_is_as_good_as_one() {
    let trial = Trial::with(&[("RUNNER_AGENT_COMMAND", WAITING_AGENT)]).await;
    let mut serving = trial.bench.start();
    serving.assign(&trial.outside.assignment()).await;
    trial.bench.agent_is_there(&serving).await;
    for _ in 0..3 {
        serving.signal(Signal::SIGTERM);
    }
    assert_eq!(serving.wait().await.code(), Some(1), "{}", serving.log());
    trial.failed("Interrupted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_task_is_completed_by_a_later_start_and_the_parked_one_does_not_count() {
    let trial = Trial::with(&[
        ("RUNNER_AGENT_COMMAND", WAITING_AGENT),
        ("RUNNER_ON_TERM", "park"),
        ("RUNNER_AGENT_ATTEMPTS", "1"),
    ])
    .await;
    for parked in 1..=2 {
        let mut serving = trial.bench.start();
        serving.assign(&trial.outside.assignment()).await;
        until("the agent is at work", &serving, || trial.bench.runs() == parked).await;
        serving.signal(Signal::SIGTERM);
        assert_eq!(serving.wait().await.code(), Some(75), "{}", serving.log());
        assert_eq!(trial.asked(Endpoint::Verdict), 0, "nothing is said of it");
    }
    trial.bench.let_the_agent_go();
    trial.ends_with(0).await;
    trial.completed().await;
    assert_eq!(trial.bench.runs(), 3);
    assert_eq!(trial.outside.verdict()["details"]["boots"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_without_a_task_it_ends_with_0() {
    let outside = Outside::start().await;
    for on_term in ["report", "park"] {
        let bench = Bench::new(&outside).with("RUNNER_ON_TERM", on_term);
        let mut serving = bench.start();
        assert!(serving.line_with("started").await.is_some());
        serving.signal(Signal::SIGTERM);
        assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_runs_for_too_long_is_stopped_and_has_timed_out() {
    let trial = Trial::with(&[("RUNNER_AGENT_COMMAND", WAITING_AGENT), ("RUNNER_AGENT_TIMEOUT", "1s")]).await;
    trial.ends_with(1).await;
    trial.failed("AgentTimedOut");
    assert_eq!((trial.bench.runs(), trial.outside.git.counts().pushes), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_change_could_not_be_pushed_any_more_is_not_paid_for_again() {
    let trial = Trial::with(&[("RUNNER_AGENT_COMMAND", WAITING_AGENT)]).await;
    let mut serving = trial.bench.start();
    serving.assign(&trial.outside.assignment()).await;
    trial.bench.agent_is_there(&serving).await;
    serving.kill().await;
    std::fs::remove_dir_all(trial.bench.path("secrets")).unwrap();
    trial.bench.let_the_agent_go();
    let log = trial.ends_with(1).await;
    trial.failed("TokenLost");
    assert_eq!(trial.bench.runs(), 1, "{log}");
    assert_eq!(trial.counts().tokens_minted, 1);
}
