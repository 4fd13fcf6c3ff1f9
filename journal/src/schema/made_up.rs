//! A version 2 that never was: one more column and two more rules, to show today how the next version is added.

use super::*;

/// What a program of tomorrow would know.
pub(super) static TOMORROW: Known = Known(&[&V1, &V2]);

static V2: Schema = Schema {
    version: 2,
    tables: concat!(
        include_str!("v1.sql"),
        "ALTER TABLE journal ADD COLUMN program TEXT;
         CREATE TRIGGER a_boot_names_its_program BEFORE INSERT ON journal
             WHEN (NEW.kind = 'boot') <> (NEW.program IS NOT NULL) BEGIN
             SELECT RAISE(ABORT, 'columns');
         END;
         CREATE TRIGGER a_note_is_short BEFORE INSERT ON journal
             WHEN NEW.kind = 'note' AND octet_length(NEW.body) > 10 BEGIN
             SELECT RAISE(ABORT, 'body');
         END;"
    ),
    columns: &[
        V1_COLUMNS,
        &[column("program", |row| {
            text((row.kind == "boot").then_some("tomorrow's"))
        })],
    ],
    objects: OnceLock::new(),
};
