//! An append-only, hash-chained journal of effects in SQLite.
