//! What the reading of an agent's output costs: `cargo bench --bench stream`. It prints and never fails on a figure.
//!
//! First the readers alone, in memory: a realistic output, many short lines, and one line of 64 MiB. Then whole runs of an
//! agent that prints as fast as it can, to the runner and to a file.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::future::pending;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use runner::adapters::agent::{AgentKind, Bounds, Order, Stream, Transcript, read_transcript, run};
use runner::process::{Input, Launch};
use runner::redact::Redactor;
use runner::sandbox::Demand;
use runner::secret::Secret;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/claude");
/// As `run` reads from the pipe.
const CHUNK: usize = 64 * 1024;
const REALISTIC: usize = 100 * 1000 * 1000;
const SHORT_LINES: usize = 500_000;
const LONG_LINE: usize = 64 * 1024 * 1024;
const ROUNDS: usize = 5;
const RUNS: usize = 5;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<()> {
    for (what, output) in [
        ("transcripts and tool results, 100 MB", realistic()?),
        ("500,000 short events", short_events()),
        (
            "500,000 short lines of text",
            "a line of text that is no event\n".repeat(SHORT_LINES).into_bytes(),
        ),
        ("one line of 64 MiB", long_line()),
    ] {
        println!("{what}:");
        readers(&output).await?;
    }
    println!("an agent that prints as fast as it can:");
    whole_runs().await
}

/// The transcripts of the real program again and again, and after each a tool result of up to 100 kB.
fn realistic() -> Result<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(FIXTURES)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    let transcripts: Vec<_> = paths.iter().map(fs::read).collect::<std::result::Result<_, _>>()?;
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/redact/scan.rs"))?;
    let mut output = Vec::new();
    while output.len() < REALISTIC {
        for (n, transcript) in transcripts.iter().enumerate() {
            output.extend_from_slice(transcript);
            let text = source.repeat(8);
            let text = &text[..text.floor_char_boundary(n * 5_000)];
            let line = serde_json::json!({"type": "user", "message": {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": text, "is_error": false}
            ]}, "tool_use_result": {"stdout": text}});
            output.extend_from_slice(format!("{line}\n").as_bytes());
        }
    }
    Ok(output)
}

fn short_events() -> Vec<u8> {
    let mut output = String::new();
    for n in 0..SHORT_LINES {
        // Writing to a string does not fail.
        let _ = writeln!(
            output,
            r#"{{"type":"assistant","message":{{"content":[{{"type":"text","text":"line {n}"}}]}},"parent_tool_use_id":null}}"#
        );
    }
    output.into_bytes()
}

fn long_line() -> Vec<u8> {
    let mut line = br#"{"type":"result","subtype":"success","is_error":false,"result":""#.to_vec();
    while line.len() < LONG_LINE {
        line.extend_from_slice(br#"a line of a tool's output, with \"quotes\" in it\n"#);
    }
    line.extend_from_slice(b"\"}\n");
    line
}

async fn readers(output: &[u8]) -> Result<()> {
    let mut room = vec![0; CHUNK];
    let copied = best(|| {
        for chunk in output.chunks(CHUNK) {
            black_box(&mut room)[..chunk.len()].copy_from_slice(chunk);
        }
    });
    let split = best(|| {
        black_box(output.split(|byte| *byte == b'\n').count());
    });
    let parsed = best(|| {
        let mut stream = Stream::new(redactor());
        for chunk in output.chunks(CHUNK) {
            stream.feed(chunk, &mut |activity| drop(black_box(activity)));
        }
        black_box(stream.finish(&mut |_| {}));
    });
    let mut kept = Duration::MAX;
    let mut both = Duration::MAX;
    let (mut size, mut read) = (0, Duration::MAX);
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("t");
        kept = kept.min(keep(&path, output, false).await?);
        size = fs::metadata(&path)?.len();
        let begun = Instant::now();
        std::io::copy(&mut read_transcript(&path)?, &mut std::io::sink())?;
        read = read.min(begun.elapsed());
        fs::remove_file(&path)?;
        both = both.min(keep(&path, output, true).await?);
    }
    let mega = |time: Duration| {
        f64::from(u32::try_from(output.len() / 1000).unwrap_or(u32::MAX)) / 1000.0 / time.as_secs_f64()
    };
    println!("  copied                                  {:8.0} MB/s", mega(copied));
    println!("  split at its line ends, byte by byte    {:8.0} MB/s", mega(split));
    println!(
        "  parsed                                  {:8.0} MB/s, {:.1} of splitting (aim: 200 MB/s)",
        mega(parsed),
        mega(parsed) / mega(split)
    );
    println!(
        "  redacted, compressed and on the disk    {:8.0} MB/s, to {} kB",
        mega(kept),
        size / 1000
    );
    println!("  both, on two threads                    {:8.0} MB/s", mega(both));
    println!("  the transcript read back                {:8.0} MB/s", mega(read));
    Ok(())
}

/// As one has them in a run: a token, a key.
fn redactor() -> Redactor {
    let redactor = Redactor::new();
    redactor.add(&Secret::new("ghs_0123456789abcdefghijABCDEFGHIJ012345"));
    redactor.add(&Secret::new("sk-ant-api03-0123456789abcdefghijABCDEFGHIJ0123456789"));
    redactor
}

fn best(mut work: impl FnMut()) -> Duration {
    let once = |()| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    [(); ROUNDS].map(once).into_iter().min().unwrap_or_default()
}

/// Until it is on the disk.
async fn keep(path: &Path, output: &[u8], is_parsed: bool) -> Result<Duration> {
    let redactor = redactor();
    let begun = Instant::now();
    let transcript = Transcript::create(path, &redactor)?;
    let mut stream = Stream::new(redactor);
    for chunk in output.chunks(CHUNK) {
        transcript.room().await;
        if !transcript.write(chunk) {
            break;
        }
        if is_parsed {
            stream.feed(chunk, &mut |activity| drop(black_box(activity)));
        }
    }
    transcript.finish().await?;
    black_box(stream.finish(&mut |_| {}));
    Ok(begun.elapsed())
}

async fn whole_runs() -> Result<()> {
    let room = tempfile::tempdir()?;
    let room = room.path();
    fs::write(room.join("realistic"), realistic()?)?;
    fs::write(room.join("events"), short_events())?;
    fs::write(room.join("line"), long_line())?;
    // From here on the peak of memory is that of the readers: a 5 forgets what was before.
    fs::write("/proc/self/clear_refs", "5")?;
    println!(
        "  {:36}{:>10}{:>16}{:>15}",
        "", "to a file", "through a pipe", "to the runner"
    );
    for (what, script) in [
        (
            "500,000 short lines by awk",
            "awk 'BEGIN { for (n = 0; n < 500000; n++) print \"a line of text\", n }'",
        ),
        (
            "500,000 short lines, a write each",
            "seq 500000 | sed -u 's/$/ is a line of text/'",
        ),
        ("500,000 short events by cat", "cat events"),
        ("100 MB of transcripts by cat", "cat realistic"),
        ("one line of 64 MiB by cat", "cat line"),
    ] {
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for n in 0..RUNS {
            times[0].push(to_a_file(room, script)?);
            times[1].push(to_a_file(room, &format!("{{ {script}; }} | cat"))?);
            times[2].push(to_the_runner(room, &format!("{what} {n}"), script).await?);
        }
        let [file, pipe, runner] = times.map(|times| millis(median(times)));
        println!(
            "  {what:36}{file:7.0} ms{pipe:13.0} ms{runner:12.0} ms, {:.2} of a file, {:.2} of a pipe",
            runner / file,
            runner / pipe
        );
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or_default();
    println!(
        "  the reader's process meanwhile, at most: {}",
        peak.trim_start_matches("VmHWM:").trim()
    );
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn to_a_file(room: &Path, script: &str) -> Result<Duration> {
    let file = fs::File::create(room.join("file"))?;
    let begun = Instant::now();
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", script])
        .current_dir(room)
        .stdout(file)
        .status()?;
    if !status.success() {
        return Err(format!("{script}: {status}").into());
    }
    Ok(begun.elapsed())
}

/// By the agent's own clock: from its start to its last word.
async fn to_the_runner(room: &Path, name: &str, script: &str) -> Result<Duration> {
    let name = name.replace(' ', "-");
    let launch = Launch {
        runner: env!("CARGO_BIN_EXE_runner").into(),
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        cwd: room.into(),
        env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        stdin: Input::Null,
        confinement: None,
        require: Demand::BestEffort,
        lock: room.join("agent.lock"),
        report: room.join(format!("{name}.json")),
        grace: Duration::from_millis(100),
        set_aside: 0,
    };
    let end = run(
        AgentKind::Command,
        &launch,
        &room.join(&name),
        Bounds::new(Duration::from_mins(5)),
        pending::<Order<()>>(),
        |activity| drop(black_box(activity)),
        redactor(),
    )
    .await?;
    Ok(end.ended.ran)
}
