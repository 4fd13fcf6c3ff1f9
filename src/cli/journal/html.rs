//! `runner journal dump --format html`: one file for people who never saw a state machine.
//!
//! It loads nothing, and its policy lets nothing be loaded: the style and the script in it run by their hashes. Whatever comes
//! from a journal or a transcript is escaped text (`escape.rs`), never markup, never script. The rows are written as they are
//! read, so that a long journal takes no more memory than a short one.

use std::io::{self, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use super::bodies::Bodies;
use super::chronicle::{Chronicle, Gap};
use super::explain::Explanation;
use super::post_mortem::PostMortem;
use super::runner::Runner;
use super::words::span;
use crate::machine::VerdictKind;
use crate::telemetry::rfc3339;
use escape::{Linked, Text, text};
use rows::Rows;

mod agent;
mod escape;
mod rows;
mod scale;
mod timeline;

const STYLE: &str = include_str!("../../assets/journal.css");
const SCRIPT: &str = include_str!("../../assets/journal.js");

/// `redacted` is how many rows are not shown as they are stored.
pub(super) fn write(
    post_mortem: &PostMortem,
    chronicle: &Chronicle,
    bodies: &Bodies,
    redacted: u64,
    out: &mut impl Write,
) -> io::Result<()> {
    head(post_mortem, out)?;
    top(post_mortem, chronicle, bodies, redacted, out)?;
    writeln!(
        out,
        "<section aria-labelledby=\"h-timeline\"><h2 id=\"h-timeline\">Timeline</h2>"
    )?;
    timeline::write(chronicle, out)?;
    writeln!(
        out,
        "</section>\n<section aria-labelledby=\"h-agent\"><h2 id=\"h-agent\">The agent</h2>"
    )?;
    agent::write(chronicle, &post_mortem.place.file, bodies, out)?;
    writeln!(out, "</section>")?;
    writeln!(out, "{ROWS}")?;
    let mut rows = Rows::new(chronicle, bodies, &mut *out);
    post_mortem.each(|row| rows.take(row))?;
    rows.end()?;
    foot(post_mortem, out)
}

/// What stands above the rows. The controls are for the script, which shows them.
const ROWS: &str = r#"<section id="rows" aria-labelledby="h-rows"><h2 id="h-rows">Every row</h2>
<noscript><p class="dim">Filter, search and keys need JavaScript. Every row is here and opens without it.</p></noscript>
<form class="controls" role="search" aria-label="Filter the rows" hidden>
<input type="search" id="search" placeholder="Search in the rows" title="Each word has to be there; &quot;several words&quot; together" aria-label="Search in the rows" autocomplete="off" spellcheck="false">
<label>kind <select id="by-kind"></select></label>
<label>effect <select id="by-effect"></select></label>
<label>start <select id="by-boot"></select></label>
<label>result <select id="by-result"></select></label>
<button type="reset" id="clear">Clear</button>
<output id="count" aria-live="polite"></output>
</form>
<p class="columns" aria-hidden="true"><span class="n">row</span><span class="t">time</span><span class="b">start</span><span class="k">kind</span><span class="w">what it says</span></p>
"#;

/// What the keys do.
const KEYS: &str = r#"<dialog id="keys" aria-labelledby="h-keys"><h2 id="h-keys">Keys</h2><dl>
<dt><kbd>/</kbd></dt><dd>search</dd>
<dt><kbd>j</kbd> <kbd>k</kbd></dt><dd>next row, row before</dd>
<dt><kbd>Enter</kbd></dt><dd>open or close the row</dd>
<dt><kbd>Esc</kbd></dt><dd>clear search and filter</dd>
<dt><kbd>d</kbd></dt><dd>dark or light</dd>
<dt><kbd>?</kbd></dt><dd>this</dd>
</dl><form method="dialog"><button>Close</button></form></dialog>"#;

fn head(post_mortem: &PostMortem, out: &mut impl Write) -> io::Result<()> {
    let hash = |of: &str| BASE64_STANDARD.encode(Sha256::digest(of));
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{} · runner</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        hash(STYLE),
        hash(SCRIPT),
        text(task(post_mortem))
    )
}

fn task(post_mortem: &PostMortem) -> String {
    let runner = post_mortem.runner.as_ref().and_then(Runner::registered);
    match (&post_mortem.run.assignment, runner) {
        (Some(assignment), _) => format!("task {}", assignment.task_id),
        (None, Some(runner)) => format!("Actions runner of {}", runner.target),
        (None, None) => "no task".to_owned(),
    }
}

/// How the task stands, as a class, a mark and a word. Behind damage, nobody knows.
fn standing(verdict: Option<VerdictKind>, is_whole: bool) -> (&'static str, char, &'static str) {
    match verdict {
        Some(VerdictKind::Completed) => ("done", '✓', "completed"),
        Some(VerdictKind::Failed) => ("failed", '✗', "failed"),
        Some(VerdictKind::Superseded) => ("superseded", '⊘', "superseded"),
        None if is_whole => ("open", '…', "not over"),
        None => ("failed", '░', "not known"),
    }
}

/// The verdict, what it cost, what was done, what is next, and what is wrong with the journal.
fn top(
    post_mortem: &PostMortem,
    chronicle: &Chronicle,
    bodies: &Bodies,
    redacted: u64,
    out: &mut impl Write,
) -> io::Result<()> {
    let says = match (&post_mortem.runner, post_mortem.is_ours()) {
        (Some(runner), _) => runner.explanation(bodies),
        (None, Ok(())) => Explanation::of(post_mortem, bodies),
        (None, Err(_)) => unexplained(post_mortem.snapshot.machine()),
    };
    let (class, mark, word) = standing(post_mortem.verdict_kind(), post_mortem.findings().is_empty());
    let (first, rest) = first_sentence(&says.verdict);
    writeln!(
        out,
        "<header><div class=\"bar-top\"><span>{}</span><span class=\"buttons\"><button id=\"theme\" type=\"button\" hidden>Dark</button> \
         <button id=\"help\" type=\"button\" aria-haspopup=\"dialog\" hidden>Keys <kbd>?</kbd></button></span></div>\n\
         <h1 class=\"{class}\"><span class=\"badge\">{mark} {word}</span> {}</h1>",
        text(task(post_mortem)),
        Linked(first)
    )?;
    if !rest.is_empty() {
        writeln!(out, "<p class=\"verdict\">{}</p>", Linked(rest))?;
    }
    damage(post_mortem, chronicle, out)?;
    facts(post_mortem, chronicle, out)?;
    if let Some(cost) = &says.cost {
        writeln!(
            out,
            "<p class=\"cost\"><span class=\"dim\">cost</span> {}</p>",
            Text(cost)
        )?;
    }
    writeln!(out, "</header>\n<main>")?;
    if redacted > 0 {
        let note = super::head::not_shown(redacted);
        writeln!(out, "<p class=\"redacted\">{}</p>", text(note))?;
    }
    writeln!(out, "<div class=\"told\"><div>")?;
    list("What happened", &says.happened, out)?;
    writeln!(out, "</div><div>")?;
    if let Some(next) = &says.next {
        let (initial, more) = next.split_at(next.chars().next().map_or(0, char::len_utf8));
        writeln!(
            out,
            "<section class=\"next\"><h2>What to do next</h2><p>{}</p></section>",
            Linked(&(initial.to_uppercase() + more))
        )?;
    }
    list("What was done outside", &says.outside, out)?;
    writeln!(out, "</div></div>")
}

/// What can be said of a journal of another machine: its rows are shown, and nobody here knows what they mean.
fn unexplained(machine: Option<&str>) -> Explanation {
    Explanation {
        verdict: format!(
            "This is a journal of another machine, {}. Its rows are shown, and not explained.",
            machine.unwrap_or("whose name is lost")
        ),
        happened: Vec::new(),
        outside: Vec::new(),
        cost: None,
        next: None,
    }
}

/// The first sentence of a verdict, which is the page's heading, and the others.
fn first_sentence(verdict: &str) -> (&str, &str) {
    let end = verdict.find(". ").map_or(verdict.len(), |at| at + 1);
    (&verdict[..end], verdict[end..].trim_start())
}

fn list(title: &str, sentences: &[String], out: &mut impl Write) -> io::Result<()> {
    if sentences.is_empty() {
        return Ok(());
    }
    writeln!(out, "<section><h2>{title}</h2><ul>")?;
    for sentence in sentences {
        writeln!(out, "<li>{}</li>", Linked(sentence))?;
    }
    writeln!(out, "</ul></section>")
}

fn facts(post_mortem: &PostMortem, chronicle: &Chronicle, out: &mut impl Write) -> io::Result<()> {
    let mut facts = vec![
        ("state", post_mortem.state().unwrap_or("not assigned").to_owned()),
        (
            "starts",
            timeline::starts(chronicle)
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
        ),
        ("rows", post_mortem.summary.rows.to_string()),
        ("took", span(chronicle.over.unwrap_or(chronicle.length))),
    ];
    if let Some(began) = chronicle.began {
        facts.push(("began (UTC)", rfc3339(began).replace('T', " ")));
    }
    write!(out, "<dl class=\"facts\">")?;
    for (name, fact) in facts {
        write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", text(fact))?;
    }
    writeln!(out, "</dl>")
}

/// What is missing and from where, above everything else.
fn damage(post_mortem: &PostMortem, chronicle: &Chronicle, out: &mut impl Write) -> io::Result<()> {
    let findings = post_mortem.findings();
    if findings.is_empty() {
        return Ok(());
    }
    let what = match findings.newer {
        Some(_) => "This journal is of a newer program, and there may be more in it than is shown.",
        None => "This journal is damaged.",
    };
    let gaps: Vec<String> = chronicle.gaps.iter().map(Gap::rows).collect();
    let shown = if gaps.is_empty() {
        "Every row that is here verifies.".to_owned()
    } else {
        format!("Not shown: {}. Every row that is shown verifies.", gaps.join("; "))
    };
    writeln!(
        out,
        "<div class=\"damage\" role=\"note\" aria-label=\"Damage\"><p><b>▲ {what}</b> {} \
         What is said here of the task's state is from the rows before that.</p><ul>",
        text(shown)
    )?;
    let newer = findings.newer.filter(|newer| !findings.problems.contains(newer));
    for problem in newer.iter().chain(&findings.problems) {
        writeln!(out, "<li>{}</li>", Text(problem))?;
    }
    writeln!(out, "</ul></div>")
}

fn foot(post_mortem: &PostMortem, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "</section>\n</main>\n<footer><p>Journal <code>{}</code>, schema {}, read by runner {}. Head: row {}, <code>{}</code>.<br>\
         A lost end is seen only against a head that was kept elsewhere: <code>runner journal verify --head HASH</code>.</p></footer>\n\
         {KEYS}\n<script>{SCRIPT}</script>\n</body>\n</html>",
        text(post_mortem.place.name.display()),
        post_mortem.snapshot.schema(),
        crate::VERSION,
        post_mortem.summary.head.seq,
        post_mortem.summary.head.hash
    )
}

#[cfg(test)]
mod tests;
