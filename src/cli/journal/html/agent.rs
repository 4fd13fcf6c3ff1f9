//! What the agent did and took: each start of it from the journal, its turns and tools from the transcripts beside it.

use std::io::{self, Write};
use std::path::Path;

use super::escape::{Text, text};
use crate::adapters::agent::{MicroUsd, ToolResult};
use crate::cli::journal::bodies::Bodies;
use crate::cli::journal::chronicle::{AgentStart, Chronicle};
use crate::cli::journal::transcript::{self, Doing, Transcript};
use crate::cli::journal::words::span;
use crate::machine::Effort;

/// Of so many starts the transcripts are read: the last ones.
const READ: usize = 20;

pub(super) fn write(chronicle: &Chronicle, journal: &Path, bodies: &Bodies, out: &mut impl Write) -> io::Result<()> {
    let starts = chronicle.agent_starts();
    if starts.is_empty() {
        return writeln!(out, "<p>The agent was not started.</p>");
    }
    table(&starts, out)?;
    let unread = starts.len().saturating_sub(READ);
    if unread > 0 {
        writeln!(
            out,
            "<p class=\"dim\">What the first {unread} of them did is not shown.</p>"
        )?;
    }
    for start in starts.iter().skip(unread) {
        writeln!(
            out,
            "<details class=\"transcript\" data-attempt=\"{0}\"><summary>What the agent did, attempt {0}</summary>",
            start.bar.attempt
        )?;
        if let Some(summary) = start.report.and_then(|report| report.summary.as_deref()) {
            writeln!(out, "<blockquote>{}</blockquote>", Text(&bodies.show(summary)))?;
        }
        let path = transcript::beside(journal, start.bar.attempt);
        match transcript::read(&path) {
            Ok(Some(told)) => did(&told, out)?,
            Ok(None) => writeln!(
                out,
                "<p class=\"dim\">Its transcript is not beside the journal ({}): the turns and tools are in it alone.</p>",
                text(path.display())
            )?,
            Err(error) => writeln!(
                out,
                "<p class=\"dim\">Its transcript {} cannot be read: {}</p>",
                text(path.display()),
                text(error)
            )?,
        }
        writeln!(out, "</details>")?;
    }
    Ok(())
}

fn table(starts: &[AgentStart<'_>], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Starts of the agent\"><table><thead><tr>\
         <th scope=\"col\">attempt</th><th scope=\"col\">began</th><th scope=\"col\">ran</th><th scope=\"col\">ended</th>\
         <th scope=\"col\">model</th><th scope=\"col\" class=\"num\">turns</th><th scope=\"col\" class=\"num\">tokens in</th>\
         <th scope=\"col\" class=\"num\">out</th><th scope=\"col\" class=\"num\">cost</th></tr></thead><tbody>"
    )?;
    let mut total = Effort::default();
    for start in starts {
        let effort = start.report.map(|report| report.effort).unwrap_or_default();
        total = total.plus(effort);
        let class: &'static str = start.bar.end.into();
        let mut ended = format!("{} {}", start.bar.end.mark(), start.bar.end.meaning().0);
        if let Some(looked) = start.looked {
            ended = format!("{ended}, {}", looked.meaning().0);
        }
        let ran = start.report.map(|report| report.effort.ran_ms).or(start.bar.took());
        write!(
            out,
            "<tr class=\"{class}\"><th scope=\"row\"><a href=\"#r{}\">{}</a></th><td>{} <span class=\"dim\">in start {}</span></td><td>{}</td><td>{}</td><td>{}</td>",
            start.bar.row,
            text(start.bar.attempts()),
            span(start.bar.began),
            start.boot,
            ran.map_or("not known".to_owned(), span),
            text(ended),
            start
                .report
                .and_then(|report| report.model.as_deref())
                .map_or("–".to_owned(), text),
        )?;
        taken(&effort, out)?;
    }
    if starts.len() > 1 {
        write!(
            out,
            "</tbody><tfoot><tr><th scope=\"row\">all</th><td></td><td>{}</td><td></td><td></td>",
            span(total.ran_ms)
        )?;
        taken(&total, out)?;
        writeln!(out, "</tfoot></table></div>")
    } else {
        writeln!(out, "</tbody></table></div>")
    }
}

/// The last cells of a row. What nobody counted is a dash.
fn taken(effort: &Effort, out: &mut impl Write) -> io::Result<()> {
    for number in [effort.turns, effort.input_tokens, effort.output_tokens] {
        let number = number.map_or("–".to_owned(), |number| number.to_string());
        write!(out, "<td class=\"num\">{number}</td>")?;
    }
    let cost = effort.cost_micro_usd.map(MicroUsd::from_micros);
    let cost = cost.map_or("–".to_owned(), |cost| format!("${cost}"));
    writeln!(out, "<td class=\"num\">{cost}</td></tr>")
}

fn did(told: &Transcript, out: &mut impl Write) -> io::Result<()> {
    if !told.tools.is_empty() {
        write!(out, "<p class=\"tools\">")?;
        for (tool, uses) in &told.tools {
            let failed = match uses.failed {
                0 => String::new(),
                failed => format!(", <span class=\"bad\">✗ {failed}</span>"),
            };
            write!(
                out,
                "<span class=\"chip\"><b>{}</b> × {}{failed}</span> ",
                Text(tool),
                uses.times
            )?;
        }
        writeln!(out, "</p>")?;
    }
    if !told.first.is_empty() {
        writeln!(out, "<ol class=\"doings\">")?;
        told.first.iter().try_for_each(|doing| one(doing, out))?;
        if told.left_out > 0 {
            writeln!(out, "<li class=\"gap\">… {} more …</li>", told.left_out)?;
        }
        told.last.iter().try_for_each(|doing| one(doing, out))?;
        writeln!(out, "</ol>")?;
    }
    if !told.plain.trim().is_empty() {
        writeln!(
            out,
            "<p class=\"dim\">The end of what it printed:</p><pre tabindex=\"0\">{}</pre>",
            Text(told.plain.trim_end())
        )?;
    }
    if told.first.is_empty() && told.plain.trim().is_empty() {
        writeln!(out, "<p class=\"dim\">It printed nothing.</p>")?;
    }
    if told.cut {
        writeln!(
            out,
            "<p class=\"dim\">The transcript goes on, and no more of it was read: it is very long.</p>"
        )?;
    }
    Ok(())
}

fn one(doing: &Doing, out: &mut impl Write) -> io::Result<()> {
    match doing {
        Doing::Said(said) => writeln!(out, "<li class=\"said\">{}</li>", Text(said)),
        Doing::Trouble(trouble) => writeln!(out, "<li class=\"trouble\">✗ {}</li>", Text(trouble)),
        Doing::Used { tool, what, result } => {
            let (mark, class) = match result {
                Some(ToolResult::Succeeded) => ("✓", ""),
                Some(ToolResult::Failed) => ("✗", " bad"),
                None => ("…", ""),
            };
            writeln!(
                out,
                "<li class=\"used{class}\"><b>{mark} {}</b> <code>{}</code></li>",
                Text(tool),
                Text(what)
            )
        }
    }
}
