//! What a killed command left behind, ended before the next one is started.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::process::SUPERVISE;
use crate::process::descendants::{self, Left};

/// How long a supervisor may take. It has lost its runner: it kills its agent, and writes the report of that which the
/// next start reads.
const SUPERVISORS_TIME: Duration = Duration::from_secs(1);
/// How long all of it may take. What a KILL does not end by then hangs in the kernel.
const BOUND: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Kills every descendant of this process, and comes back when none is left. A supervisor and what is below it ends
/// itself, if it does so in time. Only while there is no command: every child is reaped.
pub(super) async fn end() {
    let begun = Instant::now();
    let mut killed = HashSet::new();
    loop {
        let late = begun.elapsed() >= SUPERVISORS_TIME;
        // An error is passing (no descriptors, no memory): there is a child, so there is a next round.
        let doomed = descendants::living_but(|child| !late && is_supervisor(child)).unwrap_or_default();
        for process in &doomed {
            descendants::signal(process, Signal::SIGKILL);
            killed.insert((process.pid, process.started));
        }
        // Before the first look too: it lets the runtime read the signals that came with the command's death.
        tokio::time::sleep(LOOK_EVERY).await;
        if descendants::reap_all() == Left::None {
            break;
        }
        if begun.elapsed() >= BOUND {
            let pids: Vec<i32> = doomed.iter().map(|process| process.pid).collect();
            tracing::error!(
                ?pids,
                "processes of the killed command outlive SIGKILL: going on beside them"
            );
            return;
        }
    }
    let killed = killed.len();
    tracing::info!(
        killed,
        "what the command left is dead, after {} ms",
        begun.elapsed().as_millis()
    );
}

fn is_supervisor(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|arguments| names_supervisor(&arguments))
}

fn names_supervisor(arguments: &[u8]) -> bool {
    arguments.split(|byte| *byte == 0).nth(1) == Some(SUPERVISE.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_is_known_by_its_second_argument() {
        assert!(names_supervisor(b"/usr/local/bin/runner\0__supervise\0--lock\0x\0"));
        for other in [
            b"runner\0serve\0".as_slice(),
            b"sh\0-c\0__supervise\0",
            b"__supervise\0",
            b"",
        ] {
            assert!(!names_supervisor(other));
        }
    }
}
