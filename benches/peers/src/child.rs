//! What a system does in its own process: a task at each line of its standard input, told by a line when it is done.
//!
//! `durare/` has this file too, by path: what is measured must be the same there.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What can fail here: anything.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How many steps a task has.
pub const STEPS: u32 = 9;
/// What a step leaves: a commit and its branch.
pub const BODY: &str = r#"{"commit":"0123456789abcdef0123456789abcdef01234567","branch":"runner/task"}"#;
/// Set where the process is traced: acknowledgements are then written, so that they stand in the trace.
pub const TELL: &str = "PEERS_TELL";

static TELLING: AtomicBool = AtomicBool::new(false);

/// The measured part of a task begins.
pub fn begin() -> Instant {
    tell("begin\n");
    Instant::now()
}

/// The effect of a step, numbered from 0, which does nothing outside.
///
/// That it begins says that the one before is acknowledged: the system would not go on otherwise.
pub fn act(step: u32) {
    if step > 0 {
        tell("ack\n");
    }
}

/// The system told its caller that the task has ended, so the last step is acknowledged too. How long it took.
pub fn end(start: Instant) -> Duration {
    let took = start.elapsed();
    tell("ack\n");
    tell("end\n");
    took
}

/// One write of its own, at once, which the trace shows between those of the system.
fn tell(what: &str) {
    if TELLING.load(Ordering::Relaxed) {
        // Whoever reads the trace counts what is told, and refuses another number.
        let _ = io::stderr().write_all(what.as_bytes());
    }
}

/// Does a task for each line of standard input, until it ends. The nanoseconds of each are its answer.
pub fn serve(mut task: impl FnMut() -> Result<Duration>) -> Result<()> {
    TELLING.store(std::env::var_os(TELL).is_some(), Ordering::Relaxed);
    for line in io::stdin().lock().lines() {
        line?;
        let took = task()?;
        println!("{}", took.as_nanos());
    }
    Ok(())
}
