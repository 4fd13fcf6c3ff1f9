//! `git http-backend` as a CGI program, both bodies streamed.

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdout, Command};

/// Longest header that is read of the program's answer, in bytes.
const HEADER_LIMIT: usize = 64 * 1024;

/// The CGI variables (RFC 3875) of a request.
pub(super) fn environment(command: &mut Command, parts: &Parts, repository: &Path, service: &str, query: &str) {
    let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    command
        .env("GIT_PROJECT_ROOT", repository)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", format!("/{service}"))
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("REMOTE_USER", "x-access-token")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "http.receivepack")
        .env("GIT_CONFIG_VALUE_0", "true");
    let headers = [
        (header::CONTENT_TYPE, "CONTENT_TYPE"),
        (header::CONTENT_LENGTH, "CONTENT_LENGTH"),
        (header::CONTENT_ENCODING, "HTTP_CONTENT_ENCODING"),
        (header::ACCEPT_ENCODING, "HTTP_ACCEPT_ENCODING"),
        (HeaderName::from_static("git-protocol"), "GIT_PROTOCOL"),
    ];
    for (name, variable) in headers {
        if let Some(value) = text(name) {
            command.env(variable, value);
        }
    }
}

/// The next bytes of a request's body; nothing at its end or where the client is gone.
pub(super) async fn next_chunk(body: &mut Body) -> Option<Bytes> {
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?.ok()?;
        match frame.into_data() {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => return Some(bytes),
            Err(_trailers) => {}
        }
    }
}

/// The program under way. It is not stopped when the client goes: a server finishes what it was asked to do.
pub(super) struct Backend {
    child: Child,
    stdout: ChildStdout,
}

impl Backend {
    pub(super) fn start(mut command: Command, first: Option<Bytes>, mut body: Body) -> io::Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        tokio::spawn(async move {
            let mut next = first;
            while let Some(bytes) = next {
                if stdin.write_all(&bytes).await.is_err() {
                    break;
                }
                next = next_chunk(&mut body).await;
            }
        });
        Ok(Self { child, stdout })
    }

    /// Lets it do everything, and throws its answer away.
    pub(super) async fn finish(mut self) {
        // Its end is what counts here; what it says is for nobody.
        let _ = tokio::io::copy(&mut self.stdout, &mut tokio::io::sink()).await;
        let _ = self.child.wait().await;
    }

    /// Its answer, as it comes.
    pub(super) async fn respond(mut self) -> Response {
        let mut head = Vec::new();
        let end = loop {
            if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end;
            }
            match self.stdout.read_buf(&mut head).await {
                Ok(1..) if head.len() < HEADER_LIMIT => {}
                Ok(_) | Err(_) => return StatusCode::BAD_GATEWAY.into_response(),
            }
        };
        let rest = Bytes::from(head.split_off(end + 4));
        let mut response = Response::new(Body::empty());
        for line in String::from_utf8_lossy(&head).lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            if name.eq_ignore_ascii_case("status") {
                let code = value.trim().split(' ').next().and_then(|code| code.parse().ok());
                *response.status_mut() = code.unwrap_or(StatusCode::BAD_GATEWAY);
            } else if let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(name.as_bytes()),
                HeaderValue::from_str(value.trim()),
            ) {
                response.headers_mut().append(name, value);
            }
        }
        let chunks = stream::unfold((self, Some(rest)), |(mut backend, first)| async move {
            if let Some(first) = first.filter(|first| !first.is_empty()) {
                return Some((Ok(first), (backend, None)));
            }
            let mut bytes = Vec::with_capacity(64 * 1024);
            match backend.stdout.read_buf(&mut bytes).await {
                // One that ended by itself has said in its answer what failed: a body that breaks off would take
                // that with it. One that was killed has not.
                Ok(0) => match backend.child.wait().await {
                    Ok(status) if status.code().is_some() => None,
                    Ok(_) => Some((Err(io::Error::other("git http-backend was killed")), (backend, None))),
                    Err(error) => Some((Err(error), (backend, None))),
                },
                Ok(_) => Some((Ok(Bytes::from(bytes)), (backend, None))),
                Err(error) => Some((Err(error), (backend, None))),
            }
        });
        *response.body_mut() = Body::from_stream(chunks);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client reads of the answer of a program that says `sh -c SCRIPT`; an error where it breaks off.
    async fn answer(script: &str) -> Result<Bytes, axum::Error> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let backend = Backend::start(command, None, Body::empty()).unwrap();
        axum::body::to_bytes(backend.respond().await.into_body(), 1024).await
    }

    #[tokio::test]
    async fn the_answer_of_a_program_that_failed_is_whole_and_of_one_that_was_killed_breaks_off() {
        let said = r"printf 'Content-Type: text/plain\r\n\r\nno such thing';";
        assert_eq!(answer(&format!("{said} exit 0")).await.unwrap(), "no such thing");
        assert_eq!(answer(&format!("{said} exit 128")).await.unwrap(), "no such thing");
        answer(&format!("{said} kill -KILL $$")).await.unwrap_err();
    }
}
