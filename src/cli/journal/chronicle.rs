//! A journal as a chronicle: the starts of the runner, what each of them tried, the states it came to, and what is missing.
//!
//! A pure fold over the rows that verify, in bounded memory: of attempts that repeat each other, and of starts without end,
//! the first and the last are kept and the rest is counted.

use runner_journal::{Entry, Finding, Kind, Row, Summary};

use super::bodies::Bodies;
use super::history::is_over;
use crate::machine::{AgentReport, Millis};

mod end;
mod gap;
mod said;

pub(super) use end::{BootEnd, End};
pub(super) use gap::Gap;

use said::Said;

/// Attempts at one effect that failed one after the other are this many bars, and the last of them stands for the rest.
const ALIKE: usize = 4;
/// So many bars of one start are kept, and so many starts.
const BARS: usize = 100;
const BOOTS: usize = 60;
/// So many states and gaps. A machine has fewer states; a journal that others wrote might not.
const STATES: usize = 100;

/// What happened, as far as the rows tell.
#[derive(Debug, Default)]
pub(super) struct Chronicle {
    /// In order.
    pub(super) boots: Vec<Boot>,
    /// Starts that are not in the list: they were in its middle.
    pub(super) boots_left_out: u32,
    /// The states that were entered, in order.
    pub(super) states: Vec<Entered>,
    /// Where rows are missing, in order.
    pub(super) gaps: Vec<Gap>,
    /// When the first row was written, in milliseconds since 1970.
    pub(super) began: Option<Millis>,
    /// From the first row to the last, in milliseconds.
    pub(super) length: Millis,
    /// From the first row to the one that entered the machine's last state, where there is one.
    pub(super) over: Option<Millis>,
    /// The row of the verdict.
    pub(super) verdict: Option<u64>,
}

/// One process of the runner. Times are in milliseconds from the first row of the journal.
#[derive(Debug)]
pub(super) struct Boot {
    pub(super) number: u32,
    /// The first row of it that is there.
    pub(super) row: u64,
    pub(super) began: Millis,
    /// Its last row; for a start that was followed by another one, when that began.
    pub(super) until: Millis,
    pub(super) end: BootEnd,
    pub(super) bars: Vec<Bar>,
    /// Bars that are not in the list: they were in its middle.
    pub(super) left_out: u32,
}

/// One attempt at an effect, or a look at what came of one.
#[derive(Debug)]
pub(super) struct Bar {
    /// The row that it began with.
    pub(super) row: u64,
    pub(super) effect: String,
    pub(super) attempt: u32,
    /// How many attempts after this one it stands for as well.
    pub(super) further: u32,
    pub(super) began: Millis,
    pub(super) until: Millis,
    pub(super) end: End,
    /// Whether it is a look at what came of an attempt: when that ended, nobody saw.
    pub(super) is_look: bool,
    /// What is worth saying of it, in a few words.
    pub(super) said: Option<String>,
    /// The state that it led to.
    pub(super) led_to: Option<String>,
    /// What the agent said of itself, and what it took.
    pub(super) report: Option<Box<AgentReport>>,
}

/// A state that became a fact.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) row: u64,
    pub(super) at: Millis,
    pub(super) state: String,
}

/// Time since the first row. It never goes back, whatever the writers' clocks did.
#[derive(Debug, Default)]
pub(super) struct Clock {
    last: Option<Millis>,
    elapsed: Millis,
}

impl Clock {
    /// The time since the first row of a row that was written at `at_ms`.
    pub(super) fn at(&mut self, at_ms: Millis) -> Millis {
        if let Some(last) = self.last {
            self.elapsed = self.elapsed.saturating_add(at_ms.saturating_sub(last).max(0));
        }
        self.last = Some(at_ms);
        self.elapsed
    }
}

/// The fold.
pub(super) struct Telling<'a> {
    bodies: &'a Bodies,
    chronicle: Chronicle,
    clock: Clock,
    /// The number that the next row has, unless rows are missing.
    next: u64,
}

impl<'a> Telling<'a> {
    pub(super) fn new(bodies: &'a Bodies) -> Self {
        Self {
            bodies,
            chronicle: Chronicle::default(),
            clock: Clock::default(),
            next: 1,
        }
    }

    /// Takes the next row that verifies.
    pub(super) fn take(&mut self, row: &Row) {
        let at = self.clock.at(row.at_ms);
        self.chronicle.began.get_or_insert(row.at_ms);
        self.chronicle.length = at;
        if row.seq > self.next {
            self.lose(self.next, Some(row.seq - 1), at);
        }
        self.next = row.seq.saturating_add(1);
        let is_boot = row.entry.kind() == Kind::Boot;
        if is_boot || self.chronicle.boots.last().is_none_or(|boot| boot.number != row.boot) {
            self.boot(row, at, is_boot);
        }
        if is_over(row) {
            self.chronicle.over = Some(at);
        }
        let said = row.entry.body().map(|body| Said::of(&self.bodies.show(body)));
        self.event(row, at, said.unwrap_or_default());
    }

    /// The chronicle, once there are no more rows.
    pub(super) fn end(mut self, summary: &Summary) -> Chronicle {
        if let Some((from, to)) = gap::after(self.next, &summary.problems) {
            self.lose(from, to, self.chronicle.length);
        }
        for gap in &mut self.chronicle.gaps {
            gap.why = gap::why(gap, &summary.problems);
        }
        self.chronicle
    }

    /// Rows are missing: how what was open ended, nobody knows.
    fn lose(&mut self, from: u64, to: Option<u64>, at: Millis) {
        if self.chronicle.gaps.len() < STATES {
            self.chronicle.gaps.push(Gap::new(from, to, at));
        }
        if let Some(boot) = self.chronicle.boots.last_mut() {
            boot.until = at;
            if boot.end == BootEnd::Last {
                boot.end = BootEnd::Lost;
            }
            if let Some(bar) = boot.bars.last_mut().filter(|bar| bar.end == End::Open) {
                bar.end = End::Lost;
                bar.until = at;
            }
        }
    }

    fn boot(&mut self, row: &Row, at: Millis, has_row: bool) {
        let assigned = !self.chronicle.states.is_empty();
        if let Some(before) = self.chronicle.boots.last_mut() {
            let open = before.bars.last_mut().filter(|bar| bar.end == End::Open);
            // What it left open, it left to the next start.
            let is_left = before.end.is_left();
            let until = if is_left { before.until } else { at };
            if !is_left && (before.end == BootEnd::Last || open.is_some()) {
                before.end = match (has_row, assigned) {
                    (true, true) => BootEnd::Unclean,
                    (true, false) => BootEnd::Idle,
                    (false, _) => BootEnd::Lost,
                };
                before.until = at;
            }
            if let Some(bar) = open {
                bar.end = match (is_left, has_row) {
                    (true, _) => End::Parked,
                    (false, true) => End::CutOff,
                    (false, false) => End::Lost,
                };
                bar.until = until;
            }
        }
        if self.chronicle.boots.len() == BOOTS {
            self.chronicle.boots.remove(BOOTS / 3);
            self.chronicle.boots_left_out += 1;
        }
        self.chronicle.boots.push(Boot {
            number: row.boot,
            row: row.seq,
            began: at,
            until: at,
            end: BootEnd::so_far(self.chronicle.over.is_some()),
            bars: Vec::new(),
            left_out: 0,
        });
    }

    fn event(&mut self, row: &Row, at: Millis, said: Said) {
        let Some(boot) = self.chronicle.boots.last_mut() else {
            return;
        };
        boot.until = at;
        // It goes on after what is missing.
        if boot.end == BootEnd::Lost {
            boot.end = BootEnd::so_far(self.chronicle.over.is_some());
        }
        match &row.entry {
            Entry::Intent { effect, attempt, .. } => {
                boot.begin(Bar::new(row.seq, effect, *attempt, at, End::Open));
            }
            Entry::Probe {
                effect,
                attempt,
                finding,
                ..
            } => {
                if let Some(bar) = boot.open(effect, *attempt) {
                    // The answer was lost, and the same start looks. What is done has its outcome in the next row.
                    match finding {
                        Finding::Done => {}
                        Finding::NotDone => bar.close(at, End::Retry, said),
                        Finding::Unknown => bar.close(at, End::GivenUp, said),
                    }
                    return;
                }
                let mut bar = Bar::new(row.seq, effect, *attempt, at, End::looked(*finding));
                bar.is_look = true;
                bar.report = said.report;
                boot.begin(bar);
            }
            Entry::Outcome {
                effect,
                attempt,
                finding,
                ..
            } => {
                let end = said.end.unwrap_or(match finding {
                    Finding::Done => End::Done,
                    Finding::NotDone => End::Retry,
                    Finding::Unknown => End::GivenUp,
                });
                if let Some(bar) = boot.open(effect, *attempt) {
                    bar.close(at, end, said);
                    boot.join_alike();
                } else if let Some(bar) = boot.bars.last_mut().filter(|bar| bar.is(effect, *attempt)) {
                    // It was looked for and found: this is what. It may have ended badly.
                    if end != End::Done {
                        bar.end = end;
                    }
                    bar.said = said.words;
                    bar.report = said.report.or(bar.report.take());
                } else {
                    // Its intent is among what is missing.
                    let mut bar = Bar::new(row.seq, effect, *attempt, at, End::Open);
                    bar.close(at, end, said);
                    boot.begin(bar);
                }
            }
            Entry::Enter { dst, .. } => {
                if self.chronicle.over.is_some() {
                    boot.end = BootEnd::Over;
                }
                if let Some(bar) = boot.bars.last_mut().filter(|bar| bar.end.is_success()) {
                    bar.led_to.get_or_insert_with(|| dst.clone());
                }
                if self.chronicle.states.len() < STATES {
                    self.chronicle.states.push(Entered {
                        row: row.seq,
                        at,
                        state: dst.clone(),
                    });
                }
            }
            Entry::Verdict { .. } => self.chronicle.verdict = Some(row.seq),
            Entry::Ack { .. } => boot.end = BootEnd::Over,
            Entry::Note { .. } => boot.end = said.left.unwrap_or(boot.end),
            Entry::Boot { .. } => {}
        }
    }
}

impl Chronicle {
    /// Every bar with its start, in order.
    pub(super) fn bars(&self) -> impl Iterator<Item = (&Boot, &Bar)> {
        self.boots
            .iter()
            .flat_map(|boot| boot.bars.iter().map(move |bar| (boot, bar)))
    }

    /// The starts of the agent in order. What was cut off has the report of the look at it.
    pub(super) fn agent_starts(&self) -> Vec<AgentStart<'_>> {
        let mut starts: Vec<AgentStart<'_>> = Vec::new();
        for (boot, bar) in self.bars().filter(|(_, bar)| bar.effect == "agent") {
            match starts.iter_mut().find(|start| start.bar.attempt == bar.attempt) {
                Some(start) => {
                    start.report = bar.report.as_deref().or(start.report);
                    start.looked = Some(bar.end);
                }
                None => starts.push(AgentStart {
                    boot: boot.number,
                    bar,
                    report: bar.report.as_deref(),
                    looked: None,
                }),
            }
        }
        starts
    }
}

/// A start of the agent.
pub(super) struct AgentStart<'a> {
    pub(super) boot: u32,
    pub(super) bar: &'a Bar,
    pub(super) report: Option<&'a AgentReport>,
    /// What a later start of the runner found of it.
    pub(super) looked: Option<End>,
}

impl Boot {
    fn begin(&mut self, bar: Bar) {
        if self.bars.len() == BARS {
            self.bars.remove(BARS / 3);
            self.left_out += 1;
        }
        self.bars.push(bar);
    }

    /// The bar that is open, where it is of this attempt.
    fn open(&mut self, effect: &str, attempt: u32) -> Option<&mut Bar> {
        let last = self.bars.last_mut()?;
        (last.end == End::Open && last.is(effect, attempt)).then_some(last)
    }

    /// Where the last attempts all came to the same nothing, the last two become one.
    fn join_alike(&mut self) {
        let [.., before, last] = self.bars.as_slice() else {
            return;
        };
        let alike = |bar: &&Bar| bar.effect == last.effect && bar.end == End::Retry;
        if self.bars.iter().rev().take_while(alike).count() <= ALIKE || before.effect != last.effect {
            return;
        }
        if let (Some(last), Some(before)) = (self.bars.pop(), self.bars.last_mut()) {
            before.further += 1;
            before.until = last.until;
            before.said = last.said;
            before.report = last.report;
        }
    }
}

impl Bar {
    fn new(row: u64, effect: &str, attempt: u32, at: Millis, end: End) -> Self {
        Self {
            row,
            effect: effect.to_owned(),
            attempt,
            further: 0,
            began: at,
            until: at,
            end,
            is_look: false,
            said: None,
            led_to: None,
            report: None,
        }
    }

    fn is(&self, effect: &str, attempt: u32) -> bool {
        self.effect == effect && self.attempt == attempt
    }

    fn close(&mut self, at: Millis, end: End, said: Said) {
        self.until = at;
        self.end = end;
        self.said = said.words;
        self.report = said.report;
    }

    /// The attempts that it stands for: `#1`, or `#4 to #90`.
    pub(super) fn attempts(&self) -> String {
        match self.further {
            0 => format!("#{}", self.attempt),
            further => format!("#{} to #{}", self.attempt, self.attempt.saturating_add(further)),
        }
    }

    /// How long it took, where that is known.
    pub(super) fn took(&self) -> Option<Millis> {
        (self.end.is_timed() && !self.is_look).then_some(self.until - self.began)
    }
}

#[cfg(test)]
mod tests;
