//! Every command of README.md and docs/quickstart.md, run as it stands there; what is shown below it is what it prints.
//!
//! The rules for these two pages:
//!
//! - A fence `sh` is run, in the order of the page, all by one shell, as a reader would type it. One that cannot be run here
//!   has a comment before it that says why: `<!-- not run: needs an API key -->`.
//! - The first fence `text` or `json` after it is what it printed on both outputs. A line `…` stands for any lines. What is not
//!   to be compared says why: `<!-- not compared: the same as above -->`. So does a picture of something else.
//! - There is no other fence, so nothing that looks like a command or its output goes unlooked at.
//!
//! `UPDATE_DOCS=1 cargo test --test it quickstart` writes what is printed where something else is shown.

mod page;
mod printed;
mod shell;

use std::path::Path;

use page::{Block, Page, Run};
use printed::{forget_what_differs, is_shown_by};
use shell::Desk;

/// How many commands of a page are run at the least: a page whose fences are not found any more shows nothing.
const LEAST: [(&str, usize); 2] = [("README.md", 2), ("docs/quickstart.md", 6)];

fn page(name: &str) -> Page {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    Page::read(&path)
}

#[test]
fn every_command_of_the_readme_and_the_quickstart_is_run_or_says_why_it_is_not() {
    for (name, least) in LEAST {
        let page = page(name);
        let (mut run, mut left_out) = (0, 0);
        for block in &page.blocks {
            match &block.run {
                Run::Here => run += 1,
                Run::LeftOut => left_out += 1,
            }
        }
        eprintln!("{name}: {run} blocks of commands are run, {left_out} say why not");
        assert!(run >= least, "{name}: {run} blocks of commands are run");
    }
}

#[test]
fn the_commands_of_the_readme_print_what_is_shown() {
    let desk = Desk::new();
    // The README speaks to somebody who is in a repository.
    desk.repository("# hello\n\nSay the the hello.\n");
    holds("README.md", &desk);
}

#[test]
fn the_commands_of_the_quickstart_print_what_is_shown() {
    holds("docs/quickstart.md", &Desk::new());
}

/// Runs the page, and holds what is shown against what was printed.
fn holds(name: &str, desk: &Desk) {
    let mut page = page(name);
    let here: Vec<&Block> = page.blocks.iter().filter(|block| block.run == Run::Here).collect();
    let commands: Vec<&str> = here.iter().map(|block| block.commands.as_str()).collect();
    let printed = desk.run(&commands);
    let mut wrong = Vec::new();
    for (block, printed) in here.iter().zip(&printed) {
        let at = format!("{name}:{}", block.line);
        let Some(ended) = printed.code else {
            panic!("{at}: it was not come to:\n{}", block.commands);
        };
        assert_eq!(ended, 0, "{at}: it fails:\n{}\n{}", block.commands, printed.text);
        let Some(shown) = &block.shown else { continue };
        let (expected, found) = (
            forget_what_differs(&shown.text, desk),
            forget_what_differs(&printed.text, desk),
        );
        if !is_shown_by(&found, &expected) {
            wrong.push((
                shown.lines.clone(),
                desk.for_people(&printed.text),
                format!("{at}: shown:\n{expected}\nprinted:\n{found}\n"),
            ));
        }
    }
    if wrong.is_empty() {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        for (lines, text, _) in wrong.iter().rev() {
            page.replace(lines.clone(), text);
        }
        page.write();
        return;
    }
    let all: Vec<&str> = wrong.iter().map(|(_, _, what)| what.as_str()).collect();
    panic!(
        "{}\nif it is meant: UPDATE_DOCS=1 cargo test --test it quickstart",
        all.join("\n")
    );
}
