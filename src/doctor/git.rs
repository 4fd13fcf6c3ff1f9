//! git: the runner's clone, hand-over and push are its work.

use super::program::{PATIENCE, Silent, version};
use super::{Check, CheckName};

/// The oldest that is tested.
const LEAST: (u32, u32) = (2, 39);
const HINT: &str = "install git 2.39 or newer";

pub(super) fn check() -> Check {
    let name = CheckName::Git;
    let Ok(git) = which::which("git") else {
        return Check::fail(name, "git is not in PATH", HINT);
    };
    match version(&git, std::env::var_os("PATH"), PATIENCE) {
        Ok(said) => {
            let found = format!("{said}, {}", git.display());
            match number(&said) {
                Some(number) if number >= LEAST => Check::ok(name, found),
                Some(_) | None => Check::fail(name, found, HINT),
            }
        }
        Err(silent @ Silent::TimedOut(_)) => Check::warn(
            name,
            format!("{}: {silent}", git.display()),
            "run it by hand to see what it waits for",
        ),
        Err(silent) => Check::fail(name, format!("{}: {silent}", git.display()), HINT),
    }
}

/// Major and minor of `git version 2.39.5`.
fn number(said: &str) -> Option<(u32, u32)> {
    let mut parts = said.strip_prefix("git version ")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_compared_by_its_numbers() {
        for (said, found) in [
            ("git version 2.39.5", Some((2, 39))),
            ("git version 2.39.2 (Apple Git-143)", Some((2, 39))),
            ("git version 2.100.0", Some((2, 100))),
            ("git version 3.0-rc1", None),
            ("gitte version 2.39.5", None),
        ] {
            assert_eq!(number(said), found, "{said}");
        }
        assert!(number("git version 2.100.0") > Some(LEAST));
    }
}
