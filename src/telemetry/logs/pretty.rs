//! A line of the log for a person: the time, how much it matters, what was said, and what else is known, in one line.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;
use serde_json::Value;
use tracing::Level;

use super::line::Draft;
use crate::text::escape_controls;

/// Whether a terminal is there to show them, and nobody has asked for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    On,
    Off,
}

impl Colours {
    fn paint(self, style: Style, text: &str) -> String {
        match self {
            Self::On => format!("{style}{text}{style:#}"),
            Self::Off => text.to_owned(),
        }
    }
}

/// The clock on the wall, the level, the message, and the event's own fields. What every line has beside that (the task, the
/// journal's head, the trace) is for machines: it is in the JSON.
pub(super) fn render(line: &Draft, colours: Colours) -> String {
    let dim = Style::new().dimmed();
    let time = jiff::Timestamp::from_millisecond(line.at).map_or_else(
        |_| String::new(),
        |at| at.to_zoned(TimeZone::system()).strftime("%H:%M:%S%.3f").to_string(),
    );
    let level = format!("{:5}", line.level.as_str());
    let mut text = format!(
        "{} {} {}",
        colours.paint(dim, &time),
        colours.paint(style(line.level), &level),
        escape_controls(&line.message)
    );
    for (name, value) in &line.fields {
        let value = match value {
            Value::String(text) => escape_controls(text),
            value => value.to_string(),
        };
        // Writing to a string does not fail.
        let _ = write!(text, " {}{value}", colours.paint(dim, &format!("{name}=")));
    }
    // Of our own modules the message says enough.
    if !line.target.starts_with("runner") {
        let _ = write!(text, " {}", colours.paint(dim, &format!("({})", line.target)));
    }
    text
}

fn style(level: Level) -> Style {
    match level {
        Level::ERROR => AnsiColor::Red.on_default().bold(),
        Level::WARN => AnsiColor::Yellow.on_default(),
        Level::INFO => AnsiColor::Green.on_default(),
        Level::DEBUG => AnsiColor::Blue.on_default(),
        Level::TRACE => Style::new().dimmed(),
    }
}
