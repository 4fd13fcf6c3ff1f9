//! The same task of nine durable steps by the runner's journal, by hand, and by others: syncs, times, and what a loss
//! of power can take.
//!
//! Every system runs in a process of its own, which does a task when it is told to. For times the systems take turns,
//! task by task, so that whatever else the machine does meets all of them. For syncs each runs alone under `strace`.

mod by_hand;
mod child;
mod ours;
mod saga;
mod system;
mod table;
mod trace;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use child::Result;
use system::System;

/// Measures a task of nine durable steps in several systems.
#[derive(Parser)]
#[command(
    after_help = "Example:\n  cargo run --release --manifest-path benches/peers/Cargo.toml -- --tasks 500 --json"
)]
struct Cli {
    /// Tasks that are timed, per system
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    tasks: u32,
    /// Tasks that are traced, per system
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    traced: u32,
    /// Where the databases are made: the disk that is measured [default: the temporary directory]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    child: Option<Child>,
}

#[derive(Subcommand)]
enum Child {
    /// A system's own process
    #[command(hide = true)]
    Child { system: String, directory: PathBuf },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if let Some(Child::Child { system, directory }) = cli.child {
        return system::serve(&system, &directory);
    }
    let around = cli.directory.unwrap_or_else(std::env::temp_dir).canonicalize()?;
    system::build_durare()?;
    let timed = system::times(cli.tasks, &around)?;
    let mut rows = Vec::new();
    for (system, times) in System::ALL.into_iter().zip(timed.tasks) {
        rows.push(table::Row {
            system,
            times,
            seen: system::traced(system, cli.traced, &around)?,
        });
    }
    if cli.json {
        println!("{:#}", table::json(&rows, &timed.syncs));
    } else {
        table::print(&rows, &timed.syncs);
    }
    Ok(())
}
