//! The agent's turns and tools, from the transcripts that lie beside a journal, in a state directory or an unpacked bundle.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::adapters::agent::{Activity, Stream, ToolResult, read_transcript};
use crate::redact::Redactor;

/// No more of one transcript is read, in bytes as the agent printed them: whatever it printed, a page is made in seconds.
const READ: u64 = 256 * 1024 * 1024;
/// So much of it is kept: the beginning, and the end, of what the agent did.
const FIRST: usize = 150;
const LAST: usize = 250;
/// So many tools are counted by name.
const TOOLS: usize = 50;

/// What one start of the agent did.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    /// The beginning of it.
    pub(super) first: Vec<Doing>,
    /// How much came between the beginning and the end.
    pub(super) left_out: u64,
    /// The end of it.
    pub(super) last: VecDeque<Doing>,
    /// Each tool, with how often it was used and how often it failed.
    pub(super) tools: BTreeMap<String, Uses>,
    /// The end of what was printed that was no event.
    pub(super) plain: String,
    /// Whether there is more of it than was read.
    pub(super) cut: bool,
}

/// How often a tool was used, and how often it failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Uses {
    pub(super) times: u64,
    pub(super) failed: u64,
}

/// One thing that the agent did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Said(String),
    Used {
        tool: String,
        what: String,
        result: Option<ToolResult>,
    },
    Trouble(String),
}

/// Where the transcript of a start of the agent lies.
pub(super) fn beside(journal: &Path, attempt: u32) -> PathBuf {
    let name = format!("agent/transcript-{attempt}.jsonl.zst");
    journal.parent().unwrap_or(Path::new("")).join(name)
}

/// Reads what a start of the agent did; none where there is no transcript of it.
///
/// What looks like a secret is taken out once more; the secrets that the runner knew were, before it was written.
pub(super) fn read(path: &Path) -> io::Result<Option<Transcript>> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(io::Error::other("it is not a file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut printed = read_transcript(path)?;
    let mut told = Transcript::default();
    let mut stream = Stream::new(Redactor::new());
    let mut buffer = vec![0; 256 * 1024];
    let mut left = READ;
    loop {
        let read = printed.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        let taken = usize::try_from(left).map_or(read, |left| left.min(read));
        stream.feed(&buffer[..taken], &mut |activity| told.take(activity));
        left -= taken as u64;
        if taken < read {
            told.cut = true;
            break;
        }
    }
    let end = stream.finish(&mut |activity| told.take(activity));
    told.plain = end.plain_text;
    Ok(Some(told))
}

impl Transcript {
    fn take(&mut self, activity: Activity) {
        let doing = match activity {
            Activity::Said(text) => Doing::Said(text),
            Activity::Tool { name, summary, .. } => {
                if let Some(uses) = self.uses(&name) {
                    uses.times += 1;
                }
                Doing::Used {
                    tool: name,
                    what: summary,
                    result: None,
                }
            }
            Activity::ToolEnded { tool, result, .. } => return self.ended(tool.as_deref(), result),
            Activity::Retry { attempt, of, status } => {
                let status = status.map(|status| format!(" after HTTP {status}")).unwrap_or_default();
                Doing::Trouble(format!("asked its model again{status}, {attempt} of {of}"))
            }
            Activity::Error(text) => Doing::Trouble(text),
        };
        if self.first.len() < FIRST {
            self.first.push(doing);
            return;
        }
        if self.last.len() == LAST {
            self.last.pop_front();
            self.left_out += 1;
        }
        self.last.push_back(doing);
    }

    /// A tool that was begun has ended.
    fn ended(&mut self, tool: Option<&str>, result: ToolResult) {
        let Some(tool) = tool else { return };
        if result == ToolResult::Failed
            && let Some(uses) = self.uses(tool)
        {
            uses.failed += 1;
        }
        let begun = self.last.iter_mut().rev().chain(self.first.iter_mut().rev());
        let open = begun.into_iter().find_map(|doing| match doing {
            Doing::Used {
                tool: name,
                result: open @ None,
                ..
            } if name == tool => Some(open),
            Doing::Used { .. } | Doing::Said(_) | Doing::Trouble(_) => None,
        });
        if let Some(open) = open {
            *open = Some(result);
        }
    }

    fn uses(&mut self, tool: &str) -> Option<&mut Uses> {
        if self.tools.len() == TOOLS && !self.tools.contains_key(tool) {
            return None;
        }
        Some(self.tools.entry(tool.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests;
