//! The state diagram of the docs, generated from the machine, so that it cannot be out of date.

use std::fmt::Write;

use strum::IntoEnumIterator;

use super::state::StateName;

/// The machine as a Mermaid state diagram: every edge of [`StateName::successors`], with the effects that lead along it.
pub fn mermaid() -> String {
    let mut out = String::from("stateDiagram-v2\n    [*] --> Assigned: POST /task\n");
    for from in StateName::iter() {
        for to in from.successors() {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "    {from} --> {to}: {}", label(from, *to));
        }
    }
    let after = StateName::Reported.effects().iter().map(<&str>::from);
    let _ = writeln!(out, "    Reported --> [*]: {}", after.collect::<Vec<_>>().join(", "));
    out
}

fn label(from: StateName, to: StateName) -> String {
    if to != StateName::Reported {
        let effects: Vec<&str> = from.effects().iter().map(<&str>::from).collect();
        return effects.join(", ");
    }
    let verdicts = match from {
        StateName::PrOpened => "completed or failed",
        StateName::AgentRan | StateName::Pushed => "completed, failed or superseded",
        StateName::Assigned
        | StateName::Started
        | StateName::DataFetched
        | StateName::TokenIssued
        | StateName::Cloned
        | StateName::Reported => "failed or superseded",
    };
    format!("report {verdicts}")
}
