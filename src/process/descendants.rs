//! Everything below the supervisor, by a walk over `/proc`: process groups and sessions do not hold what an agent starts.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, getpid, getsid};

use super::mark::Mark;

/// One process as `/proc/PID/stat` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    zombie: bool,
    /// When it started, in clock ticks since boot: with the number it names a process for good.
    pub(super) started: u64,
}

impl Process {
    /// The name may hold spaces and parentheses, so what follows is counted from the last one.
    fn parse(stat: &str) -> Option<Self> {
        let pid = stat.split(' ').next()?.parse().ok()?;
        let mut rest = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = rest.next()?;
        let parent = rest.next()?.parse().ok()?;
        let group = rest.next()?.parse().ok()?;
        let session = rest.next()?.parse().ok()?;
        // Fields 7 to 21 lie between the session (6) and the start (22).
        let started = rest.nth(15)?.parse().ok()?;
        Some(Self {
            pid,
            parent,
            group,
            session,
            zombie: matches!(state, "Z" | "X"),
            started,
        })
    }
}

fn all() -> io::Result<Vec<Process>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        // A process that ended since the directory was read is simply not there.
        if let Ok(bytes) = fs::read(format!("/proc/{pid}/stat")) {
            processes.extend(Process::parse(&String::from_utf8_lossy(&bytes)));
        }
    }
    Ok(processes)
}

fn below(root: i32, processes: &[Process]) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(*process);
    }
    let mut found = Vec::new();
    let mut seen = HashSet::from([root]);
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            // The list is no snapshot: a number that was used again could make a circle.
            if seen.insert(child.pid) {
                found.push(*child);
                parents.push(child.pid);
            }
        }
    }
    found
}

/// All living descendants of this process. A zombie is not living, but what hangs below it is.
pub(super) fn living() -> io::Result<Vec<Process>> {
    living_but(|_| false)
}

/// All living descendants of this process, but for the children that `spared` names and what hangs below them.
pub(super) fn living_but(spared: impl Fn(i32) -> bool) -> io::Result<Vec<Process>> {
    let me = getpid().as_raw();
    let mut processes = all()?;
    processes.retain(|process| process.parent != me || !spared(process.pid));
    let mut found = below(me, &processes);
    found.retain(|process| !process.zombie);
    Ok(found)
}

/// All living processes with a mark, wherever they hang: those that a killed supervisor left.
pub(super) fn marked(mark: Mark) -> io::Result<Vec<Process>> {
    let me = getpid().as_raw();
    let mut processes = all()?;
    processes.retain(|process| !process.zombie && process.pid != me && mark.is_on(process.pid));
    Ok(processes)
}

/// Reaps what was adopted and has ended, but never `child`, whose status somebody else waits for.
pub(super) fn reap_adopted(child: i32) -> io::Result<()> {
    let me = getpid().as_raw();
    for process in all()? {
        if process.parent == me && process.zombie && process.pid != child {
            // An error here is a status that nix has no name for (a real-time signal): it is reaped all the same.
            let _ = waitpid(Pid::from_raw(process.pid), Some(WaitPidFlag::WNOHANG));
        }
    }
    Ok(())
}

/// Whether a child is left after reaping all that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// None: so there is no descendant at all, because each hangs below a child of the subreaper.
    None,
    /// At least one.
    Some,
}

/// Reaps every child that has ended. Only for a process whose every child is its own business.
pub(super) fn reap_all() -> Left {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return Left::None,
            Ok(WaitStatus::StillAlive) => return Left::Some,
            Ok(_) | Err(_) => {}
        }
    }
}

/// Sends `signal` to a process of the agent's. A KILL goes to its whole group: that is atomic, so that a chain of quick forks cannot
/// outrun it. Groups that a process which is not ours could be in are left alone.
pub(super) fn signal(process: &Process, signal: Signal) {
    let me = getpid().as_raw();
    let ours_alone = getsid(None).is_ok_and(|session| session.as_raw() == me || session.as_raw() != process.session);
    if signal == Signal::SIGKILL && ours_alone && process.group > 1 && process.group != getpgrp().as_raw() {
        let _ = killpg(Pid::from_raw(process.group), signal);
    }
    let _ = kill(Pid::from_raw(process.pid), signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "41 (a) R 7 (x) Z 12 40 39 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 20 x";
        let process = Process::parse(stat).unwrap();
        assert_eq!(
            process,
            Process {
                pid: 41,
                parent: 12,
                group: 40,
                session: 39,
                zombie: true,
                started: 987_654
            }
        );
    }

    #[test]
    fn descendants_are_found_below_zombies_and_in_circles() {
        let process = |pid, parent, zombie| Process {
            pid,
            parent,
            group: pid,
            session: pid,
            zombie,
            started: 0,
        };
        let list = [
            process(2, 1, true),
            process(3, 2, false),
            process(4, 3, false),
            process(9, 8, false),
            process(1, 4, false),
        ];
        let mut found: Vec<_> = below(1, &list).iter().map(|p| p.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [2, 3, 4]);
    }

    #[test]
    fn this_process_is_in_its_own_list() {
        let me = getpid().as_raw();
        assert!(all().unwrap().iter().any(|p| p.pid == me && !p.zombie));
    }
}
