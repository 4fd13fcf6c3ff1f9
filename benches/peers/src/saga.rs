//! steno: a saga of nine actions, whose log is kept in SQLite with the settings of the runner's journal.
//!
//! steno leaves storing to its user. This store does the least that its documentation asks for: a row and a commit for
//! the new saga, for each event, and for a change of its state.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use steno::{
    ActionContext, ActionError, ActionRegistry, DagBuilder, Node, SagaCachedState, SagaCreateParams, SagaDag, SagaId,
    SagaName, SagaNodeEvent, SagaType, SecStore, new_action_noop_undo,
};
use tokio::runtime::Runtime;

use crate::by_hand::SETTINGS;
use crate::child::{BODY, Result, STEPS, act, begin, end};

#[derive(Debug)]
struct Store(Mutex<Connection>);

impl Store {
    fn new(path: &Path) -> rusqlite::Result<Self> {
        let conn = Connection::open(path)?;
        conn.execute_batch(SETTINGS)?;
        conn.execute_batch(
            "CREATE TABLE saga (id TEXT PRIMARY KEY, name TEXT, dag TEXT, state TEXT) STRICT;
             CREATE TABLE event (seq INTEGER PRIMARY KEY, saga TEXT, node TEXT, body TEXT) STRICT;",
        )?;
        Ok(Self(Mutex::new(conn)))
    }

    fn commit(&self, sql: &str, values: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<()> {
        let conn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        conn.prepare_cached(sql)?.execute(values)?;
        conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Two of steno's calls cannot fail: a store that cannot write has to end the process.
    fn must(written: rusqlite::Result<()>) {
        if let Err(error) = written {
            eprintln!("failed to write the saga's log: {error}");
            std::process::abort();
        }
    }
}

#[async_trait::async_trait]
impl SecStore for Store {
    async fn saga_create(&self, saga: SagaCreateParams) -> anyhow::Result<()> {
        let (id, name, state) = (saga.id.to_string(), saga.name.to_string(), saga.state.to_string());
        let dag = saga.dag.to_string();
        self.commit("INSERT INTO saga VALUES (?1, ?2, ?3, ?4)", &[&id, &name, &dag, &state])?;
        Ok(())
    }

    async fn record_event(&self, event: SagaNodeEvent) {
        let (saga, node) = (event.saga_id.to_string(), event.node_id.to_string());
        match serde_json::to_string(&event) {
            Ok(body) => Self::must(self.commit(
                "INSERT INTO event (saga, node, body) VALUES (?1, ?2, ?3)",
                &[&saga, &node, &body],
            )),
            Err(error) => eprintln!("an event that is no JSON: {error}"),
        }
    }

    async fn saga_update(&self, id: SagaId, state: SagaCachedState) {
        let (id, state) = (id.to_string(), state.to_string());
        Self::must(self.commit("UPDATE saga SET state = ?2 WHERE id = ?1", &[&id, &state]));
    }
}

#[derive(Debug)]
struct NineSteps;

impl SagaType for NineSteps {
    type ExecContextType = ();
}

/// What a step is made of. steno knows an action by its function, and these differ in their number alone.
async fn step<const N: u32>(_: ActionContext<NineSteps>) -> std::result::Result<String, ActionError> {
    act(N);
    Ok(BODY.to_owned())
}

/// A task in a database of its own.
pub fn task(directory: &Path, runtime: &Runtime) -> Result<Duration> {
    let directory = tempfile::tempdir_in(directory)?;
    let store = Store::new(&directory.path().join("saga.db"))?;
    // The log's header, as with the others: before.
    store.commit("INSERT INTO event (body) VALUES ('')", &[])?;
    let actions: [Arc<dyn steno::Action<NineSteps>>; STEPS as usize] = [
        new_action_noop_undo("step0", step::<0>),
        new_action_noop_undo("step1", step::<1>),
        new_action_noop_undo("step2", step::<2>),
        new_action_noop_undo("step3", step::<3>),
        new_action_noop_undo("step4", step::<4>),
        new_action_noop_undo("step5", step::<5>),
        new_action_noop_undo("step6", step::<6>),
        new_action_noop_undo("step7", step::<7>),
        new_action_noop_undo("step8", step::<8>),
    ];
    let mut registry = ActionRegistry::new();
    let mut dag = DagBuilder::new(SagaName::new("nine-steps"));
    for (number, action) in actions.iter().enumerate() {
        registry.register(Arc::clone(action));
        let name = format!("step{number}");
        dag.append(Node::action(name.as_str(), name.as_str(), action.as_ref()));
    }
    let dag = Arc::new(SagaDag::new(dag.build()?, serde_json::Value::Null));
    runtime.block_on(async move {
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let sec = steno::sec(log, Arc::new(store));
        let id = SagaId::new_v4();
        let start = begin();
        let saga = sec.saga_create(id, Arc::new(()), dag, Arc::new(registry)).await?;
        sec.saga_start(id).await?;
        saga.await
            .kind
            .map_err(|failed| format!("the saga failed: {failed:?}"))?;
        let took = end(start);
        sec.shutdown().await;
        Ok(took)
    })
}
