//! The chosen plugins: whether their servers' programs are there. Starting them is what `runner plugins check` is for.

use super::{Check, CheckName, Here};
use crate::plugins::{Definition, Plugin};

/// Nothing where none is chosen.
pub(super) fn check(here: &Here<'_>) -> Option<Check> {
    let plugins = &here.settings.plugins;
    let names: Vec<&str> = plugins.iter().map(|plugin| plugin.name.as_str()).collect();
    let missing: Vec<String> = plugins.iter().flat_map(missing).collect();
    if names.is_empty() {
        return None;
    }
    let found = names.join(", ");
    Some(if missing.is_empty() {
        Check::ok(
            CheckName::Plugins,
            format!("{found}; `runner plugins check` starts their servers"),
        )
    } else {
        Check::warn(
            CheckName::Plugins,
            format!("{found}; not in PATH: {}", missing.join(", ")),
            "install what is missing, or leave the plugin out: the agent works without its tools, and the pull request says so",
        )
    })
}

/// Programs that are looked for by name and not found. What has a variable in it is known when it is started.
fn missing(plugin: &Plugin) -> impl Iterator<Item = String> + '_ {
    plugin.servers.iter().filter_map(|server| match &server.definition {
        Definition::Stdio { program, .. }
            if !program.command.contains('$') && which::which(&program.command).is_err() =>
        {
            Some(crate::text::excerpt(&program.command))
        }
        Definition::Stdio { .. } | Definition::Remote { .. } => None,
    })
}
