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
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                other.to_string()
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: &str) -> Draft {
        Draft {
            at: 1_764_234_001_113,
            level: Level::WARN,
            target: target.to_owned(),
            message: "clone will be tried again: \u{1b}[2J\nno route".to_owned(),
            fields: vec![("attempt", 2.into()), ("cause", "a\u{9b}b".into())],
        }
    }

    #[test]
    fn a_person_gets_the_time_the_level_the_message_and_few_fields_in_one_line() {
        let plain = render(&line("runner::steps"), Colours::Off);
        let (time, rest) = plain.split_at(12);
        assert!(time.ends_with(":01.113"), "{time}");
        assert_eq!(
            rest,
            " WARN  clone will be tried again: \\u{1b}[2J\\nno route attempt=2 cause=a\\u{9b}b"
        );
        let library = render(&line("hyper::proto"), Colours::Off);
        assert!(library.ends_with(" (hyper::proto)"), "{library}");
    }

    #[test]
    fn colours_change_nothing_else_and_end_where_they_should() {
        let coloured = render(&line("runner::steps"), Colours::On);
        assert!(coloured.contains("\u{1b}[33mWARN \u{1b}[0m"), "{coloured:?}");
        assert_eq!(
            anstream::adapter::strip_str(&coloured).to_string(),
            render(&line("runner::steps"), Colours::Off)
        );
    }
}
