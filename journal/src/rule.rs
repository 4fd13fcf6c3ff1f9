//! What a row must obey, named once: the database refuses by these names, and a reader reports by them.

use strum::{EnumIter, EnumString, IntoStaticStr};

/// A rule of the journal. `schema/v1.sql` enforces each on every write; a reader checks each again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, EnumString, IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum Rule {
    /// Rows are numbered from 1 without gaps.
    #[error("its number is not one more than that of the row before")]
    NoGap,
    /// Each row names the hash of the row before.
    #[error("it does not name the hash of the row before")]
    Chain,
    /// A boot row's boot is one more than the boot before, every other row's is the current one.
    #[error("its boot is not the current one (a boot row begins the next, and comes first)")]
    BootNumber,
    /// Kind and columns fit each other, and each column holds what it may.
    #[error("its columns do not fit its kind, or one of them is empty or out of range")]
    Columns,
    /// A body is JSON of at most 64 KiB.
    #[error("its body is not JSON of at most 64 KiB")]
    Body,
    /// An enter row leaves the state that was entered last.
    #[error("it does not leave the state that was entered last")]
    LeavesLastState,
    /// An enter row takes an edge of the machine.
    #[error("the machine has no such transition")]
    Edge,
    /// A state is entered once.
    #[error("its state was entered before")]
    OneEnterPerState,
    /// At most one intent is open.
    #[error("another intent is still open")]
    OneOpenIntent,
    /// Attempts at one effect rise.
    #[error("its attempt is not higher than the effect's attempts before")]
    AttemptRises,
    /// A probe and an outcome belong to the open intent.
    #[error("its intent is not open")]
    HasOpenIntent,
    /// There is one verdict.
    #[error("there is a verdict already")]
    OneVerdict,
    /// An acknowledgement follows a verdict.
    #[error("there is no verdict that it could acknowledge")]
    AckHasVerdict,
    /// There is one acknowledgement.
    #[error("the verdict is acknowledged already")]
    OneAck,
    /// Rows are added, never changed, replaced or removed.
    #[error("rows are only ever added")]
    AppendOnly,
}

impl Rule {
    /// The rule that SQLite's message names: the text of a RAISE, or the name at the end of a failed CHECK.
    pub(crate) fn of(message: &str) -> Option<Self> {
        if message.starts_with("FOREIGN KEY") {
            return Some(Self::Edge);
        }
        if let Some(check) = message.strip_prefix("CHECK constraint failed: ") {
            // CHECKs without a name are about one column, and SQLite shows their text.
            return Some(check.parse().unwrap_or(Self::Columns));
        }
        message.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator;

    use super::*;

    #[test]
    fn every_rule_is_enforced_by_the_schema_under_its_name_and_no_other_name_is_used() {
        let schema = include_str!("schema/v1.sql");
        for rule in Rule::iter() {
            let name: &str = rule.into();
            let raised = schema.contains(&format!("RAISE(ABORT, '{name}')"));
            assert!(raised || schema.contains(&format!("CONSTRAINT {name} CHECK")), "{name}");
        }
        for raised in schema.split("RAISE(ABORT, '").skip(1) {
            let name = raised.split('\'').next().unwrap();
            assert!(name.parse::<Rule>().is_ok(), "{name}");
        }
    }
}
