//! The arguments of the hidden commands: only this binary writes them, so they are parsed strictly and without help.

use std::ffi::OsString;

use thiserror::Error;

/// What is wrong with the arguments of a hidden command: a bug of the caller, never a person's mistake.
#[derive(Debug, Error)]
pub(crate) enum OptionsError {
    #[error("option {0:?} is not known")]
    Unknown(OsString),
    #[error("option {0} needs a value")]
    NoValue(String),
    #[error("option {0} is missing")]
    Missing(&'static str),
    #[error("the value of option {0} is not a number")]
    NotANumber(&'static str),
    #[error("no program after --")]
    NoProgram,
}

/// One option, or the program with its arguments that ends them.
pub(crate) enum Argument {
    Option(String),
    Program(OsString, Vec<OsString>),
    End,
}

/// Walks over `--name value … -- PROGRAM ARGS…`.
pub(crate) struct Options<I>(I);

impl<I: Iterator<Item = OsString>> Options<I> {
    pub(crate) fn new(arguments: I) -> Self {
        Self(arguments)
    }

    pub(crate) fn next(&mut self) -> Result<Argument, OptionsError> {
        let Some(argument) = self.0.next() else {
            return Ok(Argument::End);
        };
        if argument == "--" {
            let program = self.0.next().ok_or(OptionsError::NoProgram)?;
            return Ok(Argument::Program(program, self.0.by_ref().collect()));
        }
        match argument.to_str() {
            Some(name) if name.starts_with("--") => Ok(Argument::Option(name.to_owned())),
            Some(_) | None => Err(OptionsError::Unknown(argument)),
        }
    }

    pub(crate) fn value(&mut self, name: &str) -> Result<OsString, OptionsError> {
        self.0.next().ok_or_else(|| OptionsError::NoValue(name.to_owned()))
    }
}
