//! Secrets that are known by their looks.

use std::ops::Range;

use strum::{Display, EnumIter, IntoEnumIterator, IntoStaticStr};

use super::scan::unit;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A secret that the runner knows.
    Exact,
    /// Something that looks like one.
    Shape(Shape),
}

impl Kind {
    /// What it is, for a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "a secret of this runner",
            Self::Shape(shape) => shape.into(),
        }
    }
}

/// The looks of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumIter, Display, IntoStaticStr)]
pub enum Shape {
    /// `ghp_`, `gho_`, `ghu_`, `ghs_`, `ghr_`.
    #[strum(serialize = "a GitHub token")]
    GitHub,
    /// `github_pat_`.
    #[strum(serialize = "a GitHub personal access token")]
    GitHubPat,
    /// `sk-ant-`.
    #[strum(serialize = "an Anthropic key")]
    Anthropic,
    /// `AKIA`, `ASIA`.
    #[strum(serialize = "an AWS access key")]
    Aws,
    /// `xoxa-`, `xoxb-`, `xoxp-`.
    #[strum(serialize = "a Slack token")]
    Slack,
    /// A private key in PEM.
    #[strum(serialize = "a private key")]
    PrivateKey,
    /// The header, with `Bearer` or `Basic`.
    #[strum(serialize = "an Authorization header")]
    Authorization,
    /// The password in a URL.
    #[strum(serialize = "a password in a URL")]
    Userinfo,
}

/// How a secret goes on after what its expression matches: to the first byte that cannot belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing follows.
    None,
    /// Letters, digits and these.
    Word(&'static [u8]),
    /// Up to the line that ends a PEM block.
    Pem,
}

impl Shape {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    /// What is enough to know it by. Bounded: how it goes on is its [`Tail`].
    pub(super) fn expression(self) -> &'static str {
        match self {
            // Installation tokens come as 36 letters and digits, or as an app's number and a JWT.
            Self::GitHub => r"gh[pousr]_(?:[A-Za-z0-9]{16}|[0-9]{1,12}_[A-Za-z0-9_\-]{16})",
            Self::GitHubPat => r"github_pat_[A-Za-z0-9_]{20}",
            Self::Anthropic => r"sk-ant-[A-Za-z0-9_\-]{8}",
            Self::Aws => r"A[KS]IA[A-Z0-9]{16}",
            Self::Slack => r"xox[abp]-[A-Za-z0-9\-]{10}",
            // With some of its text: the line alone stands in many a program.
            Self::PrivateKey => {
                r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?:[\s>|#+]|\\{1,4}[nrt]){1,64}(?:[A-Za-z0-9+/=]{16}|[A-Z][A-Za-z\-]{3,15}: )"
            }
            Self::Authorization => {
                r#"(?i:authorization)(?:\\{0,4}["'])?\s{0,4}[:=]\s{0,4}(?:\\{0,4}["'])?(?i:bearer|basic)\s{1,4}[A-Za-z0-9._~+/=\-]{8}"#
            }
            Self::Userinfo => r#"://[^\s/:@"'<>\[\]\\?#]{0,100}:[^\s/:@"'<>\[\]\\?#][^\s/@"'<>\[\]\\?#]{0,199}@"#,
        }
    }

    pub(super) fn tail(self) -> Tail {
        match self {
            Self::GitHub => Tail::Word(b"_.-"),
            Self::GitHubPat => Tail::Word(b"_"),
            Self::Anthropic => Tail::Word(b"_-"),
            Self::Aws | Self::Userinfo => Tail::None,
            Self::Slack => Tail::Word(b"-"),
            Self::PrivateKey => Tail::Pem,
            Self::Authorization => Tail::Word(b"._~+/=-"),
        }
    }

    /// The secret itself in what the expression matched; what is before it says what it is, and stays.
    pub(super) fn secret_in(self, matched: &[u8]) -> Range<usize> {
        let after_last = |wanted: &dyn Fn(u8) -> bool| {
            let last = matched.iter().rposition(|byte| wanted(*byte));
            last.map_or(0, |at| at + 1)
        };
        let end = matched.len();
        match self {
            Self::GitHub | Self::Aws => 4..end,
            Self::GitHubPat => 11..end,
            Self::Anthropic => 7..end,
            Self::Slack => 5..end,
            Self::PrivateKey => {
                let dashes = matched.windows(5).skip(5).position(|part| part == b"-----");
                dashes.map_or(0, |at| at + 10)..end
            }
            Self::Authorization => after_last(&|byte| byte.is_ascii_whitespace())..end,
            Self::Userinfo => {
                let colon = matched.iter().skip(3).position(|byte| *byte == b':');
                colon.map_or(0, |at| at + 4)..end - 1
            }
        }
    }
}

/// Where a tail is over.
pub(super) enum Run {
    /// After so many bytes.
    Ends(usize),
    /// Not yet: so many bytes belong to it, and more may.
    GoesOn(usize),
}

impl Tail {
    /// How far it goes. `last`: nothing comes after these bytes.
    pub(super) fn run(self, bytes: &[u8], last: bool) -> Run {
        match self {
            Self::None => Run::Ends(0),
            Self::Word(others) => {
                let belongs = |byte: &u8| byte.is_ascii_alphanumeric() || others.contains(byte);
                match bytes.iter().position(|byte| !belongs(byte)) {
                    Some(end) => Run::Ends(end),
                    None => Run::GoesOn(bytes.len()),
                }
            }
            Self::Pem => pem(bytes, last),
        }
    }
}

const PEM_END: &[u8] = b"-----END ";
/// The longest name of what a PEM block has, with room.
const PEM_NAME: usize = 40;

/// Base64, headers and line ends, the latter also escaped, to the end of the block's last line.
fn pem(bytes: &[u8], last: bool) -> Run {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let rest = &bytes[at..];
        match byte {
            b'-' if rest.starts_with(PEM_END) => {
                let name = &rest[PEM_END.len()..];
                let length = name
                    .iter()
                    .take(PEM_NAME)
                    .position(|b| !(b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b' '));
                match length {
                    Some(length) if name[length..].starts_with(b"-----") => {
                        return Run::Ends(at + PEM_END.len() + length + 5);
                    }
                    Some(length) if !last && b"-----".starts_with(&name[length..]) => return Run::GoesOn(at),
                    None if !last && name.len() < PEM_NAME => return Run::GoesOn(at),
                    Some(_) | None => at += 1,
                }
            }
            b'-' if !last && PEM_END.starts_with(rest) => return Run::GoesOn(at),
            b'\\' => match (unit(rest), rest.get(1)) {
                (Some(2), Some(b'n' | b'r' | b't' | b'\\' | b'/')) => at += 2,
                (None, _) if !last => return Run::GoesOn(at),
                _ => return Run::Ends(at),
            },
            b'+' | b'/' | b'=' | b':' | b',' | b'-' => at += 1,
            byte if byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() => at += 1,
            _ => return Run::Ends(at),
        }
    }
    Run::GoesOn(at)
}
