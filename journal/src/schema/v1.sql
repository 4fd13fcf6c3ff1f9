-- The journal's tables, version 1. Every rule that a row must obey is here, so that no program can write a row
-- that breaks one; names after CONSTRAINT and in RAISE are the names of `Rule` in rule.rs.
-- Each unique rule is an index and a trigger: REPLACE resolves a conflict with an index by deleting the old row,
-- but it cannot get past a trigger that refuses first. INDEXED BY keeps each look at the past from reading all of
-- it; the planner takes a partial index only where its condition is repeated word for word. No list after IN has
-- more than two constants: SQLite would make a temporary table of it at every insert, which costs more than the row.
-- A sort would, too.

CREATE TABLE meta (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    machine TEXT NOT NULL
) STRICT;

CREATE TABLE edge (
    src TEXT NOT NULL,
    dst TEXT NOT NULL CHECK (dst <> ''),
    PRIMARY KEY (src, dst)
) STRICT, WITHOUT ROWID;

CREATE TABLE blob (
    sha256 BLOB NOT NULL PRIMARY KEY CHECK (length(sha256) = 32),
    bytes  BLOB NOT NULL
) STRICT;

CREATE TABLE journal (
    seq     INTEGER PRIMARY KEY CHECK (seq >= 1),
    boot    INTEGER NOT NULL CHECK (boot BETWEEN 1 AND 4294967295),
    at_ms   INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    src     TEXT,
    dst     TEXT,
    effect  TEXT,
    attempt INTEGER,
    result  TEXT,
    key     TEXT,
    body    TEXT,
    blobs   BLOB, -- the SHA-256 of each blob that came with this row's transaction, one after the other
    prev    BLOB NOT NULL CHECK (length(prev) = 32),
    hash    BLOB NOT NULL CHECK (length(hash) = 32),
    FOREIGN KEY (src, dst) REFERENCES edge (src, dst),
    CONSTRAINT columns CHECK (
        (kind IN ('intent', 'outcome') OR kind IN ('enter', 'note') OR kind IN ('boot', 'probe')
            OR kind IN ('verdict', 'ack'))
        AND (src IS NOT NULL) = (kind = 'enter')
        AND (dst IS NOT NULL) = (kind = 'enter')
        AND (effect IS NOT NULL) = (kind IN ('intent', 'outcome') OR kind = 'probe')
        AND (attempt IS NOT NULL) = (kind IN ('intent', 'outcome') OR kind = 'probe')
        AND (result IS NOT NULL) = (kind IN ('probe', 'outcome'))
        AND (key IS NOT NULL) = (kind IN ('intent', 'verdict'))
        AND (body IS NOT NULL OR kind NOT IN ('verdict', 'note'))
        AND (effect IS NULL OR effect <> '')
        AND (attempt IS NULL OR attempt BETWEEN 1 AND 4294967295)
        AND (result IS NULL OR result IN ('done', 'not_done') OR result = 'unknown')
        AND (key IS NULL OR key <> '')
        AND (blobs IS NULL OR (length(blobs) > 0 AND length(blobs) % 32 = 0))
    ),
    CONSTRAINT body CHECK (body IS NULL OR (octet_length(body) <= 65536 AND json_valid(body)))
) STRICT;

CREATE UNIQUE INDEX one_enter_per_state ON journal (dst) WHERE kind = 'enter';
CREATE UNIQUE INDEX one_intent_and_outcome_per_attempt ON journal (kind, effect, attempt)
    WHERE kind IN ('intent', 'outcome');
CREATE UNIQUE INDEX one_verdict_and_ack ON journal (kind) WHERE kind IN ('verdict', 'ack');

CREATE TRIGGER follows_the_last_row BEFORE INSERT ON journal BEGIN
    SELECT CASE
        WHEN NEW.seq IS NOT coalesce((SELECT max(seq) FROM journal), 0) + 1
            THEN RAISE(ABORT, 'no_gap')
        WHEN NEW.prev IS NOT coalesce((SELECT hash FROM journal ORDER BY seq DESC LIMIT 1), zeroblob(32))
            THEN RAISE(ABORT, 'chain')
        WHEN NEW.boot IS NOT coalesce((SELECT boot FROM journal ORDER BY seq DESC LIMIT 1), 0) + (NEW.kind IS 'boot')
            THEN RAISE(ABORT, 'boot_number')
    END;
END;

CREATE TRIGGER enter_by_an_edge BEFORE INSERT ON journal WHEN NEW.kind = 'enter' BEGIN
    SELECT CASE
        WHEN NEW.src IS NOT coalesce((SELECT dst FROM journal WHERE seq =
                                      (SELECT max(seq) FROM journal INDEXED BY one_enter_per_state
                                       WHERE kind = 'enter')), '')
            THEN RAISE(ABORT, 'leaves_last_state')
        WHEN NOT EXISTS (SELECT 1 FROM edge WHERE src = NEW.src AND dst = NEW.dst)
            THEN RAISE(ABORT, 'edge')
        WHEN EXISTS (SELECT 1 FROM journal INDEXED BY one_enter_per_state WHERE kind = 'enter' AND dst = NEW.dst)
            THEN RAISE(ABORT, 'one_enter_per_state')
    END;
END;

-- An intent is open while the last row about any effect is an intent, or a probe that found its effect done.
CREATE TRIGGER one_open_intent BEFORE INSERT ON journal WHEN NEW.kind = 'intent' BEGIN
    SELECT CASE
        WHEN (SELECT kind = 'intent' OR (kind = 'probe' AND result = 'done') FROM journal NOT INDEXED
              WHERE (kind IN ('intent', 'outcome') OR kind = 'probe') ORDER BY seq DESC LIMIT 1)
            THEN RAISE(ABORT, 'one_open_intent')
        WHEN NEW.attempt <= (SELECT max(attempt) FROM journal INDEXED BY one_intent_and_outcome_per_attempt
                             WHERE kind IN ('intent', 'outcome') AND kind = 'intent' AND effect = NEW.effect)
            THEN RAISE(ABORT, 'attempt_rises')
    END;
END;

CREATE TRIGGER closes_the_open_intent BEFORE INSERT ON journal WHEN NEW.kind IN ('probe', 'outcome') BEGIN
    SELECT RAISE(ABORT, 'has_open_intent') WHERE NOT coalesce(
        (SELECT (kind = 'intent' OR (kind = 'probe' AND result = 'done'))
                AND effect IS NEW.effect AND attempt IS NEW.attempt
         FROM journal NOT INDEXED
         WHERE (kind IN ('intent', 'outcome') OR kind = 'probe') ORDER BY seq DESC LIMIT 1), 0);
END;

CREATE TRIGGER one_verdict BEFORE INSERT ON journal WHEN NEW.kind = 'verdict' BEGIN
    SELECT RAISE(ABORT, 'one_verdict') WHERE EXISTS
        (SELECT 1 FROM journal INDEXED BY one_verdict_and_ack WHERE kind IN ('verdict', 'ack') AND kind = 'verdict');
END;

CREATE TRIGGER one_ack BEFORE INSERT ON journal WHEN NEW.kind = 'ack' BEGIN
    SELECT CASE
        WHEN NOT EXISTS (SELECT 1 FROM journal INDEXED BY one_verdict_and_ack
                         WHERE kind IN ('verdict', 'ack') AND kind = 'verdict')
            THEN RAISE(ABORT, 'ack_has_verdict')
        WHEN EXISTS (SELECT 1 FROM journal INDEXED BY one_verdict_and_ack
                     WHERE kind IN ('verdict', 'ack') AND kind = 'ack')
            THEN RAISE(ABORT, 'one_ack')
    END;
END;

CREATE TRIGGER journal_keeps_its_rows BEFORE DELETE ON journal BEGIN SELECT RAISE(ABORT, 'append_only'); END;
CREATE TRIGGER journal_rows_stay BEFORE UPDATE ON journal BEGIN SELECT RAISE(ABORT, 'append_only'); END;
CREATE TRIGGER blob_keeps_its_rows BEFORE DELETE ON blob BEGIN SELECT RAISE(ABORT, 'append_only'); END;
CREATE TRIGGER blob_rows_stay BEFORE UPDATE ON blob BEGIN SELECT RAISE(ABORT, 'append_only'); END;
CREATE TRIGGER edge_keeps_its_rows BEFORE DELETE ON edge BEGIN SELECT RAISE(ABORT, 'append_only'); END;
CREATE TRIGGER edge_rows_stay BEFORE UPDATE ON edge BEGIN SELECT RAISE(ABORT, 'append_only'); END;
CREATE TRIGGER meta_keeps_its_row BEFORE DELETE ON meta BEGIN SELECT RAISE(ABORT, 'append_only'); END;
CREATE TRIGGER meta_row_stays BEFORE UPDATE ON meta BEGIN SELECT RAISE(ABORT, 'append_only'); END;

CREATE TRIGGER blob_is_new BEFORE INSERT ON blob
    WHEN EXISTS (SELECT 1 FROM blob WHERE sha256 = NEW.sha256 OR rowid = NEW.rowid) BEGIN
    SELECT RAISE(ABORT, 'append_only');
END;
CREATE TRIGGER edge_is_new BEFORE INSERT ON edge
    WHEN EXISTS (SELECT 1 FROM edge WHERE src = NEW.src AND dst = NEW.dst) BEGIN
    SELECT RAISE(ABORT, 'append_only');
END;
CREATE TRIGGER meta_is_new BEFORE INSERT ON meta WHEN EXISTS (SELECT 1 FROM meta) BEGIN
    SELECT RAISE(ABORT, 'append_only');
END;
