//! The versions of the tables: a journal keeps the one that it was made in, and is read and written by that one's rules.
//!
//! A next version is a file of tables, a `static` beside [`V1`] and a place in [`ALL`]; none is ever changed or taken
//! away. All have `meta`, `edge` and `blob` as version 1 has them, the columns of the version before come first, and
//! `prev` and `hash` last. What a row obeys is in its version's tables; a rule that readers check and that an older
//! version does not have is asked for in [`walk`](crate::walk) by the version.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::columns::Columns;
use crate::hash::Hash;

#[cfg(test)]
mod made_up;
#[cfg(test)]
mod tests;

/// The domain string: no other program's hash can be taken for a row's.
const DOMAIN: &[u8] = b"runner-journal/row";

/// Every version that this program reads and writes, the newest last.
pub(crate) static ALL: Known = Known(&[&V1]);

pub(crate) static V1: Schema = Schema {
    version: 1,
    tables: include_str!("schema/v1.sql"),
    columns: &[V1_COLUMNS],
    objects: OnceLock::new(),
};

const V1_COLUMNS: &[Column] = &[
    column("seq", |row| ValueRef::Integer(row.seq)),
    column("boot", |row| ValueRef::Integer(row.boot)),
    column("at_ms", |row| ValueRef::Integer(row.at_ms)),
    column("kind", |row| text(Some(row.kind))),
    column("src", |row| text(row.src)),
    column("dst", |row| text(row.dst)),
    column("effect", |row| text(row.effect)),
    column("attempt", |row| row.attempt.map_or(ValueRef::Null, ValueRef::Integer)),
    column("result", |row| text(row.result)),
    column("key", |row| text(row.key)),
    column("body", |row| text(row.body)),
    column("blobs", |row| row.blobs.map_or(ValueRef::Null, ValueRef::Blob)),
];

/// One version of the tables.
pub(crate) struct Schema {
    /// SQLite's `user_version`, and a part of every hash.
    pub(crate) version: u32,
    /// What makes the tables.
    tables: &'static str,
    /// What a row is, but for `prev` and `hash`, in the order in which it is hashed, read and written: the columns of
    /// version 1, then those that each later version added.
    columns: &'static [&'static [Column]],
    /// What the tables are in SQLite's words; asked of it once in the life of the process.
    objects: OnceLock<Objects>,
}

/// A column: its name, and what a row has in it.
struct Column {
    name: &'static str,
    value: for<'a> fn(&Columns<'a>) -> ValueRef<'a>,
}

const fn column(name: &'static str, value: for<'a> fn(&Columns<'a>) -> ValueRef<'a>) -> Column {
    Column { name, value }
}

fn text(value: Option<&str>) -> ValueRef<'_> {
    value.map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes()))
}

/// Name → type and definition.
pub(crate) type Objects = BTreeMap<String, (String, String)>;

impl Schema {
    pub(crate) fn make_tables(&self, conn: &Connection) -> rusqlite::Result<()> {
        conn.execute_batch(self.tables)
    }

    /// The tables, indexes and triggers that a journal of this version has, and no others.
    pub(crate) fn objects(&self) -> rusqlite::Result<&Objects> {
        if let Some(made) = self.objects.get() {
            return Ok(made);
        }
        let fresh = Connection::open_in_memory()?;
        self.make_tables(&fresh)?;
        let made = objects(&fresh)?;
        Ok(self.objects.get_or_init(|| made))
    }

    /// A new row: the columns, `prev` and `hash`.
    pub(crate) fn insert(&self) -> String {
        let places: Vec<_> = (1..=self.width() + 2).map(|n| format!("?{n}")).collect();
        format!("INSERT INTO journal ({}) VALUES ({})", self.names(), places.join(", "))
    }

    /// The columns, `prev` and `hash`.
    pub(crate) fn names(&self) -> String {
        self.column_names()
            .chain(["prev", "hash"])
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The columns before `prev` and `hash`.
    pub(crate) fn column_names(&self) -> impl Iterator<Item = &'static str> {
        self.columns().map(|column| column.name)
    }

    /// How many columns there are before `prev` and `hash`.
    pub(crate) fn width(&self) -> usize {
        self.columns().count()
    }

    fn columns(&self) -> impl Iterator<Item = &'static Column> {
        self.columns.iter().copied().flatten()
    }

    /// What a row has in each column.
    pub(crate) fn values<'a>(&self, row: &Columns<'a>) -> impl Iterator<Item = ValueRef<'a>> {
        self.columns().map(move |column| (column.value)(row))
    }
}

/// SHA-256 over the domain, the machine, the version, the hash before and every column: a tag tells NULL, number and
/// bytes apart, bytes come with their length, numbers are big-endian. `fields` is room that is used again for each row, so
/// that what is hashed is put together once, and nothing is allocated for it.
pub(crate) fn hash<'a>(
    version: u32,
    machine: &str,
    prev: &Hash,
    values: impl Iterator<Item = ValueRef<'a>>,
    fields: &mut Vec<u8>,
) -> Hash {
    fields.clear();
    push_bytes(fields, DOMAIN);
    push_bytes(fields, machine.as_bytes());
    push_number(fields, i64::from(version));
    push_bytes(fields, prev.as_bytes());
    for value in values {
        match value {
            ValueRef::Null => fields.push(0),
            ValueRef::Integer(number) => push_number(fields, number),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => push_bytes(fields, bytes),
            // No column holds one: what SQLite reads so was damaged, and has a hash that no row has.
            ValueRef::Real(_) => fields.push(3),
        }
    }
    Hash::of(fields)
}

fn push_number(fields: &mut Vec<u8>, value: i64) {
    fields.push(1);
    fields.extend_from_slice(&value.to_be_bytes());
}

fn push_bytes(fields: &mut Vec<u8>, value: &[u8]) {
    fields.push(2);
    fields.extend_from_slice(&(value.len() as u64).to_be_bytes());
    fields.extend_from_slice(value);
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.version)
    }
}

/// The tables, indexes and triggers of a database; the indexes that constraints bring have no definition.
pub(crate) fn objects(conn: &Connection) -> rusqlite::Result<Objects> {
    let mut statement = conn.prepare("SELECT name, type, coalesce(sql, tbl_name) FROM sqlite_schema")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    rows.collect()
}

/// The versions that a program knows, the newest last: there is one at least.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known(&'static [&'static Schema]);

/// A version that a program does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// It is made by a later program.
    Newer,
    /// No program ever made it.
    NeverWritten,
}

impl Known {
    /// The version that new journals are made in.
    pub(crate) fn newest(self) -> &'static Schema {
        self.0.last().copied().unwrap_or(&V1)
    }

    pub(crate) fn find(self, version: u32) -> Result<&'static Schema, Unknown> {
        let found = self.0.iter().copied().find(|schema| schema.version == version);
        found.ok_or(if version > self.newest().version {
            Unknown::Newer
        } else {
            Unknown::NeverWritten
        })
    }
}
