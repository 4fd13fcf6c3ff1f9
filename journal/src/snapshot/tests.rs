//! What tells a journal that moved from one that only grew, and damage from a disk that fails.

use rusqlite::ffi;

use super::*;

#[test]
fn only_damage_is_a_problem_and_everything_else_ends_the_read() {
    let failed = |code| -> rusqlite::Result<()> { Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)) };
    let pages = |cause| Problem::Pages { cause };
    let mut problems = Problems::default();
    assert!(noted(failed(ffi::SQLITE_IOERR), &mut problems, pages).is_err());
    assert!(matches!(noted(Ok(7), &mut problems, pages), Ok(Some(7))));
    assert_eq!(problems.into_list(), []);
    let mut problems = Problems::default();
    assert!(matches!(
        noted(failed(ffi::SQLITE_CORRUPT), &mut problems, pages),
        Ok(None)
    ));
    assert!(matches!(problems.into_list()[..], [Problem::Pages { .. }]));
}

/// A place with a database, and whatever is wanted as its log.
fn place() -> (TempDir, Place) {
    let here = tempfile::tempdir().unwrap();
    let path = here.path().join("j.db");
    fs::write(&path, b"a database").unwrap();
    let place = Place::of(&path).unwrap();
    (here, place)
}

#[test]
fn a_log_that_has_no_header_yet_has_no_rows() {
    let (_here, place) = place();
    assert_eq!(Mark::of(&place).unwrap().log, None);
    fs::write(&place.log, [7; 31]).unwrap();
    assert_eq!(Mark::of(&place).unwrap().log, None);
    fs::write(&place.log, [7; 33]).unwrap();
    assert_eq!(Mark::of(&place).unwrap().log, Some([7; 32]));
}

#[test]
fn what_cannot_be_looked_at_is_an_error_and_not_absent() {
    let (_here, mut place) = place();
    assert!(Mark::of(&place).unwrap().database.is_some());
    let database = place.database.clone();
    place.database = database.with_file_name("absent");
    assert_eq!(Mark::of(&place).unwrap().database, None);
    place.database = database.join("below a file");
    assert!(Mark::of(&place).is_err());
    place.database = database;
    fs::create_dir(&place.log).unwrap();
    assert!(Mark::of(&place).is_err());
}

#[test]
fn a_copy_counts_only_where_neither_file_began_anew_meanwhile() {
    let mark = |size, log: Option<u8>| Mark {
        database: Some((1, 2, size, 4, 5)),
        log: log.map(|byte| [byte; 32]),
    };
    let steady = |before: Mark, after: Mark| before.same_but_for_more_rows(&after);
    assert!(steady(mark(3, Some(1)), mark(3, Some(1))));
    assert!(steady(mark(3, None), mark(3, Some(1))), "its first rows");
    assert!(!steady(mark(3, Some(1)), mark(3, Some(2))), "the log began anew");
    assert!(!steady(mark(3, Some(1)), mark(3, None)), "the log was emptied");
    assert!(!steady(mark(3, None), mark(4, None)), "the database was written");
    assert!(!steady(mark(3, Some(1)), mark(4, Some(1))), "the database was written");
}
