//! How often a command that signals kill is started again: pure.

use std::time::Duration;

/// A command that lived for so long had nothing wrong with its start.
const LONG_LIFE: Duration = Duration::from_mins(1);

/// What follows a death by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is started again.
    StartAgain {
        /// For which time in a row, from 1.
        nth: u32,
    },
    /// It is not.
    GiveUp {
        /// How often it was killed in a row.
        kills: u32,
    },
}

/// Starts again in a row, counted.
#[derive(Debug)]
pub(super) struct Patience {
    most: u32,
    in_a_row: u32,
}

impl Patience {
    /// For `most` starts in a row after the first. `serve` with the same number concludes `CrashLoop` in the last of them.
    pub(super) fn new(most: u32) -> Self {
        Self { most, in_a_row: 0 }
    }

    pub(super) fn most(&self) -> u32 {
        self.most
    }

    /// After a life of `lived` that a signal ended.
    pub(super) fn after(&mut self, lived: Duration) -> Next {
        if lived >= LONG_LIFE {
            self.in_a_row = 0;
        }
        if self.in_a_row >= self.most {
            return Next::GiveUp {
                kills: self.in_a_row + 1,
            };
        }
        self.in_a_row += 1;
        Next::StartAgain { nth: self.in_a_row }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(59_999);

    #[test]
    fn so_many_starts_in_a_row_and_no_more() {
        let mut patience = Patience::new(5);
        for nth in 1..=5 {
            assert_eq!(patience.after(SHORT), Next::StartAgain { nth });
        }
        assert_eq!(patience.after(SHORT), Next::GiveUp { kills: 6 });
    }

    #[test]
    fn a_life_of_a_minute_begins_the_count_anew() {
        let mut patience = Patience::new(1);
        for lived in [SHORT, LONG_LIFE, LONG_LIFE] {
            assert_eq!(patience.after(lived), Next::StartAgain { nth: 1 });
        }
        assert_eq!(patience.after(SHORT), Next::GiveUp { kills: 2 });
    }
}
