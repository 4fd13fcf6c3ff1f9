//! The timeline: a lane for each start of the runner, in it a bar for each attempt at an effect. An SVG without a size of its
//! own: places are in percent of the width, so that text stays as large as text on any screen.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::iter::Peekable;
use std::slice;

use super::escape::text;
use super::scale::Scale;
use crate::cli::journal::chronicle::{Bar, Boot, BootEnd, Chronicle, End, Gap};
use crate::cli::journal::words::{one_line, span};
use crate::machine::Millis;
use crate::telemetry::rfc3339;

/// Heights in pixels.
const AXIS: u32 = 26;
const HEAD: u32 = 30;
const BAR: u32 = 22;
const FOOT: u32 = 10;
/// The least width of a bar, in percent.
const LEAST: f64 = 0.6;

pub(super) fn write(chronicle: &Chronicle, out: &mut impl Write) -> io::Result<()> {
    let spans: Vec<(Millis, Millis)> = chronicle.bars().map(|(_, bar)| (bar.began, bar.until)).collect();
    let further = chronicle.boots.iter().flat_map(|boot| [boot.began, boot.until]);
    let scale = Scale::of(&spans, further.chain(chronicle.gaps.iter().map(|gap| gap.at)));
    let bars: usize = chronicle.boots.iter().map(|boot| boot.bars.len()).sum();
    let tall = AXIS
        + (HEAD + FOOT) * number(chronicle.boots.len())
        + BAR * number(bars + chronicle.gaps.len())
        + if chronicle.gaps.is_empty() { 0 } else { FOOT };
    writeln!(
        out,
        "<svg class=\"timeline\" height=\"{tall}\" role=\"group\" aria-label=\"Timeline: {} with {} attempts at effects\">",
        starts(chronicle),
        spans.len()
    )?;
    patterns(out)?;
    // The last one stands at the right edge, and the one before leaves it room.
    let mut ticks = scale.ticks(15.0);
    ticks.retain(|(_, x)| *x <= 78.0);
    ticks.extend((chronicle.length > 0).then_some((chronicle.length, 100.0)));
    for (at, x) in ticks {
        writeln!(
            out,
            "<line class=\"tick\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"{AXIS}\" y2=\"{tall}\"/>\
             <text class=\"tick\" x=\"{x:.2}%\" y=\"{}\"{}>{}</text>",
            AXIS - 9,
            if x > 92.0 { " text-anchor=\"end\"" } else { "" },
            span(at)
        )?;
    }
    let mut drawing = Drawing {
        scale,
        y: AXIS,
        gaps: chronicle.gaps.iter().peekable(),
        began: chronicle.began.unwrap_or(0),
    };
    let mut following = chronicle.boots.iter().skip(1);
    for boot in &chronicle.boots {
        drawing.gaps_before(boot.row, out)?;
        drawing.lane(boot, following.next().map_or(u64::MAX, |next| next.row), out)?;
    }
    drawing.gaps_before(u64::MAX, out)?;
    writeln!(out, "</svg>")?;
    legend(chronicle, out)
}

/// `1 start`, `2 starts`.
pub(super) fn starts(chronicle: &Chronicle) -> String {
    let kept = u32::try_from(chronicle.boots.len()).unwrap_or(u32::MAX);
    crate::text::count(kept.saturating_add(chronicle.boots_left_out), "start")
}

fn number(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// How far the drawing has come.
struct Drawing<'a> {
    scale: Scale,
    /// Where the next thing is drawn, in pixels from the top.
    y: u32,
    gaps: Peekable<slice::Iter<'a, Gap>>,
    /// When the first row was written.
    began: Millis,
}

impl Drawing<'_> {
    /// Draws a start, whose rows end before row `until`.
    fn lane(&mut self, boot: &Boot, until: u64, out: &mut impl Write) -> io::Result<()> {
        let (from, to) = (self.scale.at(boot.began), self.scale.at(boot.until));
        let top = self.y;
        let mut ahead = self.gaps.clone();
        let gaps = std::iter::from_fn(|| ahead.next_if(|gap| gap.from < until)).count();
        let tall = HEAD + BAR * number(boot.bars.len() + gaps);
        writeln!(
            out,
            "<g class=\"lane\" data-boot=\"{number}\">\
             <rect class=\"lane\" x=\"{from:.2}%\" y=\"{top}\" width=\"{:.2}%\" height=\"{}\" rx=\"4\"/>",
            (to - from).max(LEAST),
            tall + FOOT - 4,
            number = boot.number,
        )?;
        let died = boot.end == BootEnd::Unclean;
        if died {
            writeln!(
                out,
                "<line class=\"crash\" x1=\"{to:.2}%\" x2=\"{to:.2}%\" y1=\"{top}\" y2=\"{}\"/>",
                top + tall + FOOT - 4
            )?;
        }
        // Too near the right edge, its text ends where it begins.
        let (anchor, dx) = if from > 60.0 { ("end", -8) } else { ("start", 8) };
        let (dead, apart) = if died {
            ("<tspan class=\"died\" dx=\"8\">⚡ died: </tspan>", "")
        } else {
            ("", " dx=\"8\"")
        };
        let words = boot.end.words();
        writeln!(
            out,
            "<a href=\"#r{}\"><text class=\"head\" x=\"{from:.2}%\" dx=\"{dx}\" y=\"{}\" text-anchor=\"{anchor}\">Start {}\
             <tspan class=\"dim wide\" dx=\"8\">{}</tspan>{dead}<tspan class=\"{} wide\"{}>{}</tspan></text></a>",
            boot.row,
            top + 19,
            boot.number,
            rfc3339(self.began.saturating_add(boot.began)),
            if died { "died" } else { "dim" },
            apart,
            words.strip_prefix("died: ").unwrap_or(words),
        )?;
        self.y += HEAD;
        for bar in &boot.bars {
            self.gaps_before(bar.row, out)?;
            draw(bar, boot, &self.scale, self.y, out)?;
            self.y += BAR;
        }
        self.gaps_before(until, out)?;
        self.y += FOOT;
        writeln!(out, "</g>")
    }

    /// Draws where rows are missing, of those before a row.
    fn gaps_before(&mut self, row: u64, out: &mut impl Write) -> io::Result<()> {
        while let Some(gap) = self.gaps.next_if(|gap| gap.from < row) {
            missing(&gap.rows(), self.scale.at(gap.at), self.y, out)?;
            self.y += BAR;
        }
        Ok(())
    }
}

fn draw(bar: &Bar, boot: &Boot, scale: &Scale, y: u32, out: &mut impl Write) -> io::Result<()> {
    let (from, to) = (scale.at(bar.began), scale.at(bar.until));
    let width = (to - from).max(LEAST);
    let from = from.min(100.0 - width);
    let to = from + width;
    let class: &'static str = bar.end.into();
    let (word, meaning) = bar.end.meaning();
    let took = bar.took().map(|took| format!(" · {}", span(took))).unwrap_or_default();
    let said = bar.said.as_deref().map(|said| one_line(said, 160));
    let whole = format!(
        "{} {} in start {}: {word} ({meaning}){took}{}{}",
        bar.effect,
        bar.attempts(),
        boot.number,
        said.as_deref().map(|said| format!(". {said}")).unwrap_or_default(),
        bar.led_to.as_deref().map(|to| format!(" → {to}")).unwrap_or_default()
    );
    let (x, dx, anchor, inside) = if width >= 42.0 {
        (from, 8, "start", " in")
    } else if to <= 55.0 || from < 100.0 - to {
        (to, 8, "start", "")
    } else {
        (from, -8, "end", "")
    };
    let attempt = if bar.attempt == 1 && bar.further == 0 {
        String::new()
    } else {
        format!(" {}", bar.attempts())
    };
    let word = if bar.end == End::Done { "" } else { word };
    let further = said
        .filter(|_| bar.end == End::Done || anchor == "start")
        .map(|said| format!(" · {}", one_line(&said, 48)))
        .unwrap_or_default();
    writeln!(
        out,
        "<a href=\"#r{row}\" aria-label=\"{whole}\" class=\"bar {class}\" data-row=\"{row}\" data-effect=\"{effect}\" data-end=\"{class}\"><title>{whole}</title>\
         <rect class=\"hit\" x=\"{from:.2}%\" y=\"{y}\" width=\"{width:.2}%\" height=\"{BAR}\"/>\
         <rect class=\"fill\" x=\"{from:.2}%\" y=\"{top}\" width=\"{width:.2}%\" height=\"{tall}\" rx=\"3\"/>\
         <rect class=\"over\" x=\"{from:.2}%\" y=\"{top}\" width=\"{width:.2}%\" height=\"{tall}\" rx=\"3\" fill=\"url(#p-{class})\"/>\
         <text class=\"label{inside}\" x=\"{x:.2}%\" dx=\"{dx}\" y=\"{base}\" text-anchor=\"{anchor}\">\
         <tspan class=\"effect\">{mark} {effect}{attempt}</tspan><tspan> {word}{took}</tspan><tspan class=\"wide dim\">{further}{led}</tspan></text></a>",
        row = bar.row,
        whole = text(whole),
        effect = text(&bar.effect),
        top = y + 3,
        tall = BAR - 6,
        base = y + 15,
        mark = bar.end.mark(),
        further = text(further),
        led = bar
            .led_to
            .as_deref()
            .map(|to| text(format!(" → {to}")))
            .unwrap_or_default(),
    )
}

/// Where rows are missing.
fn missing(rows: &str, x: f64, y: u32, out: &mut impl Write) -> io::Result<()> {
    let (anchor, dx) = if x > 50.0 { ("end", -8) } else { ("start", 8) };
    writeln!(
        out,
        "<g class=\"missing\"><rect x=\"0\" y=\"{}\" width=\"100%\" height=\"{}\" rx=\"3\" fill=\"url(#p-lost)\"/>\
         <text x=\"{x:.2}%\" dx=\"{dx}\" y=\"{}\" text-anchor=\"{anchor}\">░ missing here: {}</text></g>",
        y + 2,
        BAR - 4,
        y + 15,
        text(rows)
    )
}

/// One pattern for each end, so that no bar is known by its colour alone.
fn patterns(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "<defs>")?;
    for (end, path) in [
        (End::Retry, "M-2,8 L8,-2 M0,10 L10,0 M6,10 L10,6"),
        (End::Failed, "M0,0 L8,8 M8,0 L0,8"),
        (End::GivenUp, "M4,1 L4,2 M0,5 L0,6 M8,5 L8,6"),
        (End::Missed, "M0,2 L8,2 M0,6 L8,6"),
        (End::Superseded, "M0,4 L8,4"),
        (End::Parked, "M2,0 L2,8"),
        (End::CutOff, "M0,0 L4,4 L0,8 M4,0 L8,4 L4,8"),
        (End::FoundNotDone, "M-2,8 L8,-2 M0,10 L10,0"),
        (End::FoundUnknown, "M4,1 L4,2 M0,5 L0,6 M8,5 L8,6"),
        (End::Open, "M0,8 L2,6"),
        (End::Lost, "M1,1 L2,1 M5,5 L6,5"),
    ] {
        let name: &'static str = end.into();
        writeln!(
            out,
            "<pattern id=\"p-{name}\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\"><path class=\"hatch\" d=\"{path}\"/></pattern>"
        )?;
    }
    writeln!(out, "</defs>")
}

/// What the marks, patterns and colours mean: those that are there.
fn legend(chronicle: &Chronicle, out: &mut impl Write) -> io::Result<()> {
    let ends: BTreeSet<End> = chronicle.bars().map(|(_, bar)| bar.end).collect();
    writeln!(out, "<ul class=\"legend\">")?;
    for end in ends {
        let class: &'static str = end.into();
        let (word, meaning) = end.meaning();
        writeln!(
            out,
            "<li><svg class=\"swatch\" width=\"30\" height=\"14\" aria-hidden=\"true\"><g class=\"bar {class}\">\
             <rect class=\"fill\" width=\"30\" height=\"14\" rx=\"3\"/><rect class=\"over\" width=\"30\" height=\"14\" rx=\"3\" fill=\"url(#p-{class})\"/></g></svg> \
             {} <b>{word}</b>: {meaning}</li>",
            end.mark()
        )?;
    }
    writeln!(
        out,
        "</ul>\n<p class=\"dim aside\">Not to scale: short spans are widened and pauses shortened, so that all can be seen. \
         The times are since the first row.</p>"
    )
}
