//! The model's part: Anthropic's Messages API in miniature, which says what a script says and keeps what it was told.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its room has failed")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a scripted model says in one turn.
pub(crate) enum Turn {
    /// It uses a tool.
    Tool(&'static str, Value),
    /// It says its last words.
    Says(&'static str),
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
    heard: Mutex<String>,
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

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Every request as it came: method, path, headers, body.
    pub(crate) fn heard(&self) -> String {
        self.shared.heard.lock().unwrap().clone()
    }

    /// How many turns of the script were asked for, those after its end too.
    pub(crate) fn turns_taken(&self) -> u64 {
        *self.shared.turns_taken.lock().unwrap()
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
    let (content, stop) = if tools.is_some_and(|tools| tools.iter().any(|tool| tool.get("input_schema").is_some())) {
        shared.next()
    } else {
        (json!({"type": "text", "text": "ok"}), "end_turn")
    };
    let (input_tokens, output_tokens) = USAGE;
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "content": [content],
        "stop_reason": stop, "stop_sequence": null,
        "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens},
    });
    if asked["stream"] == true {
        ([(header::CONTENT_TYPE, "text/event-stream")], events(message)).into_response()
    } else {
        axum::Json(message).into_response()
    }
}

impl Shared {
    fn next(&self) -> (Value, &'static str) {
        let mut taken = self.turns_taken.lock().unwrap();
        *taken += 1;
        match self.turns.lock().unwrap().pop_front() {
            Some(Turn::Tool(name, input)) => {
                let id = format!("toolu_{taken}");
                (
                    json!({"type": "tool_use", "id": id, "name": name, "input": input}),
                    "tool_use",
                )
            }
            Some(Turn::Says(text)) => (json!({"type": "text", "text": text}), "end_turn"),
            None => (json!({"type": "text", "text": "The script is over."}), "end_turn"),
        }
    }
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
