//! docs/openapi.yaml against the code: what real runs send and answer is valid by it, and it has nothing that they do not.

mod file;
mod listener;
mod task_api;

use std::collections::BTreeSet;

use runner::machine::{Failure, StateName, VerdictKind};
use strum::IntoEnumIterator;

use file::File;

fn names<T: IntoEnumIterator + ToString>() -> Vec<String> {
    T::iter().map(|name| name.to_string()).collect()
}

#[test]
fn states_reasons_and_verdicts_of_the_file_are_the_machines() {
    let file = File::read();
    assert_eq!(file.names("State"), names::<StateName>());
    assert_eq!(file.names("Reason"), names::<Failure>());
    assert_eq!(file.names("VerdictEvent"), names::<VerdictKind>());
    assert_eq!(file.version(), env!("CARGO_PKG_VERSION"));
}

/// What a source file has between `before` and `after`, wherever that stands.
fn every_between(source: &str, before: &str, after: char) -> BTreeSet<String> {
    let source = std::fs::read_to_string(format!("{}/{source}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let found = source.split(before).skip(1).filter_map(|rest| rest.split(after).next());
    found.map(str::to_owned).collect()
}

#[test]
fn the_routes_of_the_file_are_those_of_the_code() {
    let file = File::read();
    let of = |tag: &str| -> BTreeSet<String> {
        file.operations(tag)
            .into_iter()
            .map(|operation| operation.path)
            .collect()
    };
    let served = every_between("src/server.rs", ".route(\"", '"');
    assert_eq!(of("listener"), served, "the file, then src/server.rs");
    let asked: BTreeSet<String> = every_between("src/embedded/task_api.rs", ".route(\"", '"')
        .into_iter()
        .map(|path| path.replace("{task}", "{taskID}"))
        .collect();
    assert_eq!(of("task API"), asked, "the file, then src/embedded/task_api.rs");
    let client: BTreeSet<String> = every_between("src/adapters/api.rs", "task_call(&self.task, \"", '"')
        .union(&every_between("src/adapters/api.rs", "self.post(\"", '"'))
        .map(|call| format!("/api/v1/tasks/{{taskID}}/{call}"))
        .collect();
    assert_eq!(of("task API"), client, "the file, then src/adapters/api.rs");
}

#[test]
fn the_listeners_statuses_are_those_of_the_code() {
    let file = File::read();
    let operations = file.operations("listener");
    let shown: BTreeSet<u16> = operations
        .iter()
        .flat_map(|operation| &operation.statuses)
        .map(|status| status.parse().unwrap())
        // Of what is no operation: no such route, and no such method.
        .chain([404, 405])
        .collect();
    let mut known: BTreeSet<u16> = ["src/server.rs", "src/server/door.rs"]
        .iter()
        .flat_map(|source| every_between(source, "StatusCode::", ','))
        .filter_map(|name| {
            let name: String = name
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || *c == '_')
                .collect();
            (!name.is_empty()).then(|| status_named(&name))
        })
        // `Json` alone, and what hyper says of a head that is too long.
        .chain([200, 431])
        .collect();
    known.insert(500);
    assert_eq!(shown, known, "the file, then the code");
}

/// `PAYLOAD_TOO_LARGE` is 413.
fn status_named(name: &str) -> u16 {
    (100..600)
        .find(|&code| {
            let status = reqwest::StatusCode::from_u16(code).unwrap();
            let reason = status.canonical_reason().unwrap_or_default();
            reason.to_uppercase().replace([' ', '-'], "_") == name
        })
        .unwrap_or_else(|| panic!("no status is named {name}"))
}
