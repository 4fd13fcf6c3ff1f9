//! A page of Markdown as its commands, each with what is shown below it.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

const NOT_RUN: &str = "<!-- not run:";
const NOT_COMPARED: &str = "<!-- not compared:";

pub(super) struct Page {
    path: PathBuf,
    lines: Vec<String>,
    pub(super) blocks: Vec<Block>,
}

/// One fence of commands.
pub(super) struct Block {
    /// Of its fence, from 1.
    pub(super) line: usize,
    pub(super) commands: String,
    pub(super) run: Run,
    pub(super) shown: Option<Shown>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Run {
    Here,
    /// The page says why.
    LeftOut,
}

/// What the page says that was printed.
pub(super) struct Shown {
    pub(super) text: String,
    /// Where it stands, without the fences.
    pub(super) lines: Range<usize>,
}

impl Page {
    pub(super) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let blocks = blocks(&lines, &path.display().to_string());
        Self {
            path: path.to_owned(),
            lines,
            blocks,
        }
    }

    pub(super) fn replace(&mut self, lines: Range<usize>, text: &str) {
        self.lines.splice(lines, text.lines().map(str::to_owned));
    }

    pub(super) fn write(&self) {
        fs::write(&self.path, self.lines.join("\n") + "\n").unwrap();
    }
}

fn blocks(lines: &[String], page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    // Whether the next output belongs to the last block.
    let mut awaits = false;
    let mut at = 0;
    while at < lines.len() {
        let Some(language) = lines[at].strip_prefix("```") else {
            assert!(
                !lines[at].trim_start().starts_with("```"),
                "{page}:{}: a fence that is indented is not looked at",
                at + 1
            );
            at += 1;
            continue;
        };
        let end = (at + 1..lines.len())
            .find(|&line| lines[line] == "```")
            .unwrap_or_else(|| panic!("{page}:{}: a fence without an end", at + 1));
        let text = lines[at + 1..end].join("\n");
        match language {
            "sh" => {
                awaits = true;
                blocks.push(Block {
                    line: at + 1,
                    commands: text,
                    run: if is_marked(lines, at, NOT_RUN, page) {
                        Run::LeftOut
                    } else {
                        Run::Here
                    },
                    shown: None,
                });
            }
            "text" | "json" if is_marked(lines, at, NOT_COMPARED, page) => awaits = false,
            "text" | "json" => {
                assert!(awaits, "{page}:{}: of which command is this?", at + 1);
                awaits = false;
                if let Some(block) = blocks.last_mut() {
                    block.shown = Some(Shown {
                        text,
                        lines: at + 1..end,
                    });
                }
            }
            other => panic!("{page}:{}: sh, text and json are known, {other:?} is not", at + 1),
        }
        at = end + 1;
    }
    blocks
}

/// Whether the comment right before a fence has this mark, with a reason.
fn is_marked(lines: &[String], fence: usize, mark: &str, page: &str) -> bool {
    let before = lines[..fence].iter().rev().find(|line| !line.trim().is_empty());
    let Some(why) = before.and_then(|line| line.trim().strip_prefix(mark)) else {
        return false;
    };
    let why = why.trim_end_matches("-->").trim();
    assert!(why.split(' ').count() > 1, "{page}:{}: {mark} why?", fence + 1);
    true
}
