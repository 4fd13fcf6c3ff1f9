//! An agent that says every secret it was given, in every form: nothing of it is in what the runner keeps, shows or sends.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use runner::redact::MARKER;

use crate::harness::{Bench, CANARY, Outside, RUNNER, files_with, transcript, until};

/// The model's key, of no known shape, with what encodings treat in their own ways.
const KEY: &str = "m0del/key+\"canary\"~42?xyz";
/// Of a variable that is passed on, and named as a secret is.
const OTHER: &str = "other-c@nary-0123456789";

/// Says what it knows: plain, in JSON, in pieces, cut by a shell, encoded; as events and as text, on both outputs.
fn teller(exit: u8) -> String {
    let tell = r#"
cat > /dev/null
say() {
  printf 'plain %s\n' "$1"
  printf 'hex %s\n' "$(printf %s "$1" | od -An -v -tx1 | tr -d ' \n')"
  printf 'percent %s\n' "$(printf %s "$1" | od -An -v -tx1 | tr -d '\n' | tr ' ' '%')"
  for before in '' x xy; do
    encoded=$(printf '%s%s' "$before" "$1" | base64 -w0)
    printf 'base64 %s\n' "$encoded"
    printf 'url-safe %s\n' "$(printf %s "$encoded" | tr '+/' '-_' | tr -d =)"
  done
  printf '%s' "$1" | sed 's/./&\n/g' | while IFS= read -r c; do printf '%s' "$c"; done
  echo
  json=$(printf %s "$1" | sed 's/"/\\"/g')
  printf '{"type":"assistant","message":{"content":[{"type":"text","text":"I saw %s"}]}}\n' "$json"
  printf '{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Bash","input":{"command":"echo %s"}}]}}\n' "$json"
}
for secret in "$ANTHROPIC_API_KEY" "$OTHER_TOKEN" "$GITHUB"; do
  say "$secret"
  say "$secret" >&2
done
echo change >> change.txt
printf '{"type":"result","subtype":"success","is_error":false,"result":"It is %s and %s, done."}\n' "$json" "$OTHER_TOKEN"
printf 'the last words are %s' "$OTHER_TOKEN"
"#;
    format!("GITHUB={CANARY}\n{tell}\nexit {exit}")
}

/// The forms that the teller uses.
fn forms() -> Vec<String> {
    let mut forms = Vec::new();
    for secret in [KEY, OTHER, CANARY] {
        forms.push(secret.to_owned());
        forms.push(secret.replace('"', "\\\""));
        forms.push(hex::encode(secret));
        let percent: Vec<String> = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
        forms.push(percent.concat());
        for before in ["", "x", "xy"] {
            let text = format!("{before}{secret}");
            // The last group depends on what follows, and its neighbour says nothing of the secret.
            for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text)] {
                forms.push(encoded[4..encoded.len() - 4].to_owned());
            }
        }
    }
    forms
}

async fn told(exit: u8) -> (Outside, Bench, i32, String) {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside)
        .with("RUNNER_AGENT_COMMAND", &teller(exit))
        .with("RUNNER_AGENT_ENV", "ANTHROPIC_API_KEY,OTHER_TOKEN")
        .with("ANTHROPIC_API_KEY", KEY)
        .with("OTHER_TOKEN", OTHER)
        .with("RUNNER_LOG", "trace");
    let (code, log) = bench.once(&outside).await;
    (outside, bench, code.unwrap(), log)
}

fn dump(bench: &Bench, arguments: &[&str]) -> String {
    let output = Command::new(RUNNER)
        .args(["journal", "dump"])
        .args(arguments)
        .arg(bench.journal())
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_tells_its_secrets_tells_nobody() {
    for (exit, expected) in [(0, 0), (3, 1)] {
        let (outside, bench, code, log) = told(exit).await;
        assert_eq!(code, expected, "{log}");
        let transcript = transcript(&bench.path("state/agent/transcript-1.jsonl.zst"));
        assert!(transcript.contains(&format!("plain {MARKER}")), "{transcript}");
        let mut shown = vec![
            log,
            dump(&bench, &["--raw", "--format", "json"]),
            dump(&bench, &["--raw"]),
        ];
        let calls = outside.api.call_log().all();
        shown.extend(
            calls
                .iter()
                .map(|call| String::from_utf8_lossy(&call.body).into_owned()),
        );
        shown.push(format!("{:?}", outside.forge.pulls()));
        for form in forms() {
            assert_eq!(
                files_with(bench.dir.path(), &form),
                Vec::<std::path::PathBuf>::new(),
                "{form}"
            );
            for text in &shown {
                assert!(!text.contains(&form), "{form}: {text}");
            }
        }
        // It was said, and what remains of it is where it should be.
        let said = if exit == 0 {
            outside.forge.pulls()[0].body.clone().unwrap()
        } else {
            outside.verdict()["message"].as_str().unwrap().to_owned()
        };
        assert!(said.contains(MARKER), "{said}");
        for line in transcript.lines().filter(|line| line.starts_with('{')) {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
        }
    }
}

/// The control: the same agent alone says every one of these forms.
#[test]
fn the_same_agent_alone_says_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("/bin/sh")
        .args(["-c", &teller(0)])
        .current_dir(dir.path())
        .env("ANTHROPIC_API_KEY", KEY)
        .env("OTHER_TOKEN", OTHER)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    for said in [output.stdout, output.stderr] {
        let said = String::from_utf8(said).unwrap();
        for form in forms() {
            assert!(said.contains(&form), "{form}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_write_on_the_terminal_of_who_reads_the_log() {
    for format in ["pretty", "json"] {
        let outside = Outside::start().await;
        let agent = r"cat > /dev/null; printf 'bad \033[31m\302\233red\nforged line\n' >&2; exit 7";
        let bench = Bench::new(&outside)
            .with("RUNNER_AGENT_COMMAND", agent)
            .with("RUNNER_LOG_FORMAT", format);
        let (_, log) = bench.once(&outside).await;
        assert!(log.contains("forged line"), "{log}");
        assert!(!log.contains('\u{1b}') && !log.contains('\u{9b}'), "{format}: {log:?}");
        assert!(
            !log.lines().any(|line| line.starts_with("forged line")),
            "{format}: {log}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_shows_nothing_that_looks_like_a_secret_unless_it_is_asked_to() {
    const LOOKS: &str = "AKIAIOSFODNN7CANARYX";
    let outside = Outside::start().await;
    let bench = Bench::new(&outside);
    let mut serving = bench.start();
    let assignment = serde_json::json!({"taskID": "t-1", "apiURL": format!("http://127.0.0.1:1/{LOOKS}")});
    assert_eq!(serving.assign(&assignment.to_string()).await, Some(200));
    until("it has begun", &serving, || serving.log().contains("tried again")).await;
    serving.kill().await;
    assert!(!serving.log().contains(LOOKS), "{}", serving.log());
    let raw: serde_json::Value = serde_json::from_str(&dump(&bench, &["--raw", "--format", "json"])).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&dump(&bench, &["--format", "json"])).unwrap();
    assert!(
        raw.to_string().contains(LOOKS) && !shown.to_string().contains(LOOKS),
        "{shown}"
    );
    let entry = |dump: &serde_json::Value| dump["entries"][1].clone();
    assert_eq!(entry(&shown)["redacted"], true, "{shown}");
    assert_eq!(entry(&raw).get("redacted"), None, "{raw}");
    assert_eq!(shown["entries"][0].get("redacted"), None, "{shown}");
    assert_eq!(entry(&shown)["hash"], entry(&raw)["hash"]);
    assert!(
        shown["journal"]["note"]
            .as_str()
            .is_some_and(|note| note.contains("--raw"))
    );
    assert_eq!(raw["journal"].get("note"), None);
    let table = dump(&bench, &[]);
    assert!(
        table.contains("what looks like a secret is not shown (") && !table.contains(LOOKS),
        "{table}"
    );
    assert!(dump(&bench, &["--raw", "--format", "ndjson"]).contains(LOOKS));
    assert!(!dump(&bench, &["--format", "ndjson"]).contains(LOOKS));
}

#[test]
fn an_error_line_shows_no_password() {
    let output = Command::new(RUNNER)
        .arg("serve")
        .env_clear()
        .env("RUNNER_API_ALLOW", "http://me:opensesame@host/")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("me:[redacted]@host") && !said.contains("opensesame"),
        "{said}"
    );
}
