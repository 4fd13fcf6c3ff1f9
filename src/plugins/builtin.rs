//! The plugins that the binary carries, so that whoever copies it has them too. The programs of their servers it does not carry:
//! those are found in `PATH`.

use std::fs;
use std::io;
use std::path::Path;

/// A plugin's files, in the binary.
#[derive(Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// Its name.
    pub name: &'static str,
    /// Paths below its directory, and what is in them.
    pub files: &'static [(&'static str, &'static str)],
}

macro_rules! built_in {
    ($name:literal: $($path:literal),+ $(,)?) => {
        BuiltIn {
            name: $name,
            files: &[$(($path, include_str!(concat!("../assets/plugins/", $name, "/", $path)))),+],
        }
    };
}

/// All of them.
pub static BUILT_IN: [BuiltIn; 2] = [
    built_in!("aws-docs":
        ".claude-plugin/plugin.json",
        ".mcp.json",
        "agents/aws-researcher.md",
        "commands/check-aws.md",
        "skills/aws-docs/SKILL.md",
    ),
    built_in!("terraform":
        ".claude-plugin/plugin.json",
        ".mcp.json",
        "agents/terraform-reviewer.md",
        "commands/explain-plan.md",
        "skills/terraform-registry/SKILL.md",
    ),
];

impl BuiltIn {
    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        BUILT_IN.iter().find(|plugin| plugin.name == name)
    }

    /// Writes its files below a directory of its own. What is there already may be half of an earlier one.
    pub(super) fn write(&self, root: &Path) -> io::Result<()> {
        for (path, text) in self.files {
            let file = root.join(path);
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&file, text)?;
        }
        Ok(())
    }
}
