//! The seal key: with it the token outlives the secrets directory, and what is left on disk shows neither of the two.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use runner::embedded::faults::Endpoint;
use runner::process::wait_until_free;

use crate::harness::{Bench, CANARY, NEVER, Outside, WAITING_AGENT, files_with};

/// Searched for in every byte that is left, as the token is.
const KEY: &str = "key_canary0123456789abcdefghijklmnopq";

fn key_file(bench: &Bench, name: &str, key: &str) -> PathBuf {
    let file = bench.path(name);
    fs::write(&file, format!("{key}\n")).unwrap();
    file
}

/// A task whose runner was killed while the agent worked, and whose secrets directory is empty since.
struct Bereft {
    outside: Outside,
    bench: Bench,
}

impl Bereft {
    async fn with_key(key: Option<&str>) -> Self {
        let outside = Outside::start().await;
        let mut bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", WAITING_AGENT);
        if let Some(key) = key {
            let file = key_file(&bench, "key", key);
            bench = bench.with("RUNNER_SEAL_KEY_FILE", file.to_str().unwrap());
        }
        let mut first = bench.start();
        first.assign(&outside.assignment()).await;
        bench.agent_is_there(&first).await;
        first.kill().await;
        // The supervisor writes down how the agent ended, a moment after.
        drop(wait_until_free(&bench.path("state/agent.lock"), NEVER).unwrap());
        let secrets = bench.path("secrets");
        assert_eq!(secrets.join("token.json").exists(), key.is_none());
        assert_eq!(bench.path("state/token.sealed").exists(), key.is_some());
        fs::remove_dir_all(secrets).unwrap();
        bench.let_the_agent_go();
        Self { outside, bench }
    }

    /// A start with another key, or none, that is refused; nothing has changed by it.
    async fn is_refused(&mut self, key: Option<&Path>) -> String {
        let right = self.bench.env.clone();
        self.bench.env.retain(|(name, _)| name != "RUNNER_SEAL_KEY_FILE");
        if let Some(key) = key {
            let key = ("RUNNER_SEAL_KEY_FILE".to_owned(), key.display().to_string());
            self.bench.env.push(key);
        }
        let before = contents(self.bench.dir.path());
        let mut refused = self.bench.start();
        assert_eq!(refused.address().await, None, "/task is not open");
        assert_eq!(refused.wait().await.code(), Some(2), "{}", refused.log());
        assert!(contents(self.bench.dir.path()) == before, "something was touched");
        self.bench.env = right;
        refused.log()
    }

    async fn completes(&self) {
        let (code, log) = self.bench.once(&self.outside).await;
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(self.outside.verdict()["event"], "completed", "{log}");
        assert_eq!(
            self.outside.api.call_log().of(Endpoint::Token).len(),
            1,
            "it is asked for once"
        );
        for left in ["state/token.sealed", "state/token.sealed.partial", "secrets/token.json"] {
            assert!(!self.bench.path(left).exists(), "{left}");
        }
    }
}

/// Everything below a directory: each file with its bytes, each directory with none.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        }
        let bytes = if path.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        found.insert(path, bytes);
    }
    found
}

/// A secret in the forms that it could have been written in.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), hex::encode(secret), hex::encode_upper(secret)];
    // In the middle of other text, Base64 has one of three shifts; the ends are its neighbours' too.
    for shift in 0..3 {
        let text = [&b"xx"[..shift], secret.as_bytes()].concat();
        for form in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
            forms.push(form[4..form.len() - 3].to_owned());
        }
    }
    forms
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_the_token_outlives_the_secrets_directory() {
    Bereft::with_key(Some(KEY)).await.completes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_a_lost_secrets_directory_is_one_token_lost_that_says_where_it_was_and_what_keeps_it() {
    let bereft = Bereft::with_key(None).await;
    let (code, log) = bereft.bench.once(&bereft.outside).await;
    assert_eq!(code, Some(1), "{log}");
    let verdict = bereft.outside.verdict();
    assert_eq!(
        (&verdict["event"], &verdict["details"]["reason"]),
        (&"failed".into(), &"TokenLost".into())
    );
    let message = verdict["message"].as_str().unwrap();
    let looked = bereft.bench.path("secrets/token.json").display().to_string();
    for part in [looked.as_str(), "RUNNER_SEAL_KEY_FILE", "RUNNER_SECRETS_DIR"] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    assert_eq!(bereft.outside.counts().verdicts_received.len(), 1);
    assert_eq!(bereft.bench.rows("verdict", None).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_open_the_seal_is_exit_2_and_touches_nothing_and_the_right_key_completes_the_task() {
    let mut bereft = Bereft::with_key(Some(KEY)).await;
    let wrong = key_file(&bereft.bench, "wrong", &KEY.replace('0', "1"));
    let right = bereft.bench.path("key");
    let sealed = bereft.bench.path("state/token.sealed");
    let whole = fs::read(&sealed).unwrap();

    for (key, says) in [
        (Some(wrong.as_path()), "wrong key, or the file is damaged"),
        (None, "no key is given"),
    ] {
        let log = bereft.is_refused(key).await;
        for part in [
            says,
            sealed.to_str().unwrap(),
            "RUNNER_SEAL_KEY_FILE",
            "remove the file",
        ] {
            assert!(log.contains(part), "{part:?} is not in {log}");
        }
    }
    let version = whole.iter().position(|byte| *byte == 1).expect("the version");
    let mut other = whole.clone();
    other[version] = 2;
    for (bytes, says) in [
        (&other[..], "version 2"),
        (&whole[..whole.len() - 1], "the file is damaged"),
        (&[], "the file is damaged"),
    ] {
        fs::write(&sealed, bytes).unwrap();
        let log = bereft.is_refused(Some(&right)).await;
        assert!(log.contains(says), "{says:?} is not in {log}");
    }
    fs::write(&sealed, whole).unwrap();
    bereft.completes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_began_without_a_key_goes_on_with_one() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", WAITING_AGENT);
    let mut first = bench.start();
    first.assign(&outside.assignment()).await;
    bench.agent_is_there(&first).await;
    first.kill().await;
    bench.let_the_agent_go();
    let file = key_file(&bench, "key", KEY);
    let bench = bench.with("RUNNER_SEAL_KEY_FILE", file.to_str().unwrap());
    Bereft { outside, bench }.completes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_token_nor_key_is_in_any_byte_of_the_state_directory() {
    let mut bereft = Bereft::with_key(Some(KEY)).await;
    let found = |bench: &Bench, secret: &str| -> Vec<PathBuf> {
        let forms = forms(secret);
        forms
            .iter()
            .flat_map(|form| files_with(&bench.path("state"), form))
            .collect()
    };
    let is_clean = |bereft: &Bereft| {
        for secret in [CANARY, KEY] {
            assert_eq!(found(&bereft.bench, secret), Vec::<PathBuf>::new());
        }
    };
    is_clean(&bereft);
    let wrong = key_file(&bereft.bench, "wrong", &KEY.replace('0', "1"));
    bereft.is_refused(Some(&wrong)).await;
    bereft.completes().await;
    is_clean(&bereft);
    // The control: each form would have been found.
    for encoded in [
        CANARY.to_owned(),
        hex::encode(CANARY),
        STANDARD_NO_PAD.encode(format!("{{\"token\":\"{CANARY}\"}}")),
        URL_SAFE_NO_PAD.encode(format!("{{ \"token\":\"{CANARY}\"}}")),
        STANDARD_NO_PAD.encode(format!("{{  \"token\":\"{CANARY}\"}}")),
    ] {
        fs::write(bereft.bench.path("state/control"), &encoded).unwrap();
        assert!(!found(&bereft.bench, CANARY).is_empty(), "{encoded}");
    }
}

/// With the sandbox it reads neither the key nor what it seals; without, as the control, it reads both.
#[tokio::test(flavor = "multi_thread")]
async fn the_agent_reads_neither_the_key_nor_the_sealed_token() {
    for (mode, loot) in [("require", vec![]), ("off", vec!["key", "sealed"])] {
        let outside = Outside::start().await;
        let bench = Bench::new(&outside);
        let file = key_file(&bench, "key", KEY);
        let (key, sealed) = (file.display(), bench.path("state/token.sealed"));
        let agent = format!(
            "cat > /dev/null; echo change > change.txt; for at in key={key} sealed={}; do \
             cat \"${{at#*=}}\" > try 2> /dev/null && cp try \"$HOME/got-${{at%%=*}}\"; rm -f try; done; : > \"$HOME/done\"",
            sealed.display()
        );
        let bench = bench
            .with("RUNNER_SEAL_KEY_FILE", file.to_str().unwrap())
            .with("RUNNER_AGENT_COMMAND", &agent)
            .with("RUNNER_SANDBOX", mode);
        let (code, log) = bench.once(&outside).await;
        assert_eq!(code, Some(0), "{log}");
        let home = bench.path("workspace/home");
        assert!(home.join("done").exists(), "{log}");
        let got: Vec<&str> = ["key", "sealed"]
            .into_iter()
            .filter(|name| home.join(format!("got-{name}")).exists())
            .collect();
        assert_eq!(got, loot, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_secret_is_a_key_although_it_is_a_link() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside);
    // As Kubernetes lays it.
    let mount = bench.path("mount");
    fs::create_dir_all(mount.join("..2026_01_01")).unwrap();
    fs::write(mount.join("..2026_01_01/seal"), KEY).unwrap();
    symlink("..2026_01_01", mount.join("..data")).unwrap();
    symlink("..data/seal", mount.join("seal")).unwrap();
    let bench = bench.with("RUNNER_SEAL_KEY_FILE", mount.join("seal").to_str().unwrap());
    let (code, log) = bench.once(&outside).await;
    assert_eq!(code, Some(0), "{log}");
}
