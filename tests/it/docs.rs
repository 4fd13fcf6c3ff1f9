//! The docs against the binary and the tree: settings that `--help` shows, and files that links name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Secrets are no flags, so `--help` does not show them.
const ENVIRONMENT_ALONE: [&str; 3] = ["RUNNER_ARCHIVE_URL", "RUNNER_TASK_TOKEN", "RUNNER_TASK_TOKEN_FILE"];
/// Flags of clap's own.
const NO_SETTINGS: [&str; 2] = ["--help", "--version"];

fn help() -> String {
    // A wide terminal and none of our variables: no line is broken, and no value is shown.
    let output = Command::new(env!("CARGO_BIN_EXE_runner"))
        .args(["serve", "--help"])
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Every word of `text` that `begins` so and goes on with what a name may have in it.
fn words<'a>(text: &'a str, begins: &'a str, goes_on: fn(char) -> bool) -> impl Iterator<Item = String> + 'a {
    text.match_indices(begins)
        .filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
        .map(move |(at, _)| {
            let rest = &text[at + begins.len()..];
            let end = rest.find(|c| !goes_on(c)).unwrap_or(rest.len());
            format!("{begins}{}", &rest[..end])
        })
        .filter(|word| word.len() > begins.len())
}

fn flags(text: &str) -> BTreeSet<String> {
    let name = |c: char| c.is_ascii_lowercase() || c == '-';
    words(text, "--", name)
        .filter(|flag| !NO_SETTINGS.contains(&flag.as_str()))
        .collect()
}

fn variables(text: &str) -> BTreeSet<String> {
    words(text, "RUNNER_", |c| c.is_ascii_uppercase() || c == '_').collect()
}

/// The tables' rows alone: the text around them may name anything.
fn rows(docs: &str) -> Vec<Vec<&str>> {
    docs.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn the_settings_in_the_docs_are_those_of_the_binary() {
    let help = help();
    // The example at the end names variables with values of its own.
    let settings = help.split("\nExample:").next().unwrap();
    let docs = fs::read_to_string(Path::new(ROOT).join("docs/settings.md")).unwrap();
    let rows = rows(&docs);
    let named = |column: usize, begins: &str| -> BTreeSet<String> {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let names = cells.map(|cell| cell.trim_matches('`').to_owned());
        names.filter(|name| name.starts_with(begins)).collect()
    };
    assert_eq!(named(0, "--"), flags(settings), "flags: docs, then the binary");
    assert_eq!(
        named(1, "RUNNER_"),
        variables(settings),
        "variables: docs, then the binary"
    );
    assert_eq!(named(0, "RUNNER_"), ENVIRONMENT_ALONE.map(str::to_owned).into());
    for row in rows.iter().filter(|row| row[0].starts_with("`--")) {
        let variable = row[0].trim_matches(['`', '-']).replace('-', "_").to_uppercase();
        assert_eq!(
            row[1],
            format!("`RUNNER_{variable}`"),
            "a flag and its variable are named alike"
        );
    }
}

#[test]
fn the_defaults_in_the_docs_are_those_of_the_binary() {
    let help = help().split_whitespace().collect::<Vec<_>>().join(" ");
    let docs = fs::read_to_string(Path::new(ROOT).join("docs/settings.md")).unwrap();
    for row in rows(&docs).iter().filter(|row| row[0].starts_with("`--")) {
        let variable = row[1].trim_matches('`');
        // clap's own: after the variable, where the help's text has no default of its own.
        let Some(after) = help.split(&format!("[env: {variable}=]")).nth(1) else {
            panic!("{variable} is not in the help");
        };
        if let Some(default) = after
            .strip_prefix(" [default: ")
            .and_then(|rest| rest.split(']').next())
        {
            let default = format!("`{}`", default.trim_matches('"'));
            assert_eq!(row[2], default, "{variable}");
        }
    }
}

fn markdown(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            markdown(&path, found);
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
}

/// Headings as GitHub names them in links.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut code = false;
    let headings = text.lines().filter(|line| {
        code ^= line.starts_with("```");
        !code && line.starts_with('#')
    });
    let anchor = |heading: &str| -> String {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_relative_link_in_the_docs_names_something_that_is_there() {
    let root = Path::new(ROOT);
    let mut files: Vec<PathBuf> = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
        .map(|name| root.join(name))
        .into();
    markdown(&root.join("docs"), &mut files);
    let mut links = 0;
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let named = if path.is_empty() {
                file.clone()
            } else {
                file.parent().unwrap().join(path)
            };
            assert!(named.exists(), "{}: {target}", file.display());
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&named).unwrap());
                assert!(there.contains(anchor), "{}: {target}: {there:?}", file.display());
            }
        }
    }
    assert!(links > 0, "no link was found, so nothing was shown");
}

#[test]
fn the_index_of_the_docs_has_every_page() {
    let root = Path::new(ROOT).join("docs");
    let index = fs::read_to_string(root.join("README.md")).unwrap();
    let mut pages: Vec<String> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "md" || kind == "yaml"))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "README.md")
        .collect();
    pages.push("adr/README.md".to_owned());
    for page in pages {
        let linked = index.contains(&format!("]({page})")) || index.contains(&format!("]({page}#"));
        assert!(linked, "docs/README.md does not lead to {page}");
    }
}

/// A contributor is sent to places that are there: each row that leads to a file names things that are in it.
#[test]
fn the_places_of_a_step_are_where_the_docs_say() {
    let docs = fs::read_to_string(Path::new(ROOT).join("docs/adding-a-step.md")).unwrap();
    let mut places = 0;
    for row in docs.lines().filter(|line| line.starts_with("| [")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let file = cells[0].split("](").nth(1).unwrap().trim_end_matches(')');
        let path = Path::new(ROOT).join("docs").join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        let names: Vec<&str> = cells[1].split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row}");
        for name in names {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let there = text
                .match_indices(name)
                .any(|(at, _)| !text[..at].ends_with(word) && !text[at + name.len()..].starts_with(word));
            assert!(there, "{file} has no {name}");
            places += 1;
        }
    }
    assert!(places > 30, "{places} places were looked at");
}

/// Every function of the tree's Rust files, by name.
fn functions(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(path).unwrap();
            found.extend(
                words(&text, "fn ", |c| c.is_ascii_alphanumeric() || c == '_').map(|word| word[3..].to_owned()),
            );
        }
    }
}

/// A row shows what it says by tests that exist, or says for what it waits.
#[test]
fn every_test_that_the_threat_model_and_the_guarantees_name_is_there_and_every_row_names_one() {
    let root = Path::new(ROOT);
    let mut known = BTreeSet::new();
    for dir in ["src", "tests", "journal/src", "journal/tests"] {
        functions(&root.join(dir), &mut known);
    }
    for (docs, least_tables, least_tests) in [("docs/security.md", 4, 31), ("docs/guarantees.md", 3, 31)] {
        let text = fs::read_to_string(root.join(docs)).unwrap();
        let (tables, named) = tests_in(&text, &known);
        assert!(
            tables >= least_tables && named >= least_tests,
            "{docs}: {named} tests in {tables} tables"
        );
    }
}

/// How many tables of `docs` have a column "shown by", and how many tests they name, each of which is known.
fn tests_in(docs: &str, known: &BTreeSet<String>) -> (usize, usize) {
    let mut named = 0;
    let mut tables = 0;
    let mut column = None;
    for line in docs.lines() {
        if !line.starts_with('|') {
            column = None;
            continue;
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let Some(column) = column else {
            column = cells.iter().position(|cell| *cell == "shown by");
            tables += usize::from(column.is_some());
            continue;
        };
        if cells[0].starts_with("---") {
            continue;
        }
        let shown = cells[column];
        let tests: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty() || shown.starts_with("<!-- pending: "), "{line}");
        named += tests.len();
        // Names stand in other columns, too.
        for name in line
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| word.matches('_').count() > 2)
        {
            assert!(
                name.starts_with("RUNNER_") || known.contains(name),
                "no test is named {name}"
            );
        }
        for test in tests {
            assert!(known.contains(test), "no test is named {test}");
        }
    }
    (tables, named)
}

/// What stands in the file after the only place where a line of it begins so.
fn after<'a>(text: &'a str, begins: &str) -> &'a str {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(begins));
    let rest = lines.next().unwrap_or_else(|| panic!("no line begins with {begins}"));
    assert_eq!(lines.next(), None, "{begins} twice");
    rest
}

#[test]
fn the_versions_to_install_are_those_of_the_image_and_those_that_were_tried() {
    let read = |name: &str| fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
    let (containerfile, ci) = (read("Containerfile"), read(".ci/run"));
    let of_image = |argument: &str| after(&containerfile, &format!("ARG {argument}=")).to_owned();
    let claude = of_image("CLAUDE_CODE_VERSION");
    assert_eq!(claude, runner::adapters::agent::MEASURED_WITH);
    assert_eq!(after(&ci, "claude="), claude);
    let plugins = read("docs/plugins.md");
    for (package, argument) in [
        ("terraform-mcp-server@", "TERRAFORM_MCP_VERSION"),
        ("awslabs.aws-documentation-mcp-server==", "AWS_DOCS_VERSION"),
    ] {
        let named = format!("{package}{}", of_image(argument));
        assert!(
            plugins.lines().any(|line| line.ends_with(&named)),
            "docs/plugins.md has no {named}"
        );
    }
    for docs in ["docs/quickstart.md", "docs/doctor.md"] {
        let named = format!("@anthropic-ai/claude-code@{claude}");
        assert!(read(docs).contains(&named), "{docs} has no {named}");
    }
}
