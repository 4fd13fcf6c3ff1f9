//! What the live connection may do at all: read, and insert into two tables.

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// Refuses, from now on, every statement but reads, inserts into `journal` and `blob`, and transactions.
///
/// Triggers cannot see DROP, ALTER or ATTACH, and a PRAGMA could turn them off: those are not even prepared.
pub(crate) fn restrict(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.authorizer(Some(authorize))
}

fn authorize(context: AuthContext<'_>) -> Authorization {
    let appends = |table: &str| matches!(table, "journal" | "blob");
    let allowed = matches!(context.action, AuthAction::Insert { table_name } if appends(table_name))
        || matches!(
            context.action,
            AuthAction::Select
                | AuthAction::Read { .. }
                | AuthAction::Function { .. }
                | AuthAction::Transaction { .. }
                | AuthAction::Recursive
        );
    if allowed {
        Authorization::Allow
    } else {
        Authorization::Deny
    }
}
