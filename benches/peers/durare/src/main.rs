//! durare: a workflow of nine steps, over SQLite as it ships and with `synchronous` set to FULL.

#[path = "../../src/child.rs"]
mod child;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use durare::{DurableContext, DurableEngine, SqliteProvider, WorkflowOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use child::{BODY, Result, STEPS, act, begin, end};

#[durare::step]
async fn step(ctx: &DurableContext, number: u32) -> durare::Result<String> {
    act(number);
    Ok(BODY.to_owned())
}

#[durare::workflow]
async fn nine_steps(ctx: DurableContext, _task: String) -> durare::Result<()> {
    for number in 0..STEPS {
        step(&ctx, number).await?;
    }
    Ok(())
}

/// `peers-durare shipped|full DIRECTORY`: one engine and one database for all tasks.
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(settings), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("peers starts this: shipped|full DIRECTORY".into());
    };
    let url = format!("sqlite://{}", PathBuf::from(directory).join("durare.db").display());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let engine = runtime.block_on(engine(&settings, &url))?;
    let mut number = 0_u64;
    child::serve(|| {
        number += 1;
        runtime.block_on(task(&engine, number))
    })
}

async fn engine(settings: &str, url: &str) -> Result<DurableEngine> {
    let provider = match settings {
        "shipped" => SqliteProvider::connect(url).await?,
        "full" => {
            // What `connect` sets, but for this one.
            let options = SqliteConnectOptions::from_str(url)?
                .create_if_missing(true)
                .foreign_keys(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(Duration::from_secs(5));
            let pool = SqlitePoolOptions::new()
                .max_connections(5)
                .connect_with(options)
                .await?;
            SqliteProvider::from_pool(pool)
        }
        other => return Err(format!("shipped or full, not {other}").into()),
    };
    Ok(DurableEngine::new(Arc::new(provider)).await?)
}

async fn task(engine: &DurableEngine, number: u64) -> Result<Duration> {
    let options = WorkflowOptions::with_id(format!("task-{number}"));
    let start = begin();
    engine.start_with(NineSteps, String::new(), options).await?.await?;
    Ok(end(start))
}
