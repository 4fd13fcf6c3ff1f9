//! The `command` agent: anything that `/bin/sh -c` can run. The prompt is on standard input, exit 0 is success.

use super::{Place, PrepareError, Start, environment};

/// How to start a command, the agent's or another of the operator's, in its place.
pub fn shell(command: &str, place: &Place<'_>) -> Result<Start, PrepareError> {
    Ok(Start {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), command.into()],
        env: environment(place)?,
        reach: Vec::new(),
    })
}
