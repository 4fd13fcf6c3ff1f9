//! A row as it lies in the database: its columns, and the way to an [`Entry`] and back.

use rusqlite::types::ValueRef;

use crate::entry::{Entry, Finding, Kind, Row};
use crate::form::Form;
use crate::hash::Hash;
use crate::rule::Rule;
use crate::schema::{self, Schema};

/// The most that a body may hold, in bytes.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// How many columns every version has before `prev` and `hash`: those of version 1.
const OWN: usize = 12;

/// A row's columns, borrowed from wherever they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns<'a> {
    pub(crate) seq: i64,
    pub(crate) boot: i64,
    pub(crate) at_ms: i64,
    pub(crate) kind: &'a str,
    pub(crate) src: Option<&'a str>,
    pub(crate) dst: Option<&'a str>,
    pub(crate) effect: Option<&'a str>,
    pub(crate) attempt: Option<i64>,
    pub(crate) result: Option<&'a str>,
    pub(crate) key: Option<&'a str>,
    pub(crate) body: Option<&'a str>,
    pub(crate) blobs: Option<&'a [u8]>,
    pub(crate) prev: Hash,
}

/// A row as SQLite handed it out.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the stack")]
pub(crate) enum Read<'a> {
    /// Every column has its type.
    Columns {
        /// What is in them.
        columns: Columns<'a>,
        /// The hash that the row has.
        hash: Hash,
        /// The hash that it would have to have, over every column of its schema.
        right: Hash,
    },
    /// Some column has a type that a STRICT table cannot hold: the page was damaged. The hash, where it is one.
    Mistyped(i64, Option<Hash>),
}

impl<'a> Columns<'a> {
    /// The columns that say this.
    pub(crate) fn of(seq: i64, boot: u32, at_ms: i64, entry: &'a Entry, blobs: Option<&'a [u8]>, prev: Hash) -> Self {
        let (src, dst) = entry.edge().unzip();
        let (effect, attempt) = entry.effect().unzip();
        Self {
            seq,
            boot: i64::from(boot),
            at_ms,
            kind: entry.kind().into(),
            src,
            dst,
            effect,
            attempt: attempt.map(i64::from),
            result: entry.finding().map(Into::into),
            key: entry.key(),
            body: entry.body(),
            blobs,
            prev,
        }
    }

    /// A row as a form selects it; `fields` is room for what is hashed. Fails where not even its number can be read.
    pub(crate) fn read(
        row: &'a rusqlite::Row<'_>,
        form: &Form,
        machine: &str,
        fields: &mut Vec<u8>,
    ) -> rusqlite::Result<Read<'a>> {
        let seq = row.get(0)?;
        let width = form.width();
        let hash = row.get_ref(width + 1)?.as_bytes().ok().and_then(Hash::from_slice);
        let prev = row.get_ref(width)?.as_blob().ok().and_then(Hash::from_slice);
        let mut stored = [ValueRef::Null; OWN];
        for (index, value) in stored.iter_mut().enumerate() {
            *value = row.get_ref(index)?;
        }
        let columns = prev.and_then(|prev| Self::typed(seq, &stored, prev));
        Ok(match (columns, hash) {
            (Some(columns), Some(hash)) => {
                // As stored: a column that is read into nothing is covered like every other.
                let further = (OWN..width).map(|index| row.get_ref(index).unwrap_or(ValueRef::Null));
                let all = stored.into_iter().chain(further);
                let right = form.hash(machine, &columns.prev, all, fields);
                Read::Columns { columns, hash, right }
            }
            (Some(_) | None, hash) => Read::Mistyped(seq, hash),
        })
    }

    /// The columns, where each has its type.
    fn typed(seq: i64, stored: &[ValueRef<'a>; OWN], prev: Hash) -> Option<Self> {
        let [
            _,
            boot,
            at_ms,
            kind,
            src,
            dst,
            effect,
            attempt,
            result,
            key,
            body,
            blobs,
        ] = *stored;
        let text = |value: ValueRef<'a>| value.as_str_or_null().ok();
        Some(Self {
            seq,
            boot: boot.as_i64().ok()?,
            at_ms: at_ms.as_i64().ok()?,
            kind: text(kind)??,
            src: text(src)?,
            dst: text(dst)?,
            effect: text(effect)?,
            attempt: attempt.as_i64_or_null().ok()?,
            result: text(result)?,
            key: text(key)?,
            body: text(body)?,
            blobs: blobs.as_blob_or_null().ok()?,
            prev,
        })
    }

    /// The hash of a row with these columns.
    pub(crate) fn hash(&self, schema: &Schema, machine: &str) -> Hash {
        schema::hash(
            schema.version,
            machine,
            &self.prev,
            schema.values(self),
            &mut Vec::new(),
        )
    }

    /// The row that these columns are, if they are one.
    pub(crate) fn row(&self, hash: Hash) -> Result<Row, Rule> {
        let number = |value: i64| u32::try_from(value).ok().filter(|n| *n > 0).ok_or(Rule::Columns);
        if self
            .blobs
            .is_some_and(|blobs| blobs.is_empty() || blobs.len() % 32 != 0)
        {
            return Err(Rule::Columns);
        }
        if let Some(body) = self.body {
            check_body(body)?;
        }
        Ok(Row {
            seq: u64::try_from(self.seq).map_err(|_| Rule::NoGap)?,
            boot: number(self.boot)?,
            at_ms: self.at_ms,
            entry: self.entry()?,
            prev: self.prev,
            hash,
        })
    }

    fn entry(&self) -> Result<Entry, Rule> {
        let kind: Kind = self.kind.parse().map_err(|_| Rule::Columns)?;
        let text = |value: Option<&str>| {
            value
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
                .ok_or(Rule::Columns)
        };
        let effect = || text(self.effect);
        let key = || text(self.key);
        let attempt = || {
            let attempt = self.attempt.and_then(|n| u32::try_from(n).ok());
            attempt.filter(|n| *n > 0).ok_or(Rule::Columns)
        };
        let finding = || -> Result<Finding, Rule> { self.result.and_then(|r| r.parse().ok()).ok_or(Rule::Columns) };
        let body = || self.body.map(str::to_owned);
        let needed = || self.body.map(str::to_owned).ok_or(Rule::Columns);
        let entry = match kind {
            Kind::Boot => Entry::Boot { body: body() },
            Kind::Enter => Entry::Enter {
                src: self.src.map(str::to_owned).ok_or(Rule::Columns)?,
                dst: text(self.dst)?,
                body: body(),
            },
            Kind::Intent => Entry::Intent {
                effect: effect()?,
                attempt: attempt()?,
                key: key()?,
                body: body(),
            },
            Kind::Probe => Entry::Probe {
                effect: effect()?,
                attempt: attempt()?,
                finding: finding()?,
                body: body(),
            },
            Kind::Outcome => Entry::Outcome {
                effect: effect()?,
                attempt: attempt()?,
                finding: finding()?,
                body: body(),
            },
            Kind::Verdict => Entry::Verdict {
                key: key()?,
                body: needed()?,
            },
            Kind::Ack => Entry::Ack { body: body() },
            Kind::Note => Entry::Note { body: needed()? },
        };
        self.has_no_others(kind).then_some(entry).ok_or(Rule::Columns)
    }

    /// Whether the columns that the kind does not have are absent.
    fn has_no_others(&self, kind: Kind) -> bool {
        let moves = kind == Kind::Enter;
        let acts = matches!(kind, Kind::Intent | Kind::Probe | Kind::Outcome);
        let finds = matches!(kind, Kind::Probe | Kind::Outcome);
        let keyed = matches!(kind, Kind::Intent | Kind::Verdict);
        (moves || (self.src.is_none() && self.dst.is_none()))
            && (acts || (self.effect.is_none() && self.attempt.is_none()))
            && (finds || self.result.is_none())
            && (keyed || self.key.is_none())
    }
}

/// JSON of at most 64 KiB.
pub(crate) fn check_body(body: &str) -> Result<(), Rule> {
    let json = || serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok();
    if body.len() <= MAX_BODY && json() {
        Ok(())
    } else {
        Err(Rule::Body)
    }
}

#[cfg(test)]
mod tests;
