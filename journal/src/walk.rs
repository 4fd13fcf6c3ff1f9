//! Verifies rows one after the other, in constant memory: number, hash, chain, and the rules between rows.

use std::collections::{BTreeMap, BTreeSet};

use crate::columns::{Columns, Read};
use crate::entry::{Entry, Finding, Row};
use crate::form::{Form, Origin};
use crate::hash::{Hash, Head};
use crate::problem::{Problem, Problems};
use crate::rule::Rule;
use crate::schema::Schema;

/// A reader's walk along the chain.
///
/// A row counts as good when its hash is right, it names the hash of the row before, no rule speaks against it,
/// **and the next row does not contradict it**: so each is held back until the next has been seen.
#[derive(Debug)]
pub(crate) struct Walk {
    schema: &'static Schema,
    form: Form,
    /// The first row that is looked at.
    from: u64,
    machine: String,
    edges: Edges,
    past: Past,
    /// What the next row may name as the hash before it: the last row's, as it stands and as it would be right.
    before: [Option<Hash>; 2],
    last_seq: u64,
    chain: Chain,
    held: Option<Row>,
    good: u64,
    head: Head,
    pub(crate) problems: Problems,
    /// Room for what is hashed of a row.
    fields: Vec<u8>,
}

/// Whether the rows can still be traced back to row 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chain {
    Linked,
    Broken,
}

/// Whether to read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Row,
    Stop,
}

impl Walk {
    pub(crate) fn new(schema: &'static Schema, machine: String, edges: Edges) -> Self {
        Self::along(Form::of(schema), 1, schema, machine, edges)
    }

    /// Along rows of this form, from one of them on. What that one has before it is not looked at, and what rules say of
    /// earlier rows cannot be judged then.
    pub(crate) fn along(form: Form, from: u64, schema: &'static Schema, machine: String, edges: Edges) -> Self {
        Self {
            schema,
            form,
            from,
            machine,
            edges,
            past: Past {
                certain: from <= 1,
                ..Past::default()
            },
            before: [Some(Hash::ZERO), None],
            last_seq: from.saturating_sub(1),
            chain: Chain::Linked,
            held: None,
            good: 0,
            head: Head::EMPTY,
            problems: Problems::default(),
            fields: Vec::new(),
        }
    }

    pub(crate) fn schema(&self) -> &'static Schema {
        self.schema
    }

    /// The machine that the rows belong to.
    pub(crate) fn machine(&self) -> &str {
        &self.machine
    }

    /// What selects the rows to be walked along.
    pub(crate) fn select(&self) -> String {
        self.form.select_from(self.from)
    }

    /// A row that was selected so.
    pub(crate) fn read<'a>(&mut self, row: &'a rusqlite::Row<'_>) -> rusqlite::Result<Read<'a>> {
        Columns::read(row, &self.form, &self.machine, &mut self.fields)
    }

    /// Takes the next row up; calls back with the one before, if that one is good.
    pub(crate) fn step(&mut self, read: &Read<'_>, each: &mut impl FnMut(Row)) -> Next {
        let seq = match read {
            Read::Columns { columns, .. } => columns.seq,
            Read::Mistyped(seq, _) => *seq,
        };
        let expected = self.last_seq + 1;
        let seq = match u64::try_from(seq) {
            Ok(seq) if seq >= expected => seq,
            Ok(_) | Err(_) => {
                self.problems.push(Problem::Unreadable {
                    from: expected,
                    cause: format!("row {seq} comes out of order"),
                });
                return Next::Stop;
            }
        };
        if seq > expected {
            self.release(each);
            self.problems.push(Problem::Missing {
                from: expected,
                to: seq - 1,
            });
            self.chain = Chain::Broken;
        }
        self.last_seq = seq;
        match read {
            Read::Columns { columns, hash, right } => {
                if right != hash {
                    self.altered(seq, [Some(*hash), Some(*right)], each);
                } else if self.chain == Chain::Linked && self.may_follow(seq, columns.prev) {
                    self.release(each);
                    self.before = [Some(*hash), None];
                    self.judge(seq, columns.row(*hash));
                } else {
                    self.unlinked(seq);
                }
            }
            Read::Mistyped(_, hash) => self.altered(seq, [*hash, None], each),
        }
        Next::Row
    }

    /// Whether a row may name this hash as the one before it.
    fn may_follow(&self, seq: u64, prev: Hash) -> bool {
        (seq == self.from && seq > 1) || self.before.contains(&Some(prev))
    }

    /// No more rows: calls back with the last one, if it is good. Rows that verify, and where they end.
    pub(crate) fn end(&mut self, each: &mut impl FnMut(Row)) -> (u64, Head) {
        self.release(each);
        (self.good, self.head)
    }

    /// The number of the row that would come next.
    pub(crate) fn next_seq(&self) -> u64 {
        self.last_seq + 1
    }

    /// The current boot.
    pub(crate) fn boot(&self) -> u32 {
        self.past.boot
    }

    fn release(&mut self, each: &mut impl FnMut(Row)) {
        if let Some(row) = self.held.take() {
            self.good += 1;
            self.head = Head {
                seq: row.seq,
                hash: row.hash,
            };
            each(row);
        }
    }

    fn altered(&mut self, seq: u64, before: [Option<Hash>; 2], each: &mut impl FnMut(Row)) {
        self.release(each);
        self.problems.push(Problem::Altered { from: seq, to: seq });
        self.before = before;
        self.past.certain = false;
    }

    fn unlinked(&mut self, seq: u64) {
        if let Some(row) = self.held.take() {
            self.problems.push(Problem::Replaced { seq: row.seq });
        }
        self.chain = Chain::Broken;
        self.problems.push(Problem::Unlinked { from: seq, to: seq });
    }

    fn judge(&mut self, seq: u64, row: Result<Row, Rule>) {
        let legal = row.and_then(|row| {
            let judged = self.past.check(&self.edges, &row);
            self.past.take_in(&row);
            judged.map(|()| row)
        });
        match legal {
            Ok(row) => self.held = Some(row),
            Err(rule) => match self.form.origin {
                Origin::Known => self.problems.push(Problem::Illegal { seq, rule }),
                Origin::Newer => {
                    self.problems.push(Problem::NotUnderstood { from: seq, to: seq });
                    self.past.certain = false;
                }
            },
        }
    }
}

/// The machine's transitions, for look-ups by reference.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Edges(BTreeMap<String, BTreeSet<String>>);

impl Edges {
    pub(crate) fn insert(&mut self, src: String, dst: String) {
        self.0.entry(src).or_default().insert(dst);
    }

    pub(crate) fn contains(&self, src: &str, dst: &str) -> bool {
        self.0.get(src).is_some_and(|targets| targets.contains(dst))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .flat_map(|(src, targets)| targets.iter().map(move |dst| (src.as_str(), dst.as_str())))
    }
}

/// What the rows so far say, as far as a rule asks. Grows with states and effects, not with rows.
#[derive(Debug)]
struct Past {
    boot: u32,
    state: String,
    entered: BTreeSet<String>,
    attempts: BTreeMap<String, u32>,
    open: Option<(String, u32)>,
    verdict: bool,
    ack: bool,
    /// False once a row could not be read: rules about earlier rows can then no longer be judged.
    certain: bool,
}

impl Default for Past {
    fn default() -> Self {
        Self {
            boot: 0,
            state: String::new(),
            entered: BTreeSet::new(),
            attempts: BTreeMap::new(),
            open: None,
            verdict: false,
            ack: false,
            certain: true,
        }
    }
}

impl Past {
    fn check(&self, edges: &Edges, row: &Row) -> Result<(), Rule> {
        let rule = |broken: bool, rule: Rule| if broken { Err(rule) } else { Ok(()) };
        if let Entry::Enter { src, dst, .. } = &row.entry {
            rule(!edges.contains(src, dst), Rule::Edge)?;
        }
        if !self.certain {
            return Ok(());
        }
        let boot = if matches!(row.entry, Entry::Boot { .. }) {
            self.boot.checked_add(1)
        } else {
            Some(self.boot)
        };
        rule(boot != Some(row.boot), Rule::BootNumber)?;
        match &row.entry {
            Entry::Boot { .. } | Entry::Note { .. } => Ok(()),
            Entry::Enter { src, dst, .. } => {
                rule(*src != self.state, Rule::LeavesLastState)?;
                rule(self.entered.contains(dst), Rule::OneEnterPerState)
            }
            Entry::Intent { effect, attempt, .. } => {
                rule(self.open.is_some(), Rule::OneOpenIntent)?;
                let rises = self.attempts.get(effect).is_none_or(|last| attempt > last);
                rule(!rises, Rule::AttemptRises)
            }
            Entry::Probe { effect, attempt, .. } | Entry::Outcome { effect, attempt, .. } => {
                let open = self.open.as_ref().is_some_and(|(e, a)| e == effect && a == attempt);
                rule(!open, Rule::HasOpenIntent)
            }
            Entry::Verdict { .. } => rule(self.verdict, Rule::OneVerdict),
            Entry::Ack { .. } => {
                rule(!self.verdict, Rule::AckHasVerdict)?;
                rule(self.ack, Rule::OneAck)
            }
        }
    }

    fn take_in(&mut self, row: &Row) {
        self.boot = row.boot;
        match &row.entry {
            Entry::Boot { .. } | Entry::Note { .. } => {}
            Entry::Enter { dst, .. } => {
                self.state.clone_from(dst);
                self.entered.insert(dst.clone());
            }
            Entry::Intent { effect, attempt, .. } => {
                self.open = Some((effect.clone(), *attempt));
                match self.attempts.get_mut(effect) {
                    Some(last) => *last = *attempt,
                    None => {
                        self.attempts.insert(effect.clone(), *attempt);
                    }
                }
            }
            Entry::Probe { finding, .. } => {
                if *finding != Finding::Done {
                    self.open = None;
                }
            }
            Entry::Outcome { .. } => self.open = None,
            Entry::Verdict { .. } => self.verdict = true,
            Entry::Ack { .. } => self.ack = true,
        }
    }
}

#[cfg(test)]
mod tests;
