//! The `command` agent: anything that `/bin/sh -c` can run. The prompt is on standard input, exit 0 is success.

use super::environment::Environment;
use super::{PrepareError, Start, Surroundings};

pub(super) fn prepare(command: &str, surroundings: &Surroundings<'_>) -> Result<Start, PrepareError> {
    Ok(Start {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), command.into()],
        env: Environment::new(surroundings)?.into_list(),
    })
}
