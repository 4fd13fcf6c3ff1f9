//! What is left on disk of a job: its hooks mark that it began and that it ended, and the listener's words its result.
//!
//! A mark is synced before the hook returns, and no step of a job runs before its first hook has: so a start that finds no
//! mark knows that no step ran.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use strum::{Display, EnumString, IntoStaticStr, VariantNames};

use super::machine::{JobFacts, JobResult};
use crate::text::cut;

/// A mark is read up to this many bytes: a job runs as the same user, and may have written it.
const LIMIT: u64 = 64 * 1024;
/// A name that a hook was given is kept up to this many bytes.
const NAME_LIMIT: usize = 256;

/// Which of a job's hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Moment {
    /// `ACTIONS_RUNNER_HOOK_JOB_STARTED`
    Started,
    /// `ACTIONS_RUNNER_HOOK_JOB_COMPLETED`
    Completed,
}

/// The directory of the marks of one journal.
#[derive(Debug, Clone)]
pub struct Marks(PathBuf);

/// What the marks say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marked {
    /// Nothing began.
    Nothing,
    /// A job began, and did not end.
    Begun(JobFacts),
    /// A job ended, with this result where the listener said one.
    Completed(JobFacts, Option<JobResult>),
}

impl Marks {
    /// Those of the journal with this assignment's id, below a state directory. A journal that is made anew there has another id,
    /// and sees none of an earlier one's.
    pub fn below(state_dir: &Path, id: &str) -> Self {
        Self(state_dir.join(format!("job-{id}")))
    }

    /// Those in this directory.
    pub fn at(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Makes their directory.
    pub fn prepare(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    /// Marks a moment, durably. The first counts.
    pub fn mark(&self, moment: Moment, facts: &JobFacts) -> io::Result<()> {
        self.write(moment.into(), &serde_json::to_vec(facts)?)
    }

    /// Marks how the listener says that the job ended.
    pub fn result(&self, result: JobResult) -> io::Result<()> {
        self.write("result", <&str>::from(result).as_bytes())
    }

    /// What they say.
    pub fn read(&self) -> io::Result<Marked> {
        let facts = |bytes: &[u8]| serde_json::from_slice::<JobFacts>(bytes).unwrap_or_default().bounded();
        let begun = self.bytes(Moment::Started.into())?;
        let completed = self.bytes(Moment::Completed.into())?;
        let result = self.bytes("result")?;
        let result = result.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.parse().ok());
        Ok(match (completed, result, begun) {
            (Some(completed), result, begun) => {
                Marked::Completed(facts(begun.as_deref().unwrap_or(&completed)), result)
            }
            // GitHub has its end where the listener said one, whatever became of the hook.
            (None, result @ Some(_), begun) => Marked::Completed(facts(begun.as_deref().unwrap_or_default()), result),
            (None, None, Some(begun)) => Marked::Begun(facts(&begun)),
            (None, None, None) => Marked::Nothing,
        })
    }

    fn bytes(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(self.0.join(name));
        match file {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(LIMIT).read_to_end(&mut bytes)?;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.0.join(name);
        if path.exists() {
            return Ok(());
        }
        let draft = self.0.join(format!("{name}.tmp"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(&self.0)?.sync_all()
    }
}

impl JobFacts {
    /// What a hook's environment says of its job. `env` looks up a variable.
    pub fn of_hook(env: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name: &str| env(name).unwrap_or_default();
        Self {
            repository: text("GITHUB_REPOSITORY"),
            workflow: text("GITHUB_WORKFLOW"),
            job: text("GITHUB_JOB"),
            run_id: text("GITHUB_RUN_ID"),
            run_attempt: text("GITHUB_RUN_ATTEMPT"),
        }
        .bounded()
    }

    fn bounded(self) -> Self {
        let short = |text: String| cut(&crate::text::escape_controls(&text), NAME_LIMIT);
        Self {
            repository: short(self.repository),
            workflow: short(self.workflow),
            job: short(self.job),
            run_id: short(self.run_id),
            run_attempt: short(self.run_attempt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(job: &str) -> JobFacts {
        JobFacts::of_hook(|name| {
            Some(if name == "GITHUB_JOB" {
                job.to_owned()
            } else {
                String::new()
            })
        })
    }

    #[test]
    fn marks_say_what_came_and_the_first_of_each_counts() {
        let room = tempfile::tempdir().unwrap();
        let marks = Marks::below(room.path(), "1a2b3c4d");
        marks.prepare().unwrap();
        assert_eq!(marks.read().unwrap(), Marked::Nothing);
        marks.mark(Moment::Started, &facts("build")).unwrap();
        marks.mark(Moment::Started, &facts("another")).unwrap();
        assert_eq!(marks.read().unwrap(), Marked::Begun(facts("build")));
        marks.mark(Moment::Completed, &facts("build")).unwrap();
        assert_eq!(marks.read().unwrap(), Marked::Completed(facts("build"), None));
        marks.result(JobResult::Failed).unwrap();
        assert_eq!(
            marks.read().unwrap(),
            Marked::Completed(facts("build"), Some(JobResult::Failed))
        );
    }

    #[test]
    fn what_a_job_wrote_there_is_bounded_and_shows_no_control_character() {
        let room = tempfile::tempdir().unwrap();
        let marks = Marks::below(room.path(), "1a2b3c4d");
        marks.prepare().unwrap();
        let text = serde_json::json!({"job": format!("\u{1b}[31m{}", "x".repeat(1000))}).to_string();
        fs::write(marks.directory().join("started"), text).unwrap();
        let Marked::Begun(read) = marks.read().unwrap() else {
            panic!("a job began");
        };
        assert!(
            read.job.len() <= NAME_LIMIT + 3 && !read.job.contains('\u{1b}'),
            "{}",
            read.job
        );
        // What is no mark of ours marks all the same: a job began.
        fs::write(marks.directory().join("started"), vec![b'x'; 100_000]).unwrap();
        assert_eq!(marks.read().unwrap(), Marked::Begun(JobFacts::default()));
    }
}
