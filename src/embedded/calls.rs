//! What the embedded servers were asked, kept for those who count.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, Request};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use crate::embedded::faults::{Ending, Endpoint, Faults, Handled};
use crate::embedded::listening::Connection;

/// How many bytes of bodies are kept in all. `runner run` has nobody who looks at them, and an agent may say anything.
const BODIES_LIMIT: usize = 32 * 1024 * 1024;

/// One request, as it came.
#[derive(Debug, Clone)]
pub struct Call {
    /// What it asked for.
    pub endpoint: Endpoint,
    /// Whom it was about: a task's id, or `OWNER/NAME`.
    pub subject: String,
    /// Its headers, credentials among them.
    pub headers: HeaderMap,
    /// Its body; empty where 32 MiB of bodies came before it.
    pub body: Vec<u8>,
    /// What became of it.
    pub ending: Ending,
}

impl Call {
    /// A header's text, where there is one and it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `Idempotency-Key`.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.header("idempotency-key")
    }
}

/// All requests of a server, in the order in which they came. Clones share it.
#[derive(Debug, Clone)]
pub struct CallLog {
    calls: Arc<Mutex<Vec<Call>>>,
    load: Arc<Load>,
    changed: watch::Sender<()>,
}

/// How many requests are under way at once, and how many bytes of bodies are kept.
#[derive(Debug, Default)]
struct Load {
    now: AtomicUsize,
    most: AtomicUsize,
    bodies: AtomicUsize,
}

/// One request under way, to its answer or until its client has gone.
struct UnderWay(Arc<Load>);

impl UnderWay {
    fn begin(counted: &Arc<Load>) -> Self {
        let now = counted.now.fetch_add(1, Ordering::SeqCst) + 1;
        counted.most.fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(counted))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Default for CallLog {
    fn default() -> Self {
        Self {
            calls: Arc::default(),
            load: Arc::default(),
            changed: watch::Sender::new(()),
        }
    }
}

/// A request with its body read to the end, and the connection it came by.
pub(crate) struct Arrival {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    connection: Connection,
}

impl<S: Send + Sync> FromRequest<S> for Arrival {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let connection = request
            .extensions()
            .get::<ConnectInfo<Connection>>()
            .map(|ConnectInfo(connection)| connection.clone())
            .unwrap_or_default();
        let headers = request.headers().clone();
        let body = Bytes::from_request(request, state)
            .await
            .map_err(IntoResponse::into_response)?;
        Ok(Self {
            headers,
            body,
            connection,
        })
    }
}

impl CallLog {
    /// Those that asked for `endpoint`.
    pub fn of(&self, endpoint: Endpoint) -> Vec<Call> {
        self.lock()
            .iter()
            .filter(|call| call.endpoint == endpoint)
            .cloned()
            .collect()
    }

    /// All.
    pub fn all(&self) -> Vec<Call> {
        self.lock().clone()
    }

    /// How many requests were under way at the same time, at most.
    pub fn most_at_once(&self) -> usize {
        self.load.most.load(Ordering::SeqCst)
    }

    /// Waits until `condition` holds; it is looked at again after each call that came in or ended.
    pub async fn until(&self, condition: impl Fn() -> bool) {
        let mut changed = self.changed.subscribe();
        while !condition() {
            // Cannot fail: the sender is in self.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Logs the request, does its work with the fault that is on, and logs how it ended.
    pub(crate) async fn handle<T, W>(
        &self,
        faults: &Faults,
        endpoint: Endpoint,
        subject: String,
        arrival: Arrival,
        work: W,
    ) -> Handled<T>
    where
        T: Send + 'static,
        W: Future<Output = (Response, T)> + Send + 'static,
    {
        let _under_way = UnderWay::begin(&self.load);
        let before = self.load.bodies.fetch_add(arrival.body.len(), Ordering::SeqCst);
        let kept = before < BODIES_LIMIT;
        let index = {
            let mut calls = self.lock();
            calls.push(Call {
                endpoint,
                subject,
                headers: arrival.headers,
                body: if kept { arrival.body.to_vec() } else { Vec::new() },
                ending: Ending::Open,
            });
            calls.len() - 1
        };
        self.changed.send_replace(());
        let changed = self.changed.clone();
        let work = async move {
            let did = work.await;
            // The client may be gone by now, and with it whoever waits below.
            changed.send_replace(());
            did
        };
        let handled = faults.around(endpoint, &arrival.connection, work).await;
        if let Some(call) = self.lock().get_mut(index) {
            call.ending = handled.ending;
        }
        self.changed.send_replace(());
        handled
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
