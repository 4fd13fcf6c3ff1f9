//! How far the spans have got: a start that goes on with a killed runner's trace sends what that one had not.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::trace::SpanId;

/// Beside the journal, and of no weight: without it, spans are sent that were sent before, under the same names.
const FILE: &str = "spans-sent.json";

#[derive(Serialize, Deserialize)]
struct Mark {
    /// The task's span: the mark of another journal says nothing of this one.
    task: String,
    /// The last row whose spans a collector took, or will never take.
    seq: u64,
}

/// The mark, in a state directory.
#[derive(Debug, Clone)]
pub(in crate::telemetry) struct Sent {
    path: PathBuf,
}

impl Sent {
    pub(in crate::telemetry) fn in_dir(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join(FILE),
        }
    }

    /// The row up to which an earlier start had sent the spans of this task; 0 where nothing is known of it.
    pub(in crate::telemetry) fn read(&self, task: SpanId) -> u64 {
        let mark = std::fs::read(&self.path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Mark>(&bytes).ok());
        mark.filter(|mark| mark.task == task.to_string())
            .map_or(0, |mark| mark.seq)
    }

    /// Moves the mark. It is not synced, and where it cannot be written nothing is lost.
    pub(in crate::telemetry) async fn settle(&self, task: SpanId, seq: u64) {
        let mark = Mark {
            task: task.to_string(),
            seq,
        };
        let Ok(bytes) = serde_json::to_vec(&mark) else {
            return;
        };
        let half = self.path.with_extension("new");
        let written = async {
            tokio::fs::write(&half, bytes).await?;
            tokio::fs::rename(&half, &self.path).await
        };
        if let Err(error) = written.await {
            tracing::debug!("{} is not written: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mark_counts_for_its_task_alone_and_one_that_cannot_be_read_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let sent = Sent::in_dir(dir.path());
        let (own, other) = (SpanId([1; 8]), SpanId([2; 8]));
        assert_eq!(sent.read(own), 0);
        sent.settle(own, 7).await;
        sent.settle(own, 9).await;
        assert_eq!((sent.read(own), sent.read(other)), (9, 0));
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(sent.read(own), 0);
    }
}
