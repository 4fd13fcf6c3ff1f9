//! Sending an archive away: a file that gets its name when it is whole, or one PUT.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Client, StatusCode};
use thiserror::Error;
use tokio::io::{AsyncRead, ReadBuf};
use url::Url;

use crate::adapters::http::{self, ExchangeError};

/// So many bytes of an answer are read: nothing of it is shown, since it may repeat the address.
const ANSWER_LIMIT: usize = 64 * 1024;
/// So much of the file is read at once.
const CHUNK: usize = 64 * 1024;

/// Why an archive did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SendError {
    /// Another try may do: away, slow, or overloaded.
    #[error("{cause}")]
    Passing {
        /// For a person.
        cause: String,
        /// What the other side asked to be waited for.
        retry_after: Option<Duration>,
    },
    /// The other side said no, and would say it again.
    #[error("{cause}")]
    Refused {
        /// For a person.
        cause: String,
    },
}

/// Sends a file by one PUT, from its beginning. The address is in no error.
pub async fn put(client: &Client, url: Url, file: File, bytes: u64) -> Result<(), SendError> {
    let passing = |cause: String, retry_after| SendError::Passing { cause, retry_after };
    let body = FileBody {
        file: tokio::fs::File::from_std(file),
        left: bytes,
        buffer: vec![0; CHUNK],
    };
    let request = client
        .put(url)
        .header(CONTENT_TYPE, "application/zstd")
        .header(CONTENT_LENGTH, bytes)
        .body(reqwest::Body::wrap(body));
    let answer = match http::exchange(request, ANSWER_LIMIT).await {
        Ok(answer) => answer,
        // It was taken, whatever was said of it at such length.
        Err(ExchangeError::TooLarge) => return Ok(()),
        Err(ExchangeError::Transport(error)) => return Err(passing(error.to_string(), None)),
    };
    let status = answer.status;
    if status.is_success() {
        return Ok(());
    }
    let cause = if status.is_redirection() {
        format!("it answered {status}, and redirects are not followed")
    } else {
        format!("it answered {status}")
    };
    let again =
        status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    Err(if again {
        passing(cause, answer.retry_after())
    } else {
        SendError::Refused { cause }
    })
}

/// A file as a request's body: read as it is sent, and of a length that is known, which S3 and the like insist on.
struct FileBody {
    file: tokio::fs::File,
    left: u64,
    buffer: Vec<u8>,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let most = usize::try_from(this.left).unwrap_or(CHUNK).min(CHUNK);
        let mut into = ReadBuf::new(this.buffer.get_mut(..most).unwrap_or_default());
        match Pin::new(&mut this.file).poll_read(cx, &mut into) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) if into.filled().is_empty() => {
                Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
            }
            Poll::Ready(Ok(())) => {
                let chunk = Bytes::copy_from_slice(into.filled());
                this.left = this.left.saturating_sub(chunk.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Gives a file that was made in a folder its name there, so that nobody ever sees half of it: synced, renamed, and the name
/// synced, too.
pub fn rename_into_place(file: &File, part: &Path, to: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(part, to)?;
    crate::crash::at(crate::crash::CrashPoint::Inside(crate::crash::Inside::ArchiveNamed));
    let folder = to.parent().unwrap_or(Path::new("/"));
    File::open(folder)?.sync_all()
}
