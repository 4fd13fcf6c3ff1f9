//! What every process below a supervisor is known by, also when the supervisor itself was killed.
//!
//! Parent, session, environment and open files are all left behind by whoever wants to be a daemon. Limits are not: each
//! child takes them over. The one of real-time processor time is free to carry a number, since it binds only what runs at a
//! real-time priority, and this number is some hundred thousand years. It can be lowered by its bearer, and raised by root:
//! under the sandbox's filter, by neither.

use std::fs;
use std::io;

use nix::sys::resource::{Resource, setrlimit};
use ring::rand::{SecureRandom, SystemRandom};

/// Everything from here to the next bit, in microseconds, is a mark: there are as many as nobody could guess.
const FIRST: u64 = 1 << 62;
/// How `/proc/PID/limits` calls it.
const ROW: &str = "Max realtime timeout";

/// A number of its own for one supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

impl Mark {
    pub(super) fn new() -> io::Result<Self> {
        let mut random = [0; 8];
        let filled = SystemRandom::new().fill(&mut random);
        filled.map_err(|_| io::Error::other("the system gives no random numbers"))?;
        Ok(Self(FIRST | u64::from_ne_bytes(random) >> 2))
    }

    /// Marks this process and all that it starts from now on. Refused where somebody has set the limit lower, and where the
    /// kernel is no Linux (gVisor): then nothing is marked.
    pub(super) fn put_on(self) -> nix::Result<()> {
        setrlimit(Resource::RLIMIT_RTTIME, self.0, self.0)
    }

    /// Whether a process has it. A process that is gone has none.
    pub(super) fn is_on(self, pid: i32) -> bool {
        fs::read_to_string(format!("/proc/{pid}/limits")).is_ok_and(|limits| Self::of(&limits) == Some(self))
    }

    fn of(limits: &str) -> Option<Self> {
        let row = limits.lines().find_map(|line| line.strip_prefix(ROW))?;
        Self::parse(row.split_ascii_whitespace().nth(1)?)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = text.trim().parse().ok()?;
        (FIRST..FIRST << 1).contains(&number).then_some(Self(number))
    }

    pub(super) fn text(self) -> String {
        self.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_from_the_hard_limit_and_nothing_else_is_one() {
        let mark = Mark::new().unwrap();
        assert_eq!(Mark::parse(&mark.text()), Some(mark));
        assert_ne!(Mark::new().unwrap(), mark);
        let limits = |soft: &str, hard: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max realtime priority     0                    0                    \n\
                 Max realtime timeout      {soft:<20} {hard:<20} us        \n"
            )
        };
        assert_eq!(Mark::of(&limits("200000", &mark.text())), Some(mark));
        for other in ["unlimited", "200000", "0"] {
            assert_eq!(Mark::of(&limits(other, other)), None, "{other}");
        }
        assert_eq!(Mark::of(""), None);
        // The largest number stands for "unlimited".
        assert_eq!(Mark::parse(&u64::MAX.to_string()), None);
        assert!(!mark.is_on(std::process::id().cast_signed()));
    }
}
