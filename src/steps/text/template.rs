//! The repository's own template for pull requests, and the place in it for our words.

use std::path::Path;

use crate::adapters::git::{CommittedFile, GitError, PrivateRepository};
use crate::ids::CommitId;

/// Where GitHub looks for one, in this order.
const DIRECTORIES: [&str; 3] = [".github", "", "docs"];
/// A longer one, in bytes, would leave no room for anything else.
const LIMIT: usize = 20_000;

/// The template at a commit, where there is one. A directory of several is for people, who choose among them.
pub(in crate::steps) async fn template(git: &PrivateRepository, base: &CommitId) -> Result<Option<String>, GitError> {
    let files = git.files_in(base, &DIRECTORIES).await?;
    let Some(file) = first(&files) else { return Ok(None) };
    let text = git.text_of(file).await?.filter(|text| text.len() <= LIMIT);
    if text.is_none() {
        tracing::warn!("{} is longer than {LIMIT} bytes, and not used", file.path.display());
    }
    Ok(text.filter(|text| !text.trim().is_empty()))
}

fn first(files: &[CommittedFile]) -> Option<&CommittedFile> {
    // They come in the order of the directories.
    files.iter().find(|file| is_named_so(&file.path))
}

fn is_named_so(path: &Path) -> bool {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    matches!(name.as_str(), "pull_request_template.md" | "pull_request_template.txt")
}

/// The template with our words in it: under its first heading that asks what the change is, else before all of it.
///
/// All else of it is kept as it is, so that a maintainer finds the questions and boxes of the house where they always are,
/// unanswered where nobody has answered them: an agent that ticks boxes would have them mean nothing.
pub(super) fn filled(template: &str, words: &str) -> String {
    let template = super::others::without_controls(template);
    let lines: Vec<&str> = template.trim().lines().collect();
    let mut place = None;
    let mut within = Within::Text;
    for (number, line) in lines.iter().enumerate() {
        if place.is_none() && within == Within::Text && heading(line).is_some_and(asks_what) {
            place = Some(number + 1);
        }
        within = within.after(line);
    }
    // Else it would hide what comes after it.
    let end = within.end().map(|end| format!("\n{end}")).unwrap_or_default();
    match place {
        Some(place) => {
            let (before, after) = lines.split_at(place);
            format!("{}\n\n{words}\n{}{end}", before.join("\n"), following(after))
        }
        None => format!("{words}\n\n{}{end}", lines.join("\n")),
    }
}

/// What comes after our words, with one empty line between.
fn following(lines: &[&str]) -> String {
    let rest = lines.join("\n");
    let rest = rest.trim_start_matches('\n');
    if rest.is_empty() {
        String::new()
    } else {
        format!("\n{rest}")
    }
}

/// What a line of the template stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Within {
    Text,
    Comment,
    /// A block of code, with what opened it.
    Code(String),
}

impl Within {
    fn after(self, line: &str) -> Self {
        let text = line.trim_start();
        match self {
            Self::Comment => match line.split_once("-->") {
                Some((_, rest)) => Self::after_text(rest),
                None => Self::Comment,
            },
            Self::Code(fence) if text.starts_with(&fence) && text.trim_matches(['`', '~']).trim().is_empty() => {
                Self::Text
            }
            Self::Code(fence) => Self::Code(fence),
            Self::Text => {
                for with in ["`", "~"] {
                    let length = text.len() - text.trim_start_matches(with).len();
                    if length >= 3 && !text[length..].contains('`') {
                        return Self::Code(with.repeat(length));
                    }
                }
                Self::after_text(line)
            }
        }
    }

    /// After what may have comments in it.
    fn after_text(line: &str) -> Self {
        match line.rsplit_once("<!--") {
            Some((_, rest)) if !rest.contains("-->") => Self::Comment,
            Some(_) | None => Self::Text,
        }
    }

    /// What ends it.
    fn end(self) -> Option<String> {
        match self {
            Self::Text => None,
            Self::Comment => Some("-->".to_owned()),
            Self::Code(fence) => Some(fence),
        }
    }
}

/// What a heading says: one with `#`, or a line that is bold as a whole.
fn heading(line: &str) -> Option<&str> {
    let line = line.trim();
    let marked = line.trim_start_matches('#');
    if (1..=6).contains(&(line.len() - marked.len())) && marked.starts_with([' ', '\t']) {
        return Some(marked);
    }
    line.trim_end_matches(':')
        .strip_prefix("**")?
        .trim_end_matches(':')
        .strip_suffix("**")
}

/// Whether a heading asks what the change is, and not what kind of one, or how it was tested.
fn asks_what(heading: &str) -> bool {
    let heading = heading.to_lowercase();
    let words = || heading.split(|c: char| !c.is_alphanumeric());
    let other = |word: &str| matches!(word, "type" | "kind" | "test" | "tests" | "tested" | "testing");
    let named = |word: &str| matches!(word, "description" | "describe" | "summary" | "overview" | "what");
    let whole = heading.trim().trim_matches(|c: char| !c.is_alphanumeric());
    (words().any(named) && !words().any(other)) || matches!(whole, "changes" | "proposed changes" | "changes proposed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_words_are_under_the_heading_that_asks_what_the_change_is() {
        for heading in [
            "## Description",
            "# Summary:",
            "#### What this PR does / why we need it:",
            "**Describe your change**:",
            "### Proposed changes",
            "## 📝 Description ##",
        ] {
            let template = format!("## Type of change\n- [ ] Fix\n\n{heading}\n\n<!-- Say what. -->\n\n## Testing\n");
            let expected =
                format!("## Type of change\n- [ ] Fix\n\n{heading}\n\nOURS\n\n<!-- Say what. -->\n\n## Testing");
            assert_eq!(filled(&template, "OURS"), expected);
        }
    }

    #[test]
    fn without_such_a_heading_our_words_come_first() {
        for template in [
            "- [ ] I have read the rules",
            "## Breaking changes\nnone",
            "#### What type of PR is this?",
            "## Describe how you tested it",
            "<!--\n## Description\n-->\nx",
            "```\n# Summary\n```",
            "#Description",
        ] {
            assert_eq!(filled(template, "OURS"), format!("OURS\n\n{template}"));
        }
    }

    #[test]
    fn what_a_template_leaves_open_does_not_hide_what_comes_after_it() {
        assert_eq!(filled("a <!-- b", "OURS"), "OURS\n\na <!-- b\n-->");
        assert_eq!(filled("~~~sh\nb", "OURS"), "OURS\n\n~~~sh\nb\n~~~");
        assert_eq!(
            filled("<!-- a --> b\n## What\n", "OURS"),
            "<!-- a --> b\n## What\n\nOURS\n"
        );
    }

    #[test]
    fn a_template_is_known_in_any_case_and_with_two_endings() {
        for name in [
            "PULL_REQUEST_TEMPLATE.md",
            ".github/pull_request_template.md",
            "docs/Pull_Request_Template.TXT",
        ] {
            assert!(is_named_so(Path::new(name)), "{name}");
        }
        for name in [
            "PULL_REQUEST_TEMPLATE",
            "pull_request_template.md/bug.md",
            "my_pull_request_template.md",
        ] {
            assert!(!is_named_so(Path::new(name)), "{name}");
        }
    }
}
