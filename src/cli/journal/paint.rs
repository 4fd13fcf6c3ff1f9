//! Colour, where there is a terminal that takes it.

use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

/// Whether there is colour. What it means is always said in words, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Paint {
    /// None.
    Plain,
    /// As a terminal shows it.
    Coloured,
}

/// What something is, for the eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Look {
    /// Nothing to look at.
    Plain,
    /// In the way, where one looks for what came of it.
    Faint,
    /// A state, or the beginning of something.
    Strong,
    /// It went well.
    Good,
    /// It is worth a look.
    Odd,
    /// It went wrong.
    Bad,
}

impl Paint {
    /// As standard output takes it: on a terminal, unless `NO_COLOR` says no; elsewhere where `CLICOLOR_FORCE` says so.
    pub(in crate::cli) fn of_stdout() -> Self {
        Self::of(AutoStream::choice(&io::stdout()))
    }

    /// The same of standard error.
    pub(in crate::cli) fn of_stderr() -> Self {
        Self::of(AutoStream::choice(&io::stderr()))
    }

    fn of(choice: ColorChoice) -> Self {
        match choice {
            ColorChoice::Never => Self::Plain,
            ColorChoice::Auto | ColorChoice::Always | ColorChoice::AlwaysAnsi => Self::Coloured,
        }
    }

    /// How something looks; `{style}` begins it, and `{style:#}` ends it.
    pub(in crate::cli) fn style(self, look: Look) -> Style {
        let plain = Style::new();
        match (self, look) {
            (Self::Plain, _) | (Self::Coloured, Look::Plain) => plain,
            (Self::Coloured, Look::Faint) => plain.dimmed(),
            (Self::Coloured, Look::Strong) => plain.bold(),
            (Self::Coloured, Look::Good) => AnsiColor::Green.on_default(),
            (Self::Coloured, Look::Odd) => AnsiColor::Yellow.on_default(),
            (Self::Coloured, Look::Bad) => AnsiColor::Red.on_default(),
        }
    }
}
