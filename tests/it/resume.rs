//! The real Claude Code gone on with after its runner, its supervisor and itself were killed in mid-turn: wherever
//! `RUNNER_TEST_CLAUDE` names the CLI.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its room has failed")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use runner::ids::SessionId;
use serde_json::Value;

use crate::claude::program;
use crate::harness::{Bench, CANARY, Outside, Serving, files_with, transcript, until};
use crate::messages_api::{MessagesApi, Turn};
use crate::processes::{descendants, the_pod_goes};

const KEY: &str = "sk-ant-of-this-test";
/// What the agent does before it is cut off, and after.
const FIRST: &str = "echo kept-from-the-first-part; printf 'first\\n' > first.txt";
const SECOND: &str = "printf 'second\\n' > second.txt";
const LAST_WORDS: &str = "Both parts are done.";
/// What one turn costs at the model's price in this test: 1000 tokens at $1000 a million.
const TURN_USD: f64 = 1.0;

/// A scripted model, and the real CLI as the agent.
pub(crate) struct Room {
    pub(crate) outside: Outside,
    pub(crate) model: MessagesApi,
    pub(crate) bench: Bench,
}

impl Room {
    pub(crate) async fn new(settings: &[(&str, &str)]) -> Option<Self> {
        let program = program()?;
        let outside = Outside::start().await;
        let model = MessagesApi::start().await;
        let bench = Bench::new(&outside);
        let folder = bench.path("bin");
        fs::create_dir(&folder).unwrap();
        symlink(program, folder.join("claude")).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let path = std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(&path))).unwrap();
        let rates = r#""output":0,"cache_write_5m":0,"cache_write_1h":0,"cache_read":0"#;
        let prices = bench.path("prices.json");
        fs::write(
            &prices,
            format!(r#"{{"models":[{{"model":"claude-test-1","input":1000,{rates}}}]}}"#),
        )
        .unwrap();
        let mut bench = bench
            .with("PATH", path.to_str().unwrap())
            .with("RUNNER_AGENT", "claude")
            .with("RUNNER_AGENT_MODEL", "claude-test-1")
            .with("RUNNER_MODEL_PRICES", prices.to_str().unwrap())
            .with("ANTHROPIC_BASE_URL", model.url())
            .with("ANTHROPIC_API_KEY", KEY);
        for (name, value) in settings {
            bench = bench.with(name, value);
        }
        Some(Self { outside, model, bench })
    }

    /// A start whose agent has done its first part, and waits for its model.
    pub(crate) async fn in_mid_turn(&self) -> Serving {
        self.model.script([Turn::bash(FIRST), Turn::Silent]);
        let serving = self.bench.start();
        serving.assign(&self.outside.assignment()).await;
        self.is_heard(&serving, 2).await;
        // Claude Code writes its conversation down a moment later than it goes on in it.
        until("the first part is written down", &serving, || {
            fs::read_to_string(self.conversation(0))
                .unwrap_or_default()
                .contains("\"tool_result\"")
        })
        .await;
        self.has_kept(&serving, 1).await;
        serving
    }

    /// Until so many answers of the model are in the transcript, which they are a moment after they are printed: what a kill
    /// finds on its way there is not counted.
    async fn has_kept(&self, serving: &Serving, answers: usize) {
        let path = self.bench.path("state/agent/transcript-1.jsonl.zst");
        until("what it printed is kept", serving, || {
            let text = if path.exists() {
                transcript(&path)
            } else {
                String::new()
            };
            let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            whole.filter(|line| line.contains("\"type\":\"tool_use\"")).count() >= answers
        })
        .await;
    }

    async fn is_heard(&self, serving: &Serving, turns: u64) {
        until("the model is asked", serving, || self.model.turns_taken() >= turns).await;
    }

    pub(crate) fn will_finish(&self) {
        self.model.script([Turn::bash(SECOND), Turn::Says(LAST_WORDS)]);
    }

    pub(crate) fn session(&self, anew: u32) -> String {
        SessionId::of(&self.outside.task, anew).to_string()
    }

    /// The file of the conversation.
    fn conversation(&self, anew: u32) -> PathBuf {
        let projects = self.bench.path("workspace/home/.claude/projects");
        let name = format!("{}.jsonl", self.session(anew));
        let mut found = fs::read_dir(projects)
            .unwrap()
            .map(|project| project.unwrap().path().join(&name));
        found.find(|file| file.exists()).unwrap()
    }

    /// The conversations that the agent's intents name.
    pub(crate) fn intended(&self) -> Vec<Value> {
        let rows = self.bench.rows("intent", Some("agent"));
        rows.into_iter().map(|row| row["body"]["session"].clone()).collect()
    }

    /// What a file has on the branch; none where it is not there.
    fn on_branch(&self, file: &str) -> Option<String> {
        let branch = format!("runner/{}", self.outside.task);
        let listed = self.outside.remote(&["ls-tree", "--name-only", &branch, file]);
        (!listed.is_empty()).then(|| self.outside.remote(&["show", &format!("{branch}:{file}")]))
    }

    /// One verdict, one pull request, one chain of commits on the base.
    fn assert_completed_once(&self) -> Value {
        let verdict = self.outside.verdict();
        assert_eq!(verdict["event"], "completed", "{verdict}");
        assert_eq!(self.bench.rows("verdict", None).len(), 1);
        let pulls = self.outside.forge.pulls();
        assert_eq!(pulls.len(), 1);
        assert!(!pulls[0].draft, "{:?}", pulls[0]);
        assert_eq!(verdict["details"]["prURL"], pulls[0].html_url);
        let range = format!("{}..runner/{}", self.outside.base, self.outside.task);
        assert_eq!(self.outside.remote(&["rev-list", "--count", &range]), "1");
        assert_eq!(self.outside.git.counts().pushes, 1);
        verdict
    }

    /// The agent went on where it was: in its conversation, in its tree, on one bill.
    fn assert_went_on(&self, answered: u32) {
        let verdict = self.assert_completed_once();
        assert_eq!(self.on_branch("first.txt").as_deref(), Some("first"));
        assert_eq!(self.on_branch("second.txt").as_deref(), Some("second"));
        let details = &verdict["details"];
        assert_eq!(details["sessionID"], self.session(0), "{details}");
        assert!(
            self.intended().iter().all(|session| *session == self.session(0)),
            "{:?}",
            self.intended()
        );
        let cost = details["costUSD"].as_f64().unwrap();
        assert!((cost - TURN_USD * f64::from(answered)).abs() < 1e-9, "{details}");
        assert_eq!(details["turns"], answered, "{details}");
        let body = self.outside.forge.pulls()[0].body.clone().unwrap();
        assert!(body.contains(&format!("| cost | ${cost:.4} |")), "{body}");
        // The first request of the second part has what was said and done in the first.
        let asked = self.model.asked();
        for words in ["Make a change", "kept-from-the-first-part", "You were interrupted"] {
            assert!(asked[2].contains(words), "{words}: {}", asked[2]);
        }
        assert!(!asked[1].contains("You were interrupted"));
    }

    /// The work was begun anew: nothing of the first part is in the change, and the journal says it.
    fn assert_began_anew(&self, why: &str) {
        let verdict = self.assert_completed_once();
        assert_eq!(self.on_branch("first.txt"), None);
        assert_eq!(self.on_branch("second.txt").as_deref(), Some("second"));
        assert_eq!(verdict["details"]["sessionID"], self.session(1), "{verdict}");
        assert_eq!(self.intended().last().unwrap(), &self.session(1));
        let retries = self.bench.rows("outcome", Some("agent"));
        let said = retries
            .iter()
            .find(|row| row["body"]["left"]["next"] == "begin_anew" || row["body"]["next"] == "begin_anew");
        let said = said.unwrap_or_else(|| panic!("{retries:#?}"));
        assert!(said.to_string().contains(why), "{said}");
        // It is told the whole task.
        let asked = self.model.asked();
        let last = asked.last().unwrap();
        assert!(
            last.contains("Make a change") && !last.contains("kept-from-the-first-part"),
            "{last}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_killed_with_its_runner_goes_on_in_its_conversation_and_its_tree() {
    let Some(room) = Room::new(&[]).await else { return };
    the_pod_goes(room.in_mid_turn().await).await;
    room.will_finish();
    assert_eq!(room.bench.until_over(&room.outside).await, 0);
    room.assert_went_on(3);
    assert_eq!(room.intended().len(), 2);
}

/// The pod is gone with its memory, and another one has its volumes: the secrets directory is empty, the seal key is not
/// in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_gone_in_mid_turn_is_gone_on_with_by_a_new_one_on_its_volume() {
    let key = tempfile::NamedTempFile::new().unwrap();
    fs::write(&key, [b'k'; 32]).unwrap();
    let Some(room) = Room::new(&[("RUNNER_SEAL_KEY_FILE", key.path().to_str().unwrap())]).await else {
        return;
    };
    the_pod_goes(room.in_mid_turn().await).await;
    fs::remove_dir_all(room.bench.path("secrets")).unwrap();
    room.will_finish();
    let (code, log) = room.bench.once(&room.outside).await;
    assert_eq!(code, Some(0), "{log}");
    room.assert_went_on(3);
    assert_eq!(room.outside.counts().tokens_minted, 1);
    assert_eq!(files_with(room.bench.dir.path(), CANARY), [] as [PathBuf; 0]);
    assert_eq!(files_with(room.bench.dir.path(), KEY), [] as [PathBuf; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_in_the_middle_of_a_command_goes_on_after_it() {
    let Some(room) = Room::new(&[]).await else { return };
    let there = room.bench.path("workspace/tmp/there");
    let command = format!(
        "{FIRST}; git add -A; : > .git/index.lock; : > {}; sleep 600",
        there.display()
    );
    room.model.script([Turn::bash(FIRST), Turn::bash(&command)]);
    let serving = room.bench.start();
    serving.assign(&room.outside.assignment()).await;
    until("the command runs", &serving, || there.exists()).await;
    room.has_kept(&serving, 2).await;
    the_pod_goes(serving).await;
    // A git that was killed had its lock: this one would find it.
    room.model.script([
        Turn::bash(&format!("{SECOND}; git add -A && git commit -qm 'after it'")),
        Turn::Says(LAST_WORDS),
    ]);
    assert_eq!(room.bench.until_over(&room.outside).await, 0);
    room.assert_went_on(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_dies_after_its_agent_has_ended_does_not_run_it_again() {
    for place in ["inside-agent_dead", "before-outcome-agent"] {
        let Some(room) = Room::new(&[]).await else { return };
        room.model.script([Turn::bash(SECOND), Turn::Says(LAST_WORDS)]);
        let mut first = room.bench.start_to_crash_at(place);
        first.assign(&room.outside.assignment()).await;
        first.wait().await;
        assert_eq!(room.bench.until_over(&room.outside).await, 0, "{place}");
        let verdict = room.assert_completed_once();
        assert_eq!(room.model.turns_taken(), 2, "{place}");
        assert_eq!(room.intended().len(), 1, "{place}");
        assert_eq!(verdict["details"]["turns"], 2, "{place}: {verdict}");
        assert_eq!(verdict["details"]["costUSD"], 2.0 * TURN_USD, "{place}: {verdict}");
    }
}

/// Whether it has begun its conversation by then nobody can say: both have to come to the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_dies_as_its_agent_starts_comes_to_one_pull_request() {
    let Some(room) = Room::new(&[]).await else { return };
    let mut first = room.bench.start_to_crash_at("inside-agent_started");
    first.assign(&room.outside.assignment()).await;
    first.wait().await;
    room.will_finish();
    assert_eq!(room.bench.until_over(&room.outside).await, 0);
    room.assert_completed_once();
    assert_eq!(room.on_branch("second.txt").as_deref(), Some("second"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_agent_goes_on_in_its_conversation() {
    let Some(room) = Room::new(&[("RUNNER_ON_TERM", "park"), ("RUNNER_AGENT_ATTEMPTS", "1")]).await else {
        return;
    };
    let mut serving = room.in_mid_turn().await;
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.wait().await.code(), Some(75), "{}", serving.log());
    room.will_finish();
    assert_eq!(room.bench.until_over(&room.outside).await, 0);
    room.assert_went_on(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_is_gone_is_begun_anew_from_the_base_commit() {
    let Some(room) = Room::new(&[]).await else { return };
    the_pod_goes(room.in_mid_turn().await).await;
    fs::remove_file(room.conversation(0)).unwrap();
    room.will_finish();
    assert_eq!(room.bench.until_over(&room.outside).await, 0);
    room.assert_began_anew("the agent begins anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_is_gone_is_begun_anew_from_the_base_commit() {
    let Some(room) = Room::new(&[]).await else { return };
    the_pod_goes(room.in_mid_turn().await).await;
    fs::remove_dir_all(room.bench.path("workspace")).unwrap();
    room.will_finish();
    assert_eq!(room.bench.until_over(&room.outside).await, 0);
    room.assert_began_anew("the agent begins anew");
}

/// It is there by its name, and Claude Code says that there is no such conversation.
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_the_agent_cannot_read_is_begun_anew_and_that_is_no_attempt() {
    let Some(room) = Room::new(&[("RUNNER_AGENT_ATTEMPTS", "2")]).await else {
        return;
    };
    the_pod_goes(room.in_mid_turn().await).await;
    fs::write(room.conversation(0), "garbage\n").unwrap();
    room.will_finish();
    assert_eq!(room.bench.until_over(&room.outside).await, 0);
    room.assert_began_anew("No conversation found");
    assert_eq!(room.intended().len(), 3);
}

/// What the killed part took is taken off what the second one may take.
#[tokio::test(flavor = "multi_thread")]
async fn the_second_part_gets_what_the_first_has_left_of_turns_and_budget() {
    let settings = [("RUNNER_AGENT_MAX_TURNS", "5"), ("RUNNER_AGENT_MAX_BUDGET_USD", "7")];
    let Some(room) = Room::new(&settings).await else { return };
    the_pod_goes(room.in_mid_turn().await).await;
    room.model.script([Turn::Silent]);
    let second = room.bench.start();
    second.assign(&room.outside.assignment()).await;
    room.is_heard(&second, 3).await;
    let words = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let runner = i32::try_from(second.pid()).unwrap();
    let mut agents = descendants(runner).into_iter().map(words);
    let agent = agents.find(|words| words.contains("\0--resume\0")).unwrap();
    let after = |option: &str| agent.split(&format!("\0{option}\0")).nth(1).unwrap().split('\0').next();
    assert_eq!(after("--resume"), Some(&*room.session(0)));
    assert_eq!(after("--max-turns"), Some("4"));
    assert_eq!(after("--max-budget-usd"), Some("6.00"));
    the_pod_goes(second).await;
}
