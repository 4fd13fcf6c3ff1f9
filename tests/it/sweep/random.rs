//! Killed at random times, again and again until the task has ended: the runner alone, or its supervisor with it.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Bench, CANARY, Outside, files_with, whole};

/// As [`crate::harness::AGENT`], and says so where another one is alive: a lock dies with the last process that has it.
const AGENT: &str = "exec 9> \"$HOME/alone\"; flock -n 9 || echo beside >> \"$HOME/beside\"; cat > /dev/null; \
                     echo run >> \"$HOME/runs\"; sleep 0.3; echo change >> change.txt";
/// A start takes about this long where nobody kills it, so that most kills hit and most starts get somewhere.
const LONGEST: u64 = 1500;
/// So often one task is killed; then it is let alone.
const MOST: usize = 12;
const AT_ONCE: usize = 4;
/// On a busy machine most starts are killed before they get anywhere: until one task was completed, there are so many at most.
const TASKS: u64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_times_again_and_again_the_task_ends_once_and_nothing_is_done_twice() {
    let given = std::env::var("SEED").ok().map(|seed| seed.parse().unwrap());
    let seed: u64 = given.unwrap_or_else(|| fastrand::u64(..));
    let wanted = if whole() { 1000 } else { 50 };
    let (mut kills, mut supervisors, mut tasks) = (0, 0, 0_u64);
    let mut endings = BTreeMap::<String, usize>::new();
    let mut under_way = tokio::task::JoinSet::new();
    loop {
        let none_completed = !endings.contains_key("completed") && tasks < TASKS;
        while (kills < wanted || none_completed) && under_way.len() < AT_ONCE {
            // Seen where it fails: the output of a test that passes is not shown.
            println!("task {tasks}: SEED={seed}");
            under_way.spawn(killed_until_over(Rng::with_seed(seed.wrapping_add(tasks)), tasks));
            tasks += 1;
        }
        let Some(done) = under_way.join_next().await else { break };
        let done = done.unwrap();
        kills += done.kills;
        supervisors += done.supervisors;
        *endings.entry(done.ending).or_default() += 1;
        if tasks % 20 == 0 {
            eprintln!("{kills} of {wanted} kills");
        }
    }
    assert!(endings.contains_key("completed"), "{endings:?}, SEED={seed}");
    let endings: Vec<_> = endings.iter().map(|(name, count)| format!("{count} {name}")).collect();
    println!(
        "proof: random kills: {kills} kills, {supervisors} with the supervisor, {tasks} tasks, {}, 0 duplicated effects",
        endings.join(", ")
    );
}

struct Done {
    kills: usize,
    supervisors: usize,
    ending: String,
}

async fn killed_until_over(mut random: Rng, task: u64) -> Done {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", AGENT);
    let (mut kills, mut supervisors) = (0, 0);
    let code = loop {
        if kills == MOST {
            break bench.until_over(&outside).await;
        }
        let mut serving = bench.start();
        let life = Duration::from_millis(random.u64(..LONGEST));
        let with_supervisor = random.u8(..4) == 0;
        let lived = async {
            serving.assign(&outside.assignment()).await;
            serving.ended().await
        };
        match tokio::time::timeout(life, lived).await.map(|status| status.code()) {
            Ok(Some(75)) => {}
            Ok(Some(code)) => break code,
            Ok(None) => panic!("task {task}: killed by somebody else: {}", serving.log()),
            Err(_) => {
                let supervisor = supervisor(&bench).filter(|_| with_supervisor);
                serving.signal(Signal::SIGKILL);
                if let Some(supervisor) = supervisor {
                    // It may have seen that its runner is gone, and be gone itself.
                    let _ = kill(supervisor, Signal::SIGKILL);
                    supervisors += 1;
                }
                // It may have ended in the moment in which it was killed.
                match serving.wait().await.code() {
                    Some(code) if code != 75 => break code,
                    Some(_) | None => kills += 1,
                }
            }
        }
    };
    Done {
        kills,
        supervisors,
        ending: ended(&outside, &bench, code, task).await,
    }
}

/// The supervisor of this bench's agent, while there is one.
fn supervisor(bench: &Bench) -> Option<Pid> {
    let lock = bench.path("state/agent.lock");
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pid = pids.find(|pid: &i32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments);
        arguments.contains("__supervise") && arguments.contains(lock.to_str().unwrap())
    });
    pid.map(Pid::from_raw)
}

/// One end, told once, and what it was.
async fn ended(outside: &Outside, bench: &Bench, code: i32, task: u64) -> String {
    let counts = outside.counts();
    assert!(
        counts.verdict.is_some(),
        "task {task}: exit {code} without a verdict: {:?}",
        bench.once(outside).await
    );
    let verdict = outside.verdict();
    let first = counts.verdicts_received.first();
    let same = counts.verdicts_received.iter().all(|verdict| Some(verdict) == first);
    assert!(same, "task {task}: two verdicts");
    assert!(counts.tokens_answered <= 1, "task {task}: the token is given once");
    assert_eq!(
        (bench.rows("verdict", None).len(), bench.rows("ack", None).len()),
        (1, 1),
        "task {task}"
    );
    assert!(
        files_with(bench.dir.path(), CANARY).is_empty(),
        "task {task}: the token is on disk"
    );
    assert!(
        !bench.path("workspace/home/beside").exists(),
        "task {task}: two agents at once"
    );
    assert!(bench.runs() <= 2, "task {task}: the agent ran {} times", bench.runs());
    assert!(outside.forge.pulls().len() <= 1, "task {task}: two pull requests");
    if outside.branch().await.is_some() {
        let branch = format!("runner/{}", outside.task);
        let commits = outside.remote(&["rev-list", "--count", &format!("{}..{branch}", outside.base)]);
        let files = outside.remote(&[
            "log",
            "--stat",
            "--format=%H %P%n%B",
            &format!("{}..{branch}", outside.base),
        ]);
        assert!(
            files.contains("change.txt"),
            "task {task}: {files}: {verdict}: {:?}",
            bench.dump()
        );
        let change = outside.remote(&["show", &format!("{branch}:change.txt")]);
        assert_eq!((commits.as_str(), change.as_str()), ("1", "change"), "task {task}");
    }
    if verdict["event"] == "completed" {
        assert_eq!((outside.forge.pulls().len(), code), (1, 0), "task {task}: {verdict}");
        return "completed".to_owned();
    }
    let reason = verdict["details"]["reason"].as_str().unwrap().to_owned();
    let honest = ["TokenAmbiguous", "AgentLost", "CrashLoop"].contains(&reason.as_str());
    assert!(honest && matches!(code, 0 | 1), "task {task}: {code} {verdict}");
    reason
}
