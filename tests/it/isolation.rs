//! What the agent can reach, tried by an agent; the same without the sandbox, as the control.

mod attacker;
mod network;
mod older_kernel;
mod same_user;
mod syscalls;

use std::collections::BTreeSet;

use crate::harness::{Bench, CANARY, Outside};

/// Tries everything, and leaves what it got in `$HOME/got`: one file for each thing that it could do, empty where it got
/// nothing but the deed itself. It changes nothing of what it can reach.
fn thief(bench: &Bench) -> String {
    let (state, secrets) = (bench.path("state"), bench.path("secrets"));
    let (state, secrets) = (state.display(), secrets.display());
    format!(
        r#"cat > /dev/null; echo change >> change.txt
mkdir -p "$HOME/got"; cd "$HOME/got" || exit 9
got() {{ name=$1; shift; if "$@" > "try" 2> /dev/null; then mv try "$name"; fi; rm -f try; }}
appends() {{ ( : >> "$1" ) 2> /dev/null; }}
opens() {{ ( : < "$1" ) 2> /dev/null; }}
creates() {{ ( : > "$1" ) 2> /dev/null && rm "$1"; }}
parent() {{ sed -n 's/^PPid:[[:space:]]*//p' "/proc/$1/status"; }}
supervisor=$PPID
runner=$(parent "$supervisor")
echo "$supervisor" > supervisor; echo "$runner" > runner
for p in /proc/[0-9]*; do [ "$(cat "$p/comm" 2> /dev/null)" = runner ] && echo "${{p#/proc/}}"; done > runners
got environ-own cat /proc/$$/environ
got token cat "{secrets}/token.json"
got secrets-list ls -A "{secrets}"
got state-list ls -A "{state}"
got journal cat "{state}/journal.db-wal"
got journal-append appends "{state}/journal.db"
got journal-lock appends "{state}/journal.db-lock"
got agent-lock opens "{state}/agent.lock"
got transcript cat "{state}/agent/transcript-1.jsonl.zst"
got repo-config cat "{state}/git/config"
got repo-config-append appends "{state}/git/config"
got repo-ref creates "{state}/git/refs/heads/planted"
got repo-hook creates "{state}/git/hooks-planted"
for who in runner supervisor; do
  eval "pid=\$$who"
  got "$who-environ" cat "/proc/$pid/environ"
  got "$who-mem" opens "/proc/$pid/mem"
  got "$who-fd" readlink "/proc/$pid/fd/0"
  got "$who-cwd" ls "/proc/$pid/cwd/"
  got "$who-signal" kill -0 "$pid"
done
: > done
"#
    )
}

/// What one run with the thief left.
struct Theft {
    outside: Outside,
    bench: Bench,
    got: BTreeSet<String>,
    runner: u32,
}

impl Theft {
    /// A whole run, in which the agent tries everything.
    async fn commit(settings: &[(&str, &str)]) -> Self {
        let outside = Outside::start().await;
        let mut bench = Bench::new(&outside);
        let script = thief(&bench);
        bench = bench.with("RUNNER_AGENT_COMMAND", &script);
        for (name, value) in settings {
            bench = bench.with(name, value);
        }
        let mut serving = bench.start();
        serving.assign(&outside.assignment()).await;
        let runner = serving.pid();
        assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
        let got = std::fs::read_dir(bench.path("workspace/home/got")).unwrap();
        let got = got
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let theft = Self {
            outside,
            bench,
            got,
            runner,
        };
        assert!(
            theft.got.contains("done"),
            "it did not come to its end: {:?}",
            theft.got
        );
        // Without this, what it did not get would prove nothing: it has to have tried the right processes.
        assert_eq!(theft.text("runner").trim(), runner.to_string());
        assert!(theft.text("runners").lines().any(|pid| pid == runner.to_string()));
        theft
    }

    fn text(&self, name: &str) -> String {
        let bytes = std::fs::read(self.bench.path("workspace/home/got").join(name)).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What it got of the things that are none of its business.
    fn loot(&self) -> BTreeSet<&str> {
        let own = ["runner", "supervisor", "runners", "environ-own", "done"];
        self.got
            .iter()
            .map(String::as_str)
            .filter(|name| !own.contains(name))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_reaches_neither_token_nor_journal_nor_repository_nor_the_runner_itself() {
    let theft = Theft::commit(&[]).await;
    assert_eq!(theft.loot(), BTreeSet::new());
    assert_ne!(theft.runner, 0);
}

/// The control: the same agent in the same place gets it all where there is no sandbox, so that what it does not get
/// with one is the sandbox's doing.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_sandbox_the_same_agent_reaches_all_of_it() {
    let theft = Theft::commit(&[("RUNNER_SANDBOX", "off")]).await;
    let mut expected = BTreeSet::from([
        "token",
        "secrets-list",
        "state-list",
        "journal",
        "journal-append",
        "journal-lock",
        "agent-lock",
        "transcript",
        "repo-config",
        "repo-config-append",
        "repo-ref",
        "repo-hook",
        "runner-signal",
        "supervisor-signal",
    ]);
    if nix::unistd::geteuid().is_root() {
        // A process that is not dumpable is still root's to look into.
        for who in ["runner", "supervisor"] {
            expected.extend(match who {
                "runner" => ["runner-environ", "runner-mem", "runner-fd", "runner-cwd"],
                _ => [
                    "supervisor-environ",
                    "supervisor-mem",
                    "supervisor-fd",
                    "supervisor-cwd",
                ],
            });
        }
        assert!(theft.text("runner-environ").contains("RUNNER_STATE_DIR="));
    }
    assert_eq!(theft.loot(), expected);
    assert!(theft.text("token").contains(CANARY));
    assert!(theft.text("journal").contains("Assigned"));
    let sandbox = theft.bench.rows("note", None);
    assert!(
        sandbox.iter().any(|row| row["body"].to_string().contains("\"off\"")),
        "it is journaled: {sandbox:?}"
    );
    let verdict = theft.outside.verdict();
    assert_eq!(verdict["event"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_environment_is_an_allow_list_and_nothing_else() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "api-bearer").unwrap();
    let theft = Theft::commit(&[
        ("RUNNER_API_TOKEN_FILE", file.path().to_str().unwrap()),
        ("RUNNER_AGENT_ENV", "PASSED_ON,NOT_THERE"),
        ("PASSED_ON", "as it is"),
        ("GITHUB_TOKEN", "ghs_operator"),
        ("GIT_ASKPASS", "/bin/false"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("ANTHROPIC_API_KEY", "sk-ant-x"),
        ("LD_PRELOAD", ""),
        ("SSH_AUTH_SOCK", "/tmp/x"),
        ("TZ", "UTC"),
    ])
    .await;
    let environ = theft.text("environ-own");
    let environ: BTreeSet<&str> = environ.split('\0').filter(|line| !line.is_empty()).collect();
    let home = format!("HOME={}", theft.bench.path("workspace/home").display());
    let tmp = format!("TMPDIR={}", theft.bench.path("workspace/tmp").display());
    let path = format!("PATH={}", std::env::var("PATH").unwrap());
    let expected = ["LANG=C.UTF-8", "PASSED_ON=as it is", "TZ=UTC", &home, &path, &tmp];
    assert_eq!(environ, BTreeSet::from(expected));
}
