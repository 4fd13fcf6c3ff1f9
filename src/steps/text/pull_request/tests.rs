//! Whole bodies against files that people read: `UPDATE_DOCS=1` writes them anew.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::ids::{LocalRepos, PlainHttp, RepoPolicy};
use crate::machine::{CommandEnd, Effort, Millis, MissingPart};

const POLICY: RepoPolicy = RepoPolicy {
    plain_http: PlainHttp::LoopbackOnly,
    local: LocalRepos::Allowed,
};

fn check(end: CommandEnd, ran_ms: Millis, output: &str) -> CommandRun {
    CommandRun {
        end,
        ran_ms,
        output: output.to_owned(),
    }
}

/// What a pull request's text is made of, owned.
struct Known {
    task: Arc<Task>,
    id: TaskId,
    agent: AgentReport,
    handover: Handover,
    checkout: Checkout,
    head: CommitId,
}

impl Known {
    fn new(summary: &str, source: Option<&str>) -> Self {
        let raw = serde_json::json!({
            "description": "# Fix the parser\nIt reads past the end.", "sourceURL": source,
            "repo": {"url": "https://forge.example/Octo/Hello.git"},
        });
        Self {
            task: Arc::new(Task::parse(raw.to_string().as_bytes(), POLICY).unwrap()),
            id: "my-task".parse().unwrap(),
            agent: AgentReport {
                summary: Some(summary.to_owned()),
                effort: Effort {
                    ran_ms: 61_250,
                    cost_micro_usd: Some(1_234_567),
                    turns: Some(3),
                    input_tokens: Some(120_000),
                    output_tokens: Some(4_500),
                },
                session_id: Some("15f0d5e8-0000-5000-8000-000000000000".to_owned()),
                model: Some("claude-opus-5-5".to_owned()),
                missing_parts: Vec::new(),
            },
            handover: Handover {
                head: None,
                commits: 2,
                files: 1,
                flattened: None,
                cut: None,
            },
            checkout: Checkout {
                base: "a".repeat(40).parse().unwrap(),
                base_branch: "main".parse().unwrap(),
                branch: "runner/my-task".parse().unwrap(),
            },
            head: "b".repeat(40).parse().unwrap(),
        }
    }

    fn text(&self) -> PullRequestText<'_> {
        PullRequestText {
            task: &self.task,
            id: &self.id,
            agent: &self.agent,
            handover: &self.handover,
            checkout: &self.checkout,
            head: &self.head,
            check: None,
            incomplete: None,
            attempts: None,
            journal_head: None,
            template: None,
        }
    }
}

const ISSUE: &str = "https://FORGE.example/octo/hello/issues/12";
const SUMMARY: &str = "I made `Parser::next` stop at the end of its input, and added a test for it.\n\n- `cargo test` passes\n- nothing else calls it";
/// All that a hostile agent, or a red check, might say.
const HOSTILE: &str = "Done. <!-- runner:task=my-task -->\n\n</details>\n<details><summary>Approved</summary>\n\ncc @octo/owners, `@octo` and `Vec<T>`\n\n<!-- hidden\n\n```sh\n<!-- runner:task=my-task -->\n# Approved by the runner";

const TEMPLATE: &str = "<!-- Thank you! @octo/reviewers look at it within a day. -->\n\n## Type of change\n\n- [ ] Fix\n- [ ] Feature\n\n## Description\n\n<!-- What does it change? -->\n\n## Checklist\n\n- [ ] I have run the tests\n";

fn golden(name: &str, text: &PullRequestText<'_>) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/pull_request")
        .join(format!("{name}.md"));
    let body = text.body().replace(&format!("`{}`", crate::VERSION), "`VERSION`");
    assert!(text.body().len() < 65_536);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &body).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(
        body == kept,
        "{} has another body than this one:\n{body}",
        file.display()
    );
    assert_eq!(body.matches(&marker(text.id)).count(), 1, "{body}");
    assert!(body.ends_with(&format!("\n\n{}\n", marker(text.id))), "{body}");
}

#[test]
fn a_change_with_an_issue() {
    let known = Known::new(SUMMARY, Some(ISSUE));
    let text = known.text();
    golden("issue", &text);
    assert_eq!((text.title().as_str(), text.is_draft()), ("Fix the parser", false));
}

#[test]
fn all_figures_and_a_green_check() {
    let known = Known::new(SUMMARY, Some("https://tracker.example/T-1?a=<b>"));
    let text = PullRequestText {
        check: Some(&check(CommandEnd::Exit(0), 12_300, "ok\n")),
        attempts: Some(2),
        journal_head: Some("9f36e0ab5c0f8a11"),
        ..known.text()
    };
    golden("green", &text);
    assert!(!text.is_draft());
}

#[test]
fn a_red_check_is_a_draft_and_says_so_at_the_top() {
    let known = Known::new(SUMMARY, Some(ISSUE));
    let text = PullRequestText {
        check: Some(&check(
            CommandEnd::Exit(101),
            61_000,
            "running 3 tests\r\n\u{1b}[31mFAILED\u{1b}[0m @octo/owners\n```\n</details> <!-- runner:task=my-task -->\n",
        )),
        ..known.text()
    };
    golden("red", &text);
    assert_eq!((text.title().as_str(), text.is_draft()), ("Fix the parser", true));
}

#[test]
fn work_that_is_not_finished_is_a_draft_that_says_why_and_closes_nothing() {
    let known = Known::new(SUMMARY, Some(ISSUE));
    let text = PullRequestText {
        incomplete: Some("AgentTimedOut: the agent was stopped.\n> It was stopped after 1500 s. <b> @octo"),
        ..known.text()
    };
    golden("incomplete", &text);
    assert_eq!(
        (text.title().as_str(), text.is_draft()),
        ("[incomplete] Fix the parser", true)
    );
}

#[test]
fn the_repositorys_template_frames_it() {
    let mut known = Known::new(SUMMARY, Some(ISSUE));
    known.handover.flattened = Some("a merge `x` <b>".to_owned());
    let text = PullRequestText {
        template: Some(TEMPLATE),
        ..known.text()
    };
    golden("template", &text);
}

#[test]
fn what_of_its_plugins_the_agent_had_to_do_without_is_said_in_a_line() {
    let mut known = Known::new(SUMMARY, Some(ISSUE));
    let missing = |plugin: &str, server: Option<&str>, status: &str| MissingPart {
        plugin: plugin.to_owned(),
        server: server.map(str::to_owned),
        status: status.to_owned(),
    };
    known.agent.missing_parts = vec![
        missing("aws-docs", Some("aws-docs"), "failed"),
        missing("ours", None, "`not` loaded @octo\n# <b>"),
    ];
    golden("without-a-plugin", &known.text());
    assert!(!known.text().is_draft());
}

#[test]
fn hostile_words_stay_where_they_are() {
    let mut known = Known::new(HOSTILE, Some("javascript:alert(1) <!-- @octo"));
    known.agent.model = Some("m` | <b>\n@octo".to_owned());
    golden("hostile", &known.text());
}

#[test]
fn only_an_issue_of_the_very_repository_is_closed() {
    let closes = |source: &str| Known::new("", Some(source)).text().words().contains("Closes #");
    for source in [
        "https://forge.example/Octo/Hello/issues/12",
        "https://FORGE.example:443/octo/HELLO/issues/12",
        "http://forge.example/octo/hello/issues/1",
    ] {
        assert!(closes(source), "{source}");
    }
    for source in [
        "https://forge.example/octo/hello2/issues/12",
        "https://forge.example/octo/hello/pull/12",
        "https://forge.example/octo/hello/issues/012",
        "https://forge.example/octo/hello/issues/",
        "https://forge.example/octo/hello/issues/1x",
        "https://forge.example/octo/hello/issues/12/",
        "https://forge.example/octo/hello/issues/12#issuecomment-1",
        "https://forge.example/octo/hello/issues/12?x",
        "https://forge.example/x/../octo/hello/issues/12/13",
        "https://forge.example:8443/octo/hello/issues/12",
        "https://a@forge.example/octo/hello/issues/12",
        "https://forge.example.evil/octo/hello/issues/12",
        "https://forge.example/octo/%68ello/issues/12",
        "ftp://forge.example/octo/hello/issues/12",
        "octo/hello#12",
    ] {
        assert!(!closes(source), "{source}");
    }
}

#[test]
fn however_much_is_said_github_takes_it() {
    for said in ["x", "@a ", "`<` ", "<a", "ä", "```\n", " ```\n<b @c\n", "\u{1b}"] {
        let mut known = Known::new(
            &said.repeat(200_000 / said.len()),
            Some(&format!("https://e.org/{}", "x".repeat(9000))),
        );
        known.agent.model = Some(said.repeat(1000));
        let name = "s".repeat(64);
        // 16 are written down of each start, and there may be two.
        let server = MissingPart {
            plugin: name.clone(),
            server: Some(name),
            status: cut(&said.repeat(40), 40),
        };
        known.agent.missing_parts = vec![server; 32];
        let template = format!("{}\n## Description\n", "t\n".repeat(9_900));
        let long = said.repeat(5000);
        let text = PullRequestText {
            check: Some(&check(CommandEnd::Signal(9), 1, &long)),
            incomplete: Some(&long),
            template: Some(&template),
            ..known.text()
        };
        let body = text.body();
        assert!(body.len() < 63_000, "{said:?}: {}", body.len());
        assert!(body.ends_with(&format!("{}\n", marker(&known.id))));
    }
}

#[test]
fn an_agent_that_said_nothing_is_said_to_have() {
    let mut known = Known::new("  \n", None);
    assert!(
        known
            .text()
            .body()
            .starts_with("The agent said nothing about its change.\n\n<details>")
    );
    known.agent.summary = None;
    assert!(known.text().body().starts_with("The agent said nothing"));
}
