//! `runner journal dump --format mermaid`: the path taken, as a state diagram that renders where Markdown does.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write};

use super::chronicle::{Bar, Boot, BootEnd, Chronicle, End};
use super::post_mortem::PostMortem;
use super::runner::Runner;
use super::words::{is_obeyed, one_line, span};
use crate::machine::Millis;

/// What comes from a journal is this long at most, in characters.
const WORDS: usize = 100;
/// So many lines stand in a note.
const LINES: usize = 12;

pub(super) fn write(post_mortem: &PostMortem, chronicle: &Chronicle, out: &mut impl Write) -> io::Result<()> {
    let verdict = post_mortem.run.verdict.as_ref().map(|verdict| {
        let reason = verdict.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let told = match post_mortem.run.acknowledged {
            Some(_) => "acknowledged",
            None => "not acknowledged",
        };
        format!("{}{reason}, {told}", verdict.kind)
    });
    let of_runner = post_mortem.runner.as_ref().and_then(Runner::verdict).map(|verdict| {
        let reason = verdict.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("{}{reason}", verdict.event)
    });
    let verdict = verdict.or(of_runner);
    out.write_all(diagram(chronicle, verdict.as_deref()).as_bytes())
}

/// The diagram of a chronicle.
fn diagram(chronicle: &Chronicle, verdict: Option<&str>) -> String {
    let mut out = String::from("stateDiagram-v2\n");
    let names: Vec<String> = (chronicle.states.iter().enumerate())
        .map(|(at, entered)| identifier(&entered.state, at, &mut out))
        .collect();
    let mut before = "[*]";
    let mut since: (u64, Millis) = (0, 0);
    for (entered, name) in chronicle.states.iter().zip(&names) {
        let by = tried(chronicle, since.0, entered.row);
        let by = if by.is_empty() { "assigned".to_owned() } else { by };
        line(
            &mut out,
            format_args!(
                "{before} --> {name}: {}",
                Label(&format!("{by}, {}", span(entered.at - since.1)))
            ),
        );
        before = name;
        since = (entered.row, entered.at);
    }
    let Some(last) = names.last() else {
        line(
            &mut out,
            format_args!("[*] --> Nothing: {}", Label("no task was assigned")),
        );
        return out;
    };
    let end = verdict.unwrap_or("not over: the journal ends here");
    line(&mut out, format_args!("{last} --> [*]: {}", Label(end)));
    for (at, name) in names.iter().enumerate() {
        let from = if at == 0 { 0 } else { chronicle.states[at].row };
        let to = chronicle.states.get(at + 1).map_or(u64::MAX, |next| next.row);
        note(&mut out, name, &events(chronicle, from, to));
    }
    out
}

/// A name that Mermaid takes as it is; another one is declared with what it says.
fn identifier(state: &str, at: usize, out: &mut String) -> String {
    let is_plain =
        state.starts_with(|c: char| c.is_ascii_uppercase()) && state.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_plain {
        return state.to_owned();
    }
    let name = format!("State{at}");
    line(out, format_args!("state \"{}\" as {name}", Label(state)));
    name
}

/// The effects that were tried between two rows, with how often where it was not once.
fn tried(chronicle: &Chronicle, from: u64, to: u64) -> String {
    let mut tried: Vec<(&str, u32)> = Vec::new();
    for (_, bar) in chronicle
        .bars()
        .filter(|(_, bar)| bar.row > from && bar.row < to && !bar.is_look)
    {
        let times = bar.further.saturating_add(1);
        match tried.last_mut().filter(|(effect, _)| *effect == bar.effect) {
            Some((_, before)) => *before = before.saturating_add(times),
            None => tried.push((&bar.effect, times)),
        }
    }
    let named = tried.into_iter().map(|(effect, times)| match times {
        1 => effect.to_owned(),
        times => format!("{effect} ×{times}"),
    });
    named.collect::<Vec<_>>().join(", ")
}

/// What did not go straight on while a state was a fact, in order: each with its row.
fn events(chronicle: &Chronicle, from: u64, to: u64) -> Vec<String> {
    let within = |row: u64| row > from && row < to;
    let mut events: Vec<(u64, String)> = Vec::new();
    for (boot, bar) in chronicle
        .bars()
        .filter(|(_, bar)| within(bar.row) && bar.end != End::Done)
    {
        events.push((bar.row, attempt(boot, bar)));
    }
    for pair in chronicle.boots.windows(2) {
        if let [before, after] = pair
            && within(after.row)
            && before.end != BootEnd::Over
        {
            let ended = format!(
                "start {}: {}; start {} went on",
                before.number,
                before.end.words(),
                after.number
            );
            events.push((after.row - 1, ended));
        }
    }
    for gap in chronicle
        .gaps
        .iter()
        .filter(|gap| within(gap.from) || gap.from == from + 1)
    {
        events.push((gap.from, format!("{} not shown", gap.rows())));
    }
    events.sort_by_key(|(row, _)| *row);
    let left_out = events.len().saturating_sub(LINES);
    let mut lines: Vec<String> = events.into_iter().take(LINES).map(|(_, event)| event).collect();
    if left_out > 0 {
        lines.push(format!("and {left_out} more"));
    }
    lines
}

fn attempt(boot: &Boot, bar: &Bar) -> String {
    let took = bar
        .took()
        .map(|took| format!(" after {}", span(took)))
        .unwrap_or_default();
    let said = bar
        .said
        .as_deref()
        .map(|said| format!(": {}", one_line(said, WORDS)))
        .unwrap_or_default();
    format!(
        "{} {} in start {}: {}{took}{said}",
        bar.effect,
        bar.attempts(),
        boot.number,
        bar.end.meaning().0
    )
}

fn note(out: &mut String, name: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    line(out, format_args!("note right of {name}"));
    for text in lines {
        line(out, format_args!("    {}", Label(text)));
    }
    line(out, format_args!("end note"));
}

fn line(out: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "    {text}");
}

/// Text that cannot be anything but text: what Mermaid or HTML might read otherwise is its number.
struct Label<'a>(&'a str);

impl Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                _ if c.is_alphanumeric() => f.write_char(c)?,
                ' ' | '.' | ',' | '-' | '_' | '/' | '(' | ')' | '×' | '·' => f.write_char(c)?,
                _ if c.is_whitespace() => f.write_char(' ')?,
                _ if is_obeyed(c) => f.write_char('\u{fffd}')?,
                _ => write!(f, "#{};", u32::from(c))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
