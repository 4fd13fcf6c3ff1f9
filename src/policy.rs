//! What a change may not have in it, whatever the task is: the rules alone, without git.

use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;

use globset::{GlobBuilder, GlobSet};
use thiserror::Error;

use crate::redact::{Kind, Redactor, Shape};

/// What a change is held against before it is pushed.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// What may not be touched.
    pub protected: ProtectedPaths,
    /// Knows the secrets that may not be in it.
    pub redactor: Redactor,
    /// How large it may be.
    pub bounds: Bounds,
}

/// How large a change may be, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// One new file. GitHub refuses a push that has a larger one ("About large files on GitHub").
    pub file: u64,
    /// All new files together. GitHub refuses a push of more than 2 GiB, and asks for repositories below 1 GB.
    pub change: u64,
    /// A new file that is searched for secrets.
    pub searched_file: u64,
    /// All that is searched for secrets.
    pub searched: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            file: 100 * MIB,
            change: 1024 * MIB,
            searched_file: 32 * MIB,
            searched: 256 * MIB,
        }
    }
}

/// `RUNNER_PROTECTED_PATHS`: globs for paths from the repository's root. `*` and `?` stop at a slash, `**` does not; upper
/// and lower case differ.
#[derive(Debug, Clone)]
pub struct ProtectedPaths {
    globs: Vec<String>,
    set: GlobSet,
}

/// The default of `RUNNER_PROTECTED_PATHS`: what runs with the repository's own rights.
pub const PROTECTED_BY_DEFAULT: &str = ".github/workflows/**";

/// A glob that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("globs such as .github/workflows/** are allowed, comma-separated; {glob:?} is none: {why}")]
pub struct InvalidGlob {
    glob: String,
    why: String,
}

impl FromStr for ProtectedPaths {
    type Err = InvalidGlob;

    fn from_str(text: &str) -> Result<Self, InvalidGlob> {
        let globs: Vec<String> = list(text).into_iter().map(str::to_owned).collect();
        let refuse = |glob: &str, error: &globset::Error| InvalidGlob {
            glob: glob.to_owned(),
            why: error.kind().to_string(),
        };
        let mut set = GlobSet::builder();
        for glob in &globs {
            // One that begins with a slash, or says that it begins here, is meant from the root; all are.
            let from_root = glob.trim_start_matches("./").trim_start_matches('/');
            let built = GlobBuilder::new(from_root).literal_separator(true).build();
            set.add(built.map_err(|error| refuse(glob, &error))?);
        }
        let set = set.build().map_err(|error| refuse(text, &error))?;
        Ok(Self { globs, set })
    }
}

impl Default for ProtectedPaths {
    fn default() -> Self {
        Self {
            globs: Vec::new(),
            set: GlobSet::empty(),
        }
    }
}

impl fmt::Display for ProtectedPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.globs.join(", "))
    }
}

impl ProtectedPaths {
    /// Whether anything is protected.
    pub fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }

    /// Whether this path is.
    pub fn has(&self, path: &Path) -> bool {
        self.set.is_match(path)
    }
}

/// The parts of a comma-separated list, in which braces hold commas of their own (`*.{yml,yaml}`).
fn list(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    text.split(|c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|glob| !glob.is_empty())
    .collect()
}

/// Whether a symbolic link may lead out of the tree. `link` is its path from the root. A link that goes up after it went
/// down is taken for one that does: what it goes down through may be a link itself.
pub fn leaves_the_tree(link: &Path, target: &Path) -> bool {
    let mut above = link.parent().map_or(0, |dir| dir.components().count());
    let mut went_down = false;
    target.components().any(|part| match part {
        Component::Prefix(_) | Component::RootDir => true,
        Component::CurDir => false,
        Component::Normal(_) => {
            went_down = true;
            false
        }
        Component::ParentDir if went_down || above == 0 => true,
        Component::ParentDir => {
            above -= 1;
            false
        }
    })
}

/// Whether what was found is reason enough to refuse a change. Headers and URLs with a password in them stand in many a
/// test and manual: there, only what looks as if a machine had made it counts. Nor do the keys of AWS's own documentation.
pub fn is_evidence(kind: Kind, secret: &[u8]) -> bool {
    match kind {
        Kind::Exact => true,
        Kind::Shape(Shape::Aws) => !secret.ends_with(b"EXAMPLE"),
        Kind::Shape(Shape::Authorization | Shape::Userinfo) => {
            secret.len() >= 20
                && secret.iter().any(u8::is_ascii_digit)
                && secret.iter().any(u8::is_ascii_alphabetic)
                && !secret.iter().any(|byte| matches!(byte, b'$' | b'{' | b'}' | b'%'))
        }
        Kind::Shape(Shape::GitHub | Shape::GitHubPat | Shape::Anthropic | Shape::Slack | Shape::PrivateKey) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_stops_at_a_slash_and_two_stars_do_not() {
        let protected: ProtectedPaths = ".github/workflows/**, *.{yml,yaml} ,/infra/*.tf,".parse().unwrap();
        for path in [
            ".github/workflows/ci.yml",
            ".github/workflows/a/b",
            "x.yaml",
            "infra/main.tf",
        ] {
            assert!(protected.has(Path::new(path)), "{path}");
        }
        for path in [
            ".GitHub/workflows/ci.yml",
            "a/.github/workflows/ci.yml",
            "a/x.yml",
            "infra/a/main.tf",
        ] {
            assert!(!protected.has(Path::new(path)), "{path}");
        }
        assert_eq!(protected.to_string(), ".github/workflows/**, *.{yml,yaml}, /infra/*.tf");
    }

    #[test]
    fn nothing_protects_nothing_and_what_is_no_glob_is_named() {
        let nothing: ProtectedPaths = " ".parse().unwrap();
        assert!(nothing.is_empty() && !nothing.has(Path::new(".github/workflows/ci.yml")));
        let refused = "a/**,b[".parse::<ProtectedPaths>().unwrap_err().to_string();
        assert!(refused.contains("\"b[\""), "{refused}");
    }

    #[test]
    fn a_link_leaves_the_tree_by_its_root_or_past_it() {
        for (link, target) in [
            ("l", "/etc/passwd"),
            ("l", "../x"),
            ("a/b/l", "../../../x"),
            ("l", "a/../../x"),
            ("a/l", "b/../x"),
        ] {
            assert!(
                leaves_the_tree(Path::new(link), Path::new(target)),
                "{link} -> {target}"
            );
        }
        for (link, target) in [
            ("l", "x"),
            ("l", "./a/b"),
            ("a/b/l", "../../x"),
            ("a/l", ".."),
            ("l", "..x/y"),
        ] {
            assert!(
                !leaves_the_tree(Path::new(link), Path::new(target)),
                "{link} -> {target}"
            );
        }
    }

    #[test]
    fn an_example_is_no_evidence() {
        let header = Kind::Shape(Shape::Authorization);
        assert!(!is_evidence(header, b"YOUR_TOKEN_GOES_RIGHT_HERE"));
        assert!(!is_evidence(Kind::Shape(Shape::Userinfo), b"password"));
        assert!(!is_evidence(Kind::Shape(Shape::Aws), b"IOSFODNN7EXAMPLE"));
        assert!(is_evidence(header, b"eyJhbGciOiJIUzI1NiJ9.e30"));
        assert!(is_evidence(Kind::Shape(Shape::Aws), b"IOSFODNN7CANARYX"));
    }
}
