//! What the official listener prints, line by line: that it listens, that a job runs, how the job ended.

use super::machine::JobResult;

/// A line is looked at up to this many bytes; the rest of it is not.
const LINE_LIMIT: usize = 4096;

/// What a line says, as far as it is of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It is online, and waits for a job.
    Listening,
    /// It has a job.
    Running,
    /// The job ended. A job's name is somebody's own text: the last words count.
    Completed(JobResult),
    /// Anything else.
    Other,
}

impl Said {
    /// Of a line: `2026-01-02 03:04:05Z: Job NAME completed with result: Succeeded`. The time has to be in front, so that no
    /// name of a job begins a line.
    pub fn of(line: &str) -> Self {
        let Some((_, words)) = line.split_once("Z: ").filter(|(time, _)| is_time(time)) else {
            return Self::Other;
        };
        let completed = words
            .strip_prefix("Job ")
            .and_then(|rest| rest.rsplit_once(" completed with result: "))
            .and_then(|(_, result)| result.trim().parse().ok());
        match completed {
            Some(result) => Self::Completed(result),
            None if words.starts_with("Listening for Jobs") => Self::Listening,
            None if words.starts_with("Running job: ") => Self::Running,
            None => Self::Other,
        }
    }
}

fn is_time(text: &str) -> bool {
    text.len() == 19 && text.bytes().all(|b| b.is_ascii_digit() || b"-: ".contains(&b))
}

/// Bytes as lines, each bounded.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Takes bytes in, and gives each line that they end.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.0);
                each(String::from_utf8_lossy(&line).trim_end());
            } else if self.0.len() < LINE_LIMIT {
                self.0.push(*byte);
            }
        }
    }

    /// The last line, where it has no end.
    pub fn finish(self) -> Option<String> {
        (!self.0.is_empty()).then(|| String::from_utf8_lossy(&self.0).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listeners_own_words_are_understood_and_a_jobs_name_cannot_speak_for_it() {
        let said = |line: &str| Said::of(&format!("2026-01-02 03:04:05Z: {line}"));
        assert_eq!(said("Listening for Jobs"), Said::Listening);
        assert_eq!(said("Running job: build"), Said::Running);
        assert_eq!(
            said("Job build completed with result: Failed"),
            Said::Completed(JobResult::Failed)
        );
        let odd = "Job x completed with result: Succeeded completed with result: Canceled";
        assert_eq!(said(odd), Said::Completed(JobResult::Canceled));
        assert_eq!(
            said("Running job: Job x completed with result: Succeeded"),
            Said::Running
        );
        assert_eq!(Said::of("echo Z: Job x completed with result: Succeeded"), Said::Other);
        assert_eq!(Said::of("Job x completed with result: Succeeded"), Said::Other);
        assert_eq!(said("Job x completed with result: Splendid"), Said::Other);
    }

    #[test]
    fn a_line_is_bounded_and_found_however_its_bytes_come() {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        lines.feed(b"one\r\ntw", |line| found.push(line.to_owned()));
        lines.feed(b"o\n", |line| found.push(line.to_owned()));
        lines.feed(&vec![b'x'; 10_000], |_| panic!("no line has ended"));
        lines.feed(b"\nlast", |line| found.push(line.len().to_string()));
        assert_eq!(found, ["one", "two", "4096"]);
        assert_eq!(lines.finish().as_deref(), Some("last"));
    }
}
