//! The model's part: Anthropic's Messages API in miniature, which says what a script says and keeps what it was told.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its room has failed")]

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request as AnyRequest, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// What a scripted model says in one turn.
#[derive(Clone)]
pub(crate) enum Turn {
    /// It uses a tool.
    Tool(&'static str, Value),
    /// It says its last words.
    Says(&'static str),
    /// It answers with an error of this status.
    Status(u16),
    /// It takes the request, and answers nothing.
    Silent,
    /// It begins to answer, and says no more.
    Stalls,
    /// It begins to answer, and the connection breaks.
    Breaks,
}

impl Turn {
    /// A command line for the Bash tool.
    pub(crate) fn bash(command: &str) -> Self {
        Self::Tool("Bash", json!({"command": command, "description": "Run a command"}))
    }
}

/// What each turn is charged for.
const USAGE: (u64, u64) = (1000, 100);

/// The server. It ends when it is dropped.
pub(crate) struct MessagesApi {
    url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    turns: Mutex<VecDeque<Turn>>,
    always: Mutex<Option<Turn>>,
    heard: Mutex<String>,
    asked: Mutex<Vec<String>>,
    turns_taken: Mutex<u64>,
}

impl MessagesApi {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let routes = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, shared, serving }
    }

    /// What the model will say.
    pub(crate) fn script(&self, turns: impl IntoIterator<Item = Turn>) {
        self.shared.turns.lock().unwrap().extend(turns);
    }

    /// What it will say whenever its script is over.
    pub(crate) fn always(&self, turn: Turn) {
        *self.shared.always.lock().unwrap() = Some(turn);
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Every request as it came: method, path, headers, body.
    pub(crate) fn heard(&self) -> String {
        self.shared.heard.lock().unwrap().clone()
    }

    /// How many turns of the script were asked for, those after its end too.
    pub(crate) fn turns_taken(&self) -> u64 {
        self.shared.turns_taken()
    }

    /// The bodies of the requests of the conversation, one a turn.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Drop for MessagesApi {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = String::from_utf8_lossy(&body);
    let request = format!("{method} {uri}\n{headers:?}\n{text}\n");
    shared.heard.lock().unwrap().push_str(&request);
    if method != Method::POST || !uri.path().ends_with("/v1/messages") {
        return axum::Json(json!({"input_tokens": text.len() / 4})).into_response();
    }
    let Ok(asked) = serde_json::from_str::<Value>(&text) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    // The conversation is what has tools of the client's; titles and probes have none, and no part in the script.
    let tools = asked["tools"].as_array();
    let is_conversation = tools.is_some_and(|tools| tools.iter().any(|tool| tool.get("input_schema").is_some()));
    let (taken, turn) = if is_conversation {
        shared.asked.lock().unwrap().push(text.to_string());
        shared.next()
    } else {
        (0, Turn::Says("ok"))
    };
    let begun = matches!(turn, Turn::Stalls | Turn::Breaks);
    let (content, stop) = match &turn {
        Turn::Tool(name, input) => {
            let id = format!("toolu_{taken}");
            (
                json!({"type": "tool_use", "id": id, "name": name, "input": input}),
                "tool_use",
            )
        }
        Turn::Says(text) => (json!({"type": "text", "text": text}), "end_turn"),
        Turn::Stalls | Turn::Breaks => (json!({"type": "text", "text": "I"}), "end_turn"),
        Turn::Silent => std::future::pending().await,
        Turn::Status(status) => return refusal(*status),
    };
    let (input_tokens, output_tokens) = USAGE;
    let message = json!({
        "id": format!("msg_{}", shared.turns_taken()), "type": "message", "role": "assistant", "model": asked["model"],
        "content": [content],
        "stop_reason": stop, "stop_sequence": null,
        "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens},
    });
    if begun {
        return beginning(&events(message), matches!(turn, Turn::Breaks));
    }
    if asked["stream"] == true {
        ([(header::CONTENT_TYPE, "text/event-stream")], events(message)).into_response()
    } else {
        axum::Json(message).into_response()
    }
}

impl Shared {
    fn turns_taken(&self) -> u64 {
        *self.turns_taken.lock().unwrap()
    }

    /// The next turn, and which one it is.
    fn next(&self) -> (u64, Turn) {
        let mut taken = self.turns_taken.lock().unwrap();
        *taken += 1;
        let turn = self.turns.lock().unwrap().pop_front();
        let after = || self.always.lock().unwrap().clone();
        (*taken, turn.or_else(after).unwrap_or(Turn::Says("The script is over.")))
    }
}

/// An error as Anthropic's API has it.
fn refusal(status: u16) -> Response {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    let body = json!({"type": "error", "error": {"type": kind, "message": "said by the test's model"}});
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

/// The first two events of a stream; then the connection breaks, or there is silence.
fn beginning(stream: &str, breaks: bool) -> Response {
    let first: String = stream.split_inclusive("\n\n").take(2).collect();
    let first = futures_util::stream::once(async { Ok(Bytes::from(first)) });
    let rest = futures_util::stream::once(async move {
        if breaks {
            // What was written has to be on its way before.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            return Err(io::Error::other("broken off by the test"));
        }
        std::future::pending().await
    });
    let body = Body::from_stream(first.chain(rest));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// A message of one block as a stream of events, each part in one piece.
fn events(mut message: Value) -> String {
    let mut block = message["content"][0].take();
    message["content"] = json!([]);
    let end = json!({"stop_reason": message["stop_reason"].take(), "stop_sequence": null});
    let usage = message["usage"].clone();
    let delta = if block["type"] == "tool_use" {
        let input = std::mem::replace(&mut block["input"], json!({}));
        json!({"type": "input_json_delta", "partial_json": input.to_string()})
    } else {
        json!({"type": "text_delta", "text": std::mem::replace(&mut block["text"], json!(""))})
    };
    let parts = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": end, "usage": usage}),
        json!({"type": "message_stop"}),
    ];
    let name = |part: &Value| part["type"].as_str().unwrap().to_owned();
    let lines = parts
        .iter()
        .map(|part| format!("event: {}\ndata: {part}\n\n", name(part)));
    lines.collect::<Vec<_>>().concat()
}

/// An answer of [`RawApi`], as a test wants it on the wire.
pub(crate) enum Answer {
    /// In one piece.
    Whole(u16, Vec<(&'static str, &'static str)>, Vec<u8>),
    /// An event stream, in the pieces that the test sends. An error cuts the connection. The sender sees it closed when
    /// nobody takes them any more.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
    /// None at all; the sender is closed when the one who asked has gone.
    Never(mpsc::Receiver<io::Result<Bytes>>),
}

/// A request as it came.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    /// How much of its body has come.
    pub(crate) body: watch::Receiver<usize>,
    /// The peer's port: the same for requests of one connection.
    pub(crate) from: SocketAddr,
}

/// A server that answers what it is told to, one answer a request.
pub(crate) struct RawApi {
    pub(crate) address: SocketAddr,
    answers: mpsc::UnboundedSender<Answer>,
    heard: watch::Receiver<Vec<Request>>,
    serving: JoinHandle<()>,
}

impl RawApi {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answers, next) = mpsc::unbounded_channel();
        let (hear, heard) = watch::channel(Vec::new());
        let next = Arc::new(tokio::sync::Mutex::new(next));
        let routes = Router::new()
            .fallback(move |ConnectInfo(from): ConnectInfo<SocketAddr>, request: AnyRequest| {
                raw_answer(from, request, hear.clone(), Arc::clone(&next))
            })
            .into_make_service_with_connect_info::<SocketAddr>();
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            address,
            answers,
            heard,
            serving,
        }
    }

    pub(crate) fn will(&self, answer: Answer) {
        self.answers.send(answer).unwrap();
    }

    /// Will answer by an event stream that comes through what is given back.
    pub(crate) fn will_stream(&self) -> mpsc::Sender<io::Result<Bytes>> {
        let (send, pieces) = mpsc::channel(1);
        self.will(Answer::Pieces(pieces));
        send
    }

    pub(crate) fn heard(&self) -> Vec<Request> {
        self.heard.borrow().clone()
    }

    /// Waits for the n-th request, counted from 1.
    pub(crate) async fn request(&self, n: usize) -> Request {
        let mut heard = self.heard.clone();
        heard.wait_for(|heard| heard.len() >= n).await.unwrap()[n - 1].clone()
    }
}

impl Drop for RawApi {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn raw_answer(
    from: SocketAddr,
    request: AnyRequest,
    hear: watch::Sender<Vec<Request>>,
    next: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Answer>>>,
) -> Response {
    let (count, body) = watch::channel(0);
    let (parts, content) = request.into_parts();
    let line = format!("{} {}", parts.method, parts.uri);
    let headers = parts.headers;
    hear.send_modify(|heard| {
        heard.push(Request {
            line,
            headers,
            body,
            from,
        });
    });
    let mut content = content.into_data_stream();
    while let Some(Ok(piece)) = content.next().await {
        count.send_modify(|count| *count += piece.len());
    }
    let answer = next.lock().await.recv().await.unwrap();
    match answer {
        Answer::Whole(status, headers, body) => {
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        Answer::Pieces(pieces) => {
            let stream = futures_util::stream::unfold(pieces, |mut pieces| async move {
                let piece = pieces.recv().await?;
                Some((piece, pieces))
            });
            ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response()
        }
        Answer::Never(held) => {
            std::future::pending::<()>().await;
            drop(held);
            StatusCode::OK.into_response()
        }
    }
}

/// A whole answer of the model as a stream.
pub(crate) fn stream_of(model: &str, input: u64, output: u64, text: &str) -> String {
    events(json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": model,
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": input, "output_tokens": output},
    }))
}
