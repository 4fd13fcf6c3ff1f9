use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A plugin's directory with these files, as it is named.
    fn plugin(&self, folder: &str, files: &[(&str, &str)]) -> String {
        let root = self.0.path().join(folder);
        for (path, text) in files {
            let file = root.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        root.to_str().unwrap().to_owned()
    }
}

const MANIFEST: &str = ".claude-plugin/plugin.json";

fn refused(named: &[&str]) -> String {
    choose(named).unwrap_err().to_string()
}

fn files(dir: &Path, below: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, below, found);
        } else {
            found.insert(path.strip_prefix(below).unwrap().to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn every_file_of_the_built_in_plugins_is_in_the_binary_and_is_laid_as_it_is() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/assets/plugins");
    let mut there = BTreeSet::new();
    files(&assets, &assets, &mut there);
    let desk = tempfile::tempdir().unwrap();
    for built_in in &BUILT_IN {
        let plugin = selection::of_the_binary(built_in).unwrap();
        assert_eq!(
            plugin.lay(desk.path()).unwrap(),
            desk.path().join("plugins").join(built_in.name)
        );
        // Over what is there.
        plugin.lay(desk.path()).unwrap();
    }
    let laid = desk.path().join("plugins");
    let mut found = BTreeSet::new();
    files(&laid, &laid, &mut found);
    assert_eq!(found, there);
    for file in found {
        assert_eq!(
            fs::read(laid.join(&file)).unwrap(),
            fs::read(assets.join(&file)).unwrap(),
            "{file}"
        );
    }
}

/// What Claude Code takes for what: its words begin between lines of dashes.
fn head(text: &str) -> (&str, &str) {
    let rest = text.strip_prefix("---\n").expect("a head");
    rest.split_once("\n---\n").expect("the end of a head")
}

#[test]
fn each_built_in_plugin_has_a_server_a_skill_an_agent_and_a_command_that_say_what_they_are_for() {
    for built_in in &BUILT_IN {
        let plugin = selection::of_the_binary(built_in).unwrap();
        assert_eq!(plugin.name, built_in.name);
        assert!(plugin.version.is_some() && plugin.description.is_some(), "{plugin:?}");
        let Parts {
            skills,
            agents,
            commands,
        } = &plugin.parts;
        let counts = [skills.len(), agents.len(), commands.len(), plugin.servers.len()];
        assert_eq!(counts, [1, 1, 1, 1], "{plugin:?}");
        // The rest is JSON.
        for (path, text) in built_in.files.iter().filter(|(_, text)| !text.starts_with('{')) {
            let (head, body) = head(text);
            assert!(head.lines().any(|line| line.starts_with("description: ")), "{path}");
            assert!(body.len() > 200, "{path}");
            let expected = [skills, agents]
                .into_iter()
                .flatten()
                .find(|name| path.contains(name.as_str()));
            if let Some(name) = expected {
                assert!(
                    head.lines().any(|line| line == format!("name: {name}")),
                    "{path}: {head}"
                );
            }
            // An agent gets the tools that it names and no other: a name that is not its server's is no tool.
            let prefix = format!("mcp__plugin_{}_{}__", plugin.name, plugin.servers[0].name);
            for tool in head.split([' ', ',']).filter(|word| word.starts_with("mcp__")) {
                assert!(tool.starts_with(&prefix), "{path}: {tool}");
            }
        }
    }
}

#[test]
fn names_are_built_in_and_what_has_a_slash_is_a_directory_and_twice_is_once() {
    let room = Room::new();
    let own = room.plugin(
        "own",
        &[
            (
                MANIFEST,
                r#"{"name": "own", "version": "2", "keywords": ["x"], "hooks": "./hooks.json"}"#,
            ),
            ("skills/one/SKILL.md", ""),
            ("skills/no-skill/notes.md", ""),
            ("agents/two.md", ""),
            ("commands/three.md", ""),
        ],
    );
    let chosen = choose(&["terraform", &own, "", " terraform ", &format!("{own}/")]).unwrap();
    let names: Vec<&str> = chosen.iter().map(|plugin| plugin.name.as_str()).collect();
    assert_eq!(names, ["terraform", "own"]);
    assert_eq!(chosen[0].directory(), None);
    let real = fs::canonicalize(&own).unwrap();
    assert_eq!(chosen[1].directory(), Some(real.as_path()));
    let parts = Parts {
        skills: vec!["one".to_owned()],
        agents: vec!["two".to_owned()],
        commands: vec!["three".to_owned()],
    };
    assert_eq!(chosen[1].parts, parts);
    assert_eq!(chosen[1].lay(Path::new("/nowhere")).unwrap(), real);
    assert_eq!(choose::<&str>(&[]).unwrap(), []);
}

#[test]
fn what_is_no_plugin_is_refused_by_name_and_says_what_there_is() {
    let room = Room::new();
    assert_eq!(
        refused(&["aws"]),
        "no plugin is named \"aws\": aws-docs, terraform are built in; a directory is written with a slash, as ./aws"
    );
    let folder = room.0.path().to_str().unwrap().to_owned();
    room.plugin("one", &[(MANIFEST, r#"{"name": "one"}"#)]);
    room.plugin("two", &[(MANIFEST, r#"{"name": "two"}"#)]);
    let around = refused(&[&folder]);
    assert!(
        around.contains("has no .claude-plugin/plugin.json, but these in it have: one, two"),
        "{around}"
    );
    let nowhere = refused(&[&format!("{folder}/nowhere")]);
    assert!(
        nowhere.ends_with("/nowhere is no plugin: it has no .claude-plugin/plugin.json"),
        "{nowhere}"
    );
}

#[test]
fn a_plugin_that_could_not_be_used_is_refused_by_its_file_and_the_reason() {
    let room = Room::new();
    let whole = r#"{"name": "p"}"#;
    let cases: [(&[(&str, &str)], &str); 10] = [
        (&[(MANIFEST, "{")], ".claude-plugin/plugin.json cannot be used: EOF"),
        (&[(MANIFEST, r#"{"version": "1"}"#)], "missing field `name`"),
        (
            &[(MANIFEST, r#"{"name": "a b"}"#)],
            "the plugin's name \"a b\" cannot be used",
        ),
        (
            &[(MANIFEST, whole), (".mcp.json", "nonsense")],
            ".mcp.json cannot be used: expected",
        ),
        (
            &[(MANIFEST, whole), (".mcp.json", r#"{"mcpServers": []}"#)],
            "mcpServers is not an object",
        ),
        (
            &[
                (MANIFEST, whole),
                (".mcp.json", r#"{"mcpServers": {"a__b c": {"command": "x"}}}"#),
            ],
            "the server's name \"a__b c\"",
        ),
        (
            &[
                (MANIFEST, whole),
                (".mcp.json", r#"{"mcpServers": {"s": {"command": "./x"}}}"#),
            ],
            "the MCP server \"s\" has the command \"./x\"",
        ),
        (
            &[(MANIFEST, r#"{"name": "p", "mcpServers": "../out.json"}"#)],
            "\"../out.json\", which is no JSON file",
        ),
        (
            &[(MANIFEST, r#"{"name": "p", "mcpServers": "./bundle.mcpb"}"#)],
            "bundles (.mcpb) are not taken",
        ),
        (
            &[(MANIFEST, r#"{"name": "p", "mcpServers": ["./gone.json"]}"#)],
            "\"./gone.json\", which is no JSON file",
        ),
    ];
    for (index, (files, why)) in cases.into_iter().enumerate() {
        let named = room.plugin(&format!("p{index}"), files);
        let error = refused(&[&named]);
        assert!(error.contains(why) && error.contains(&format!("p{index}")), "{error}");
    }
    // A pipe would be waited for.
    let named = room.plugin("piped", &[(MANIFEST, whole)]);
    nix::unistd::mkfifo(&Path::new(&named).join(".mcp.json"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(refused(&[&named]).contains(".mcp.json cannot be read: it is no file"));
    let long = room.plugin(
        "long",
        &[(MANIFEST, whole), (".mcp.json", &" ".repeat(1024 * 1024 + 1))],
    );
    assert!(refused(&[&long]).contains("longer than 1 MiB"));
}

#[test]
fn two_plugins_of_one_name_are_refused_by_where_they_are_from() {
    let room = Room::new();
    let own = room.plugin("mine", &[(MANIFEST, r#"{"name": "terraform"}"#)]);
    let error = refused(&["terraform", &own]);
    assert!(
        error.contains("two plugins are named \"terraform\", built in and ") && error.contains("mine"),
        "{error}"
    );
    assert_eq!(choose(&[&own]).unwrap().len(), 1, "alone, it may have any name");
}

#[test]
fn servers_are_declared_in_a_file_in_the_manifest_or_in_both_and_are_all_handed_over() {
    let room = Room::new();
    let own = room.plugin(
        "own",
        &[
            (
                MANIFEST,
                r#"{"name": "own", "mcpServers": ["./more.json", {"inline": {"command": "c"}, "both": {"command": "later"}}]}"#,
            ),
            (".mcp.json", r#"{"mcpServers": {"both": {"command": "first"}, "one": {"command": "a"}}}"#),
            ("more.json", r#"{"bare": {"type": "http", "url": "https://mcp.example/"}}"#),
        ],
    );
    let plugins = choose(&[own]).unwrap();
    let config = mcp_config(&[Laid {
        plugin: &plugins[0],
        root: &PathBuf::from("/p"),
    }]);
    let env = json!({"CLAUDE_PLUGIN_ROOT": "/p"});
    let expected = json!({"mcpServers": {
        "plugin:own:bare": {"type": "http", "url": "https://mcp.example/"},
        "plugin:own:both": {"command": "later", "env": env},
        "plugin:own:inline": {"command": "c", "env": env},
        "plugin:own:one": {"command": "a", "env": env},
    }});
    assert_eq!(config, expected);
}
