//! How rows lie in the table that is read: as a version has them that is known here, or as a newer one does.

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::hash::Hash;
use crate::schema::{self, Schema};

/// How rows lie in the table that is read.
#[derive(Debug)]
pub(crate) struct Form {
    /// The version of the tables, which every hash covers.
    version: u32,
    /// The columns, as they are selected: those that are read first, `prev` and `hash` last.
    names: String,
    /// How many columns there are before `prev` and `hash`: the hash covers each, whether it is read or not.
    width: usize,
    pub(crate) origin: Origin,
}

/// Whose rows they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Of a version that this program writes: every rule that they obey is known.
    Known,
    /// Of a later program. That a row breaks a rule of today says nothing.
    Newer,
}

impl Form {
    /// As a version has them that is known.
    pub(crate) fn of(schema: &Schema) -> Self {
        Self {
            version: schema.version,
            names: schema.names(),
            width: schema.width(),
            origin: Origin::Known,
        }
    }

    /// As a newer version has them: the columns of the newest known one first, then its own, `prev` and `hash` last
    /// ([`schema`] has the promise). None where they are not so.
    pub(crate) fn newer(conn: &Connection, version: u32, newest: &Schema) -> rusqlite::Result<Option<Self>> {
        let mut statement = conn.prepare("SELECT name FROM pragma_table_info('journal') ORDER BY cid")?;
        let found: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let own: Vec<&str> = newest.column_names().collect();
        // A column that was added to a table that exists comes behind the last two.
        let mut columns: Vec<&str> = found.iter().map(String::as_str).collect();
        columns.retain(|name| !matches!(*name, "prev" | "hash"));
        let ends = found.len() - columns.len() == 2;
        if !ends || !columns.starts_with(&own) {
            return Ok(None);
        }
        let quoted = |name: &&str| format!("\"{}\"", name.replace('"', "\"\""));
        let names: Vec<String> = columns.iter().chain(&["prev", "hash"]).map(quoted).collect();
        Ok(Some(Self {
            version,
            names: names.join(", "),
            width: columns.len(),
            origin: Origin::Newer,
        }))
    }

    /// How many columns there are before `prev` and `hash`.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Every row from this one on, in order.
    pub(crate) fn select_from(&self, seq: u64) -> String {
        let Self { names, .. } = self;
        match seq {
            // As a table that is damaged is read: a number that is out of order is seen, and not searched for.
            ..=1 => format!("SELECT {names} FROM journal NOT INDEXED ORDER BY seq"),
            seq => format!("SELECT {names} FROM journal NOT INDEXED WHERE seq >= {seq} ORDER BY seq"),
        }
    }

    /// The rows that say where a journal is, in order: its first, those that enter a state, its verdict and the
    /// acknowledgement. The indexes of the rules about them lead there; for a UNION without ALL, SQLite would search the table, to
    /// have it in order.
    pub(crate) fn select_landmarks(&self) -> String {
        format!(
            "SELECT {} FROM journal WHERE seq IN (
                SELECT min(seq) FROM journal
                UNION ALL SELECT seq FROM journal WHERE kind = 'enter'
                UNION ALL SELECT seq FROM journal WHERE kind IN ('verdict', 'ack')
            ) ORDER BY seq",
            self.names
        )
    }

    /// What a row's hash has to be; `fields` is room for it.
    pub(crate) fn hash<'a>(
        &self,
        machine: &str,
        prev: &Hash,
        values: impl Iterator<Item = ValueRef<'a>>,
        fields: &mut Vec<u8>,
    ) -> Hash {
        schema::hash(self.version, machine, prev, values, fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn columns_that_are_not_the_newest_known_ones_first_and_the_two_last_are_no_form() {
        let newest = schema::ALL.newest();
        let own: Vec<&str> = newest.column_names().collect();
        let newer = |columns: &[&str]| {
            let conn = Connection::open_in_memory().unwrap();
            conn.execute_batch(&format!("CREATE TABLE journal ({})", columns.join(", ")))
                .unwrap();
            Form::newer(&conn, newest.version + 1, newest).unwrap()
        };
        let known = [&own[..], &["prev", "hash"]].concat();
        assert_eq!(newer(&known).unwrap().width(), own.len());
        let longer = [&own[..], &["one_more", "prev", "hash"]].concat();
        assert_eq!(newer(&longer).unwrap().width(), own.len() + 1);
        for not_so in [
            &known[1..],
            &known[..known.len() - 1],
            &[&["first"][..], &known].concat(),
        ] {
            assert!(newer(not_so).is_none(), "{not_so:?}");
        }
    }

    #[test]
    fn the_landmarks_and_the_last_rows_are_looked_up_and_the_table_is_not_searched_for_them() {
        let conn = Connection::open_in_memory().unwrap();
        let newest = schema::ALL.newest();
        newest.make_tables(&conn).unwrap();
        let form = Form::of(newest);
        for select in [form.select_landmarks(), form.select_from(99)] {
            let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {select}")).unwrap();
            let steps = statement.query_map([], |row| row.get("detail")).unwrap();
            let steps: Vec<String> = steps.collect::<Result<_, _>>().unwrap();
            let searched = |step: &String| step.starts_with("SCAN journal") && !step.contains("INDEX");
            assert!(!steps.iter().any(searched), "{select}: {steps:#?}");
        }
    }
}
