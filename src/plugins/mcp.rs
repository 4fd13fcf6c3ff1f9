//! As much of the Model Context Protocol as it takes to greet a server and to ask for its tools: JSON-RPC, a line a message, on its
//! standard input and output. What it says is bounded.

use std::io;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

/// The version that is offered; a server may answer with another one.
const VERSION: &str = "2025-06-18";
/// How long a message may be, in bytes.
const MESSAGE_LIMIT: usize = 8 * 1024 * 1024;
/// How many messages are read in all: a server may chatter before it answers.
const MESSAGES_LIMIT: usize = 10_000;
/// How many pages of tools are asked for, and how many tools are kept.
const PAGES_LIMIT: usize = 50;
const TOOLS_LIMIT: usize = 1_000;

/// What a server said of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Greeting {
    /// Its name and version.
    pub(super) server: Option<String>,
    /// The names of its tools.
    pub(super) tools: Vec<String>,
}

/// Why it said nothing of use.
#[derive(Debug, Error)]
pub(super) enum Mute {
    /// It closed its output. Usually it has ended.
    #[error("it closed its standard output before it answered {0}")]
    Closed(&'static str),
    /// It refused.
    #[error("it answered {to} with an error: {message}")]
    Refused { to: &'static str, message: String },
    /// Its answer is none.
    #[error("its answer to {to} cannot be read: {source}")]
    Unreadable {
        to: &'static str,
        source: serde_json::Error,
    },
    /// Too much.
    #[error("it says more than {0}")]
    TooMuch(&'static str),
    /// A pipe.
    #[error("its pipes cannot be used: {0}")]
    Pipe(#[from] io::Error),
}

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<String>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialized {
    #[serde(default)]
    capabilities: Capabilities,
    server_info: Option<ServerInfo>,
}

#[derive(Default, Deserialize)]
struct Capabilities {
    tools: Option<Value>,
}

#[derive(Deserialize)]
struct ServerInfo {
    name: String,
    version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    tools: Vec<Tool>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
}

/// Greets a server, and asks for all of its tools.
pub(super) async fn greet(
    to: &mut (impl AsyncWrite + Unpin),
    from: &mut (impl AsyncBufRead + Unpin),
) -> Result<Greeting, Mute> {
    let mut talk = Talk {
        to,
        from,
        asked: 0,
        heard: 0,
    };
    let about = json!({
        "protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "runner", "version": crate::VERSION},
    });
    let initialized: Initialized = talk.ask("initialize", about).await?;
    talk.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
        .await?;
    let server = initialized.server_info.map(|info| match info.version {
        Some(version) => format!("{} {version}", info.name),
        None => info.name,
    });
    let mut greeting = Greeting {
        server,
        tools: Vec::new(),
    };
    // One that has none need not know what is asked.
    let mut cursor = initialized.capabilities.tools.map(|_| json!({}));
    for _ in 0..PAGES_LIMIT {
        let Some(about) = cursor.take() else { break };
        let page: Page = talk.ask("tools/list", about).await?;
        greeting.tools.extend(page.tools.into_iter().map(|tool| tool.name));
        if greeting.tools.len() > TOOLS_LIMIT {
            return Err(Mute::TooMuch("1,000 tools"));
        }
        cursor = page.next_cursor.map(|cursor| json!({ "cursor": cursor }));
    }
    match cursor {
        None => Ok(greeting),
        Some(_) => Err(Mute::TooMuch("50 pages of tools")),
    }
}

struct Talk<'a, W, R> {
    to: &'a mut W,
    from: &'a mut R,
    asked: u64,
    heard: usize,
}

impl<W: AsyncWrite + Unpin, R: AsyncBufRead + Unpin> Talk<'_, W, R> {
    async fn say(&mut self, message: &Value) -> Result<(), Mute> {
        self.to.write_all(format!("{message}\n").as_bytes()).await?;
        Ok(self.to.flush().await?)
    }

    async fn ask<T: for<'de> Deserialize<'de>>(&mut self, method: &'static str, about: Value) -> Result<T, Mute> {
        self.asked += 1;
        let id = self.asked.to_string();
        self.say(&json!({"jsonrpc": "2.0", "id": self.asked, "method": method, "params": about}))
            .await?;
        while self.heard < MESSAGES_LIMIT {
            self.heard += 1;
            let line = line(self.from).await?.ok_or(Mute::Closed(method))?;
            // A banner on standard output is against the protocol, and common.
            let Ok(message) = serde_json::from_slice::<Incoming<'_>>(&line) else {
                continue;
            };
            match (message.id, &message.method) {
                (Some(of), None) if of.get() == id => {}
                (Some(of), Some(asked)) => {
                    let answer = answer(of, asked);
                    self.say(&answer).await?;
                    continue;
                }
                // A notification, or an answer to nothing that was asked.
                (Some(_) | None, _) => continue,
            }
            if let Some(Refusal { message }) = message.error {
                return Err(Mute::Refused {
                    to: method,
                    message: crate::text::excerpt(&message),
                });
            }
            let result = message.result.map_or("null", RawValue::get);
            return serde_json::from_str(result).map_err(|source| Mute::Unreadable { to: method, source });
        }
        Err(Mute::TooMuch("10,000 messages"))
    }
}

/// What a server that asks something itself is told.
fn answer(id: &RawValue, asked: &str) -> Value {
    match asked {
        "ping" => json!({"jsonrpc": "2.0", "id": id, "result": {}}),
        _ => json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "nothing is offered here"}}),
    }
}

/// The next line; none at the end.
async fn line(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<Vec<u8>>, Mute> {
    let mut whole = Vec::new();
    loop {
        let piece = from.fill_buf().await?;
        if piece.is_empty() {
            return Ok(Some(whole).filter(|line| !line.is_empty()));
        }
        let end = memchr::memchr(b'\n', piece);
        let taken = end.map_or(piece.len(), |end| end + 1);
        whole.extend_from_slice(&piece[..end.unwrap_or(taken)]);
        from.consume(taken);
        if whole.len() > MESSAGE_LIMIT {
            return Err(Mute::TooMuch("8 MiB in one message"));
        }
        if end.is_some() {
            return Ok(Some(whole));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{BufReader, duplex};

    use super::*;

    /// Greets a server that answers each question with what `server` makes of it: lines, or the end.
    async fn greeted(server: impl Fn(&Value) -> Option<String> + Send + 'static) -> Result<Greeting, Mute> {
        let (ours, theirs) = duplex(64 * 1024);
        let serving = tokio::spawn(async move {
            let (from, mut to) = tokio::io::split(theirs);
            let mut lines = BufReader::new(from).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                let asked: Value = serde_json::from_str(&line).unwrap();
                let Some(said) = server(&asked) else { return };
                // Whoever has heard enough does not read on.
                if to.write_all(said.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        let (from, mut to) = tokio::io::split(ours);
        let greeting = greet(&mut to, &mut BufReader::new(from)).await;
        serving.abort();
        greeting
    }

    fn result(asked: &Value, result: &Value) -> String {
        format!("{}\n", json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}))
    }

    fn initialized(asked: &Value) -> String {
        let of = json!({"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "2"}});
        result(asked, &of)
    }

    #[tokio::test]
    async fn a_server_is_asked_page_by_page_and_what_it_says_and_asks_besides_is_no_answer() {
        let greeting = greeted(|asked| {
            Some(match (asked["method"].as_str(), asked["params"]["cursor"].as_str()) {
                (Some("initialize"), _) => format!(
                    "Server is ready!\n\n{}\n{}\n{}",
                    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}),
                    json!({"jsonrpc": "2.0", "id": 1, "method": "roots/list"}),
                    initialized(asked)
                ),
                (Some("tools/list"), None) => result(asked, &json!({"tools": [{"name": "one"}], "nextCursor": "more"})),
                (Some("tools/list"), Some("more")) => {
                    result(asked, &json!({"tools": [{"name": "two"}, {"name": "three"}]}))
                }
                (None, _) => {
                    assert_eq!((&asked["id"], &asked["error"]["code"]), (&json!(1), &json!(-32601)));
                    String::new()
                }
                _ => String::new(),
            })
        });
        let expected = Greeting {
            server: Some("s 2".to_owned()),
            tools: ["one", "two", "three"].map(str::to_owned).to_vec(),
        };
        assert_eq!(greeting.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_server_without_tools_is_not_asked_for_them() {
        let greeting = greeted(|asked| match asked["method"].as_str() {
            Some("initialize") => Some(result(asked, &json!({"capabilities": {"prompts": {}}}))),
            Some("notifications/initialized") => Some(String::new()),
            other => panic!("{other:?}"),
        });
        assert_eq!(greeting.await.unwrap(), Greeting::default());
    }

    #[tokio::test]
    async fn one_that_refuses_ends_or_answers_nonsense_is_told_apart() {
        let refused = greeted(|asked| {
            Some(format!(
                "{}\n",
                json!({"id": asked["id"], "error": {"code": 1, "message": "no\u{1b}"}})
            ))
        });
        let refused = refused.await.unwrap_err().to_string();
        assert_eq!(refused, "it answered initialize with an error: no\\u{1b}");
        let ended = greeted(|_| None).await.unwrap_err();
        assert!(matches!(ended, Mute::Closed("initialize")), "{ended:?}");
        let nonsense = greeted(|asked| Some(result(asked, &json!([1])))).await.unwrap_err();
        assert!(
            matches!(nonsense, Mute::Unreadable { to: "initialize", .. }),
            "{nonsense:?}"
        );
    }

    #[tokio::test]
    async fn what_a_server_may_say_is_bounded() {
        let endless = greeted(|asked| {
            Some(match asked["method"].as_str() {
                Some("initialize") => initialized(asked),
                Some("tools/list") => result(asked, &json!({"tools": [], "nextCursor": "on and on"})),
                _ => String::new(),
            })
        });
        assert!(matches!(endless.await.unwrap_err(), Mute::TooMuch("50 pages of tools")));
        let chatter = greeted(|_| Some("chatter\n".repeat(MESSAGES_LIMIT)));
        assert!(matches!(chatter.await.unwrap_err(), Mute::TooMuch("10,000 messages")));
        let long = greeted(|_| Some("x".repeat(MESSAGE_LIMIT + 1)));
        assert!(matches!(long.await.unwrap_err(), Mute::TooMuch("8 MiB in one message")));
        let many = greeted(|asked| {
            Some(match asked["method"].as_str() {
                Some("initialize") => initialized(asked),
                Some("tools/list") => result(asked, &json!({"tools": vec![json!({"name": "t"}); TOOLS_LIMIT + 1]})),
                _ => String::new(),
            })
        });
        assert!(matches!(many.await.unwrap_err(), Mute::TooMuch("1,000 tools")));
    }
}
