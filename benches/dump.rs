//! What reading a journal of 100,000 rows costs: `cargo bench --bench dump`. The real binary, its time and its memory.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use runner::machine::{Assignment, EffectName, Event, Left, Outcome, Run, Trouble, transition};
use runner::record;
use runner_journal::Journal;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ROWS: u64 = 100_000;
/// What a dump of any length may take (docs/benchmarks.md).
const AIM_MIB: f64 = 64.0;

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("journal.db");
    write(&path)?;
    let size = std::fs::metadata(&path)?.len();
    println!("{ROWS} rows, {:.1} MB on the disk", megabytes(size));
    for (arguments, aim) in [
        (&["dump", "--last", "50"][..], Aim::Seconds(0.1)),
        (&["explain"], Aim::Seconds(0.1)),
        (&["tail"], Aim::Seconds(0.1)),
        (&["dump", "--format", "ndjson"], Aim::MegabytesASecond(100.0)),
        (&["dump", "--format", "ndjson", "--raw"], Aim::MegabytesASecond(100.0)),
        (&["dump", "--format", "json"], Aim::None),
        (&["dump"], Aim::None),
        (&["verify"], Aim::Seconds(0.5)),
        (&["replay"], Aim::None),
    ] {
        measure(arguments, aim, &path, &directory.path().join("out"))?;
    }
    Ok(())
}

/// What is hoped for, of the time on the clock.
#[derive(Clone, Copy)]
enum Aim {
    None,
    Seconds(f64),
    MegabytesASecond(f64),
}

impl Aim {
    fn met(self, took: f64, printed: u64) -> &'static str {
        match self {
            Self::None => "-",
            Self::Seconds(most) if took < most => "met",
            Self::MegabytesASecond(least) if megabytes(printed) / took >= least => "met",
            Self::Seconds(_) | Self::MegabytesASecond(_) => "missed",
        }
    }
}

/// The best of five: what others do on the machine makes it longer, and nothing makes it shorter. Beside it what all cores
/// worked for it, which others hardly change.
fn measure(arguments: &[&str], aim: Aim, path: &Path, out: &Path) -> Result<()> {
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..5 {
        let before = worked()?;
        let begun = Instant::now();
        let status = Command::new(env!("CARGO_BIN_EXE_runner"))
            .env_clear() // cargo has variables of its own that begin like settings
            .arg("journal")
            .args(arguments)
            .arg(path)
            .stdout(std::fs::File::create(out)?)
            .stderr(Stdio::null())
            .status()?;
        let took = begun.elapsed().as_secs_f64();
        assert!(status.success(), "{arguments:?}: {status}");
        best = (best.0.min(took), best.1.min(worked()? - before));
    }
    let (took, worked) = best;
    let printed = std::fs::metadata(out)?.len();
    // Of all children so far, the largest: it rises with the first that takes more than the ones before.
    let most = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    let most = f64::from(i32::try_from(most)?) / 1024.0;
    println!(
        "{:<28} {took:5.2} s {:6}, of work {worked:5.2} s; {:6.1} MB printed, {:5.0} MB/s; at most {most:.0} MiB so far, aim \
         {AIM_MIB:.0}: {}",
        arguments.join(" "),
        aim.met(took, printed),
        megabytes(printed),
        megabytes(printed) / took,
        if most < AIM_MIB { "met" } else { "missed" }
    );
    Ok(())
}

/// What all children have worked until now, in seconds.
fn worked() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| -> Result<f64> {
        Ok(f64::from(i32::try_from(time.tv_sec())?) + f64::from(i32::try_from(time.tv_usec())?) / 1e6)
    };
    Ok(seconds(usage.user_time())? + seconds(usage.system_time())?)
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A task whose API is away for very long: as many attempts to say `started` as there is room for.
fn write(path: &Path) -> Result<()> {
    let mut journal = Journal::open(path, &record::machine())?.journal;
    let assignment = Assignment {
        task_id: "dumped".parse()?,
        api_url: "http://127.0.0.1:8081".parse()?,
        trace: None,
    };
    let mut run = Run::default();
    let mut events = vec![Event::Booted { at: 0 }, Event::Assigned { assignment, at: 0 }];
    let mut attempt = 0;
    while journal.head().seq < ROWS {
        let mut entries = Vec::new();
        for event in events.drain(..) {
            let after = transition(&run, &event)?;
            entries.extend(record::write(&run, &event, &after)?.entries);
            run = after;
        }
        journal.append(i64::from(attempt), &entries, &[])?;
        for _ in 0..500 {
            attempt += 1;
            events.push(Event::Intended {
                effect: EffectName::Start,
                attempt,
                session: None,
                at: i64::from(attempt),
            });
            events.push(Event::Ended {
                effect: EffectName::Start,
                attempt,
                outcome: Outcome::Retry {
                    trouble: Trouble::Unreachable,
                    cause: "failed to connect to 127.0.0.1:8081: connection refused".to_owned(),
                    after_ms: None,
                    left: Left::default(),
                },
                at: i64::from(attempt),
            });
        }
    }
    journal.close()?;
    Ok(())
}
