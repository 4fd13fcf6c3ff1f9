//! Every fact that can come in. An event is what one journal row stands for; `enter` rows follow from them.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString, IntoStaticStr};

use super::effect::EffectName;
use super::verdict::Verdict;
use crate::actions::names::{Labels, RunnerName, Target};
use crate::machine::Millis;

/// What this runner is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// Eight random hexadecimal digits: what is registered under a name with them is this journal's.
    pub id: String,
    /// Whose jobs it takes.
    pub target: Target,
    /// What its name begins with.
    pub name: RunnerName,
    /// What `runs-on` may ask it for.
    pub labels: Labels,
    /// Its group, by name.
    pub group: String,
    /// Where jobs work.
    pub work_folder: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Event {
    /// A process took the journal up.
    Booted {
        /// When.
        at: Millis,
    },
    /// What it is to be is journaled.
    Assigned {
        /// What.
        assignment: Assignment,
        /// When.
        at: Millis,
    },
    /// An effect is about to be acted upon.
    Intended {
        /// Which.
        effect: EffectName,
        /// The attempt's number.
        attempt: u32,
        /// When.
        at: Millis,
    },
    /// Somebody looked what came of the open intent.
    Probed {
        /// Of which effect.
        effect: EffectName,
        /// The attempt's number.
        attempt: u32,
        /// What was found.
        finding: Finding,
        /// When.
        at: Millis,
    },
    /// An attempt ended.
    Ended {
        /// Of which effect.
        effect: EffectName,
        /// The attempt's number.
        attempt: u32,
        /// How.
        outcome: Outcome,
        /// When.
        at: Millis,
    },
    /// The verdict is frozen. Nothing is registered any more.
    Concluded {
        /// The verdict.
        verdict: Verdict,
        /// When.
        at: Millis,
    },
    /// Something worth knowing.
    Noted {
        /// What.
        note: Note,
        /// When.
        at: Millis,
    },
}

impl Event {
    /// When it happened.
    pub fn at(&self) -> Millis {
        match self {
            Self::Booted { at }
            | Self::Assigned { at, .. }
            | Self::Intended { at, .. }
            | Self::Probed { at, .. }
            | Self::Ended { at, .. }
            | Self::Concluded { at, .. }
            | Self::Noted { at, .. } => *at,
        }
    }
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Finding {
    /// The effect has ended; its outcome is in the same transaction.
    Done,
    /// It has not, and may be done again.
    NotDone,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done {
        /// What is a fact now.
        #[serde(flatten)]
        fact: Fact,
    },
    /// The name is another runner's (409): the next attempt has another one.
    Taken {
        /// For a person.
        cause: String,
    },
    /// It was certainly not done, and may be tried again.
    Retry {
        /// For a person.
        cause: String,
        /// How long the other side asked to be left alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after_ms: Option<Millis>,
    },
    /// It was not done, and trying again would not help.
    Failed {
        /// Why.
        failure: Failure,
        /// For a person.
        cause: String,
    },
}

/// What an effect brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// A runner is registered.
    Registered {
        /// GitHub's number for it.
        id: u64,
        /// Its name.
        name: String,
        /// Whether its configuration is at hand: it is a secret, and in no row.
        config: Config,
    },
    /// The listener has ended for good, and no process of it or of the job lives.
    Job(JobReport),
    /// What was registered is not any more, and these names are not either.
    Removed {
        /// Names that were looked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        names: Vec<String>,
    },
}

/// Where the configuration of a registered runner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Config {
    /// In the memory of the process that registered it.
    AtHand,
    /// Nowhere: the answer that had it was lost.
    Lost,
}

/// What came of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobReport {
    /// Whether there was one, and whether it came to its end.
    pub end: JobEnd,
    /// How the listener says that it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JobResult>,
    /// What the job's hook knew of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobFacts>,
    /// How the listener ended, where somebody saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
}

/// Whether there was a job, and whether it came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum JobEnd {
    /// It was run to its end. Where there is no result, nobody knows whether GitHub was told.
    Ran,
    /// It began, and nobody knows its end: it is not begun again.
    Lost,
    /// There was none.
    None,
}

/// How a job ended, in the listener's words.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, EnumIter, IntoStaticStr,
)]
pub enum JobResult {
    /// All of it went well.
    Succeeded,
    /// It went well, with warnings.
    SucceededWithIssues,
    /// A step failed.
    Failed,
    /// It was cancelled: by a person, or because this runner was told to stop.
    Canceled,
    /// It was not run.
    Skipped,
    /// It was given up.
    Abandoned,
}

/// What the hook of a job knows of it. Names come from the repository: bounded, and shown escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobFacts {
    /// `OWNER/NAME`.
    pub repository: String,
    /// The workflow's name.
    pub workflow: String,
    /// The job's id in the workflow.
    pub job: String,
    /// The run's number.
    #[serde(rename = "runID")]
    pub run_id: String,
    /// Which attempt of the run it is.
    pub run_attempt: String,
}

/// Why a runner failed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, EnumIter, IntoStaticStr,
)]
pub enum Failure {
    /// 401.
    NotAuthorized,
    /// 403: the token has not the right.
    Forbidden,
    /// 404.
    TargetNotFound,
    /// The App is not installed there, or GitHub does not know it.
    AppNotInstalled,
    /// No group of that name.
    GroupNotFound,
    /// Every name that was tried is another runner's.
    NameTaken,
    /// 422, or another refusal.
    RegistrationRefused,
    /// The official runner is not where it is said to be.
    ListenerMissing,
    /// The listener ended without a job, and says that it could not go on.
    ListenerFailed,
    /// Somebody else listens under this registration.
    SessionConflict,
    /// GitHub takes no runner of this version any more.
    VersionDeprecated,
    /// The job began, and nobody knows its end.
    JobLost,
}

impl Failure {
    /// One sentence for a person.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NotAuthorized => "GitHub does not take the credential.",
            Self::Forbidden => "The credential may not register runners there.",
            Self::TargetNotFound => {
                "GitHub knows no such repository or organisation, or the credential may not see it."
            }
            Self::AppNotInstalled => "The GitHub App is not installed there.",
            Self::GroupNotFound => "There is no runner group of that name.",
            Self::NameTaken => "Every name that was tried belongs to another runner.",
            Self::RegistrationRefused => "GitHub refused the registration.",
            Self::ListenerMissing => "The official Actions runner is not there.",
            Self::ListenerFailed => "The official listener could not go on.",
            Self::SessionConflict => "Somebody else listens under this registration.",
            Self::VersionDeprecated => "GitHub takes no runner of this version any more.",
            Self::JobLost => "The job began, and its end is not known. It was not begun again.",
        }
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::NotAuthorized => {
                "give RUNNER_ACTIONS_TOKEN or the App's key anew: it is wrong, revoked or has expired"
            }
            Self::Forbidden => {
                "a fine-grained token or an App needs Administration: write for a repository, Self-hosted runners: write for \
                 an organisation; a group that GitHub hosts cannot be used"
            }
            Self::TargetNotFound => "look at RUNNER_ACTIONS_URL, and at what the credential may see",
            Self::AppNotInstalled => {
                "install the App on the repository or the organisation, or look at RUNNER_ACTIONS_APP_ID"
            }
            Self::GroupNotFound => "look at RUNNER_ACTIONS_GROUP; the groups are in the organisation's settings",
            Self::NameTaken => "choose another RUNNER_ACTIONS_NAME",
            Self::RegistrationRefused => {
                "its words say what GitHub does not take: labels, the group or the name, most likely"
            }
            Self::ListenerMissing => {
                "RUNNER_ACTIONS_DIR has to name the unpacked official runner, with bin/Runner.Listener in it"
            }
            Self::ListenerFailed => "its own words are in this log; the directory's _diag has the rest",
            Self::SessionConflict => "nobody else should have this runner's configuration; start a new one",
            Self::VersionDeprecated => "build the image with a newer version of the official runner",
            Self::JobLost => "run the job again on GitHub; the log says what killed the runner",
        }
    }
}

/// Something worth knowing, which moves nothing but the patience.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// The other side may have done the work, or not.
    AnswerLost {
        /// Of which effect.
        effect: EffectName,
        /// For a person.
        cause: String,
        /// How long the other side asked to be left alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after_ms: Option<Millis>,
    },
    /// This start ends, and leaves the rest to the next one.
    Left {
        /// Why.
        why: Left,
    },
}

/// Why a start leaves the rest to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Left {
    /// GitHub could not be reached for as long as it is waited for.
    Unreachable,
    /// It was told to stop, and the grace is over.
    OutOfGrace,
}
