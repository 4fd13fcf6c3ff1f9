//! Faults to switch on in the embedded world: what a network and a busy peer do to a request.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use strum::{Display, EnumIter, IntoStaticStr};

use crate::embedded::listening::Connection;

/// A place of the embedded world where something can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, EnumIter, Display, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Endpoint {
    /// `GET /data`.
    Data,
    /// `GET /token`.
    Token,
    /// `POST /status` of `started`.
    Started,
    /// `POST /status` of `progress`, and of anything that is no event.
    Progress,
    /// `POST /status` of `completed` and `failed`.
    Verdict,
    /// `POST /events`.
    Events,
    /// The forge's list of pull requests.
    PullList,
    /// One pull request at the forge.
    PullGet,
    /// The opening of a pull request.
    PullCreate,
    /// What git asks the remote when it fetches, clones or lists.
    GitFetch,
    /// What git sends to the remote when it pushes.
    GitPush,
    /// The registration of an Actions runner.
    RunnerRegister,
    /// The list of them.
    RunnerList,
    /// The removal of one.
    RunnerRemove,
    /// The list of their groups.
    RunnerGroups,
    /// The look-up of an App's installation.
    AppInstallation,
    /// What an installation is given.
    AppToken,
}

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut before anything is done. The client cannot know that: to it, the answer is lost.
    Refuse,
    /// The work begins that much later. It is done even if the client has gone by then.
    Delay(Duration),
    /// This status is answered and nothing is done.
    Status(u16),
    /// Like [`Fault::Status`], with words and a `Retry-After`.
    Answer {
        /// The status.
        status: u16,
        /// The error's words (`error` for the task API, `message` for the forge).
        error: String,
        /// In seconds.
        retry_after: Option<u32>,
    },
    /// The work is done, and the connection is cut without an answer.
    DropAfter,
}

/// How many requests a fault meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The next so many.
    Next(u32),
    /// All, until [`Faults::clear`].
    Always,
}

impl Times {
    /// Whether it is the turn now; counts it.
    pub(crate) fn take(&mut self) -> bool {
        match self {
            Self::Next(0) => false,
            Self::Next(left) => {
                *left -= 1;
                true
            }
            Self::Always => true,
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Not answered yet, or the client went away first.
    Open,
    /// Answered with this status.
    Answered(u16),
    /// Cut without an answer; nothing was done.
    CutBefore,
    /// Cut without an answer; the work was done.
    CutAfter,
}

/// What [`Faults::around`] made of a request.
#[derive(Debug)]
pub struct Handled<T> {
    /// For the handler to return.
    pub response: Response,
    /// What the work did, where it was done.
    pub did: Option<T>,
    /// What the client will see.
    pub ending: Ending,
}

/// The faults that wait at each endpoint, next one first.
type Switches = HashMap<Endpoint, VecDeque<(Fault, Times)>>;

/// The switches. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Switches>>);

impl Faults {
    /// None switched on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Switches `fault` on, after those that wait at this endpoint already.
    pub fn inject(&self, endpoint: Endpoint, fault: Fault, times: Times) {
        self.lock().entry(endpoint).or_default().push_back((fault, times));
    }

    /// Switches all faults of an endpoint off.
    pub fn clear(&self, endpoint: Endpoint) {
        self.lock().remove(&endpoint);
    }

    /// What goes wrong with the request that has just come in. Counts it.
    pub fn next(&self, endpoint: Endpoint) -> Option<Fault> {
        let mut switches = self.lock();
        let waiting = switches.get_mut(&endpoint)?;
        while let Some((fault, times)) = waiting.front_mut() {
            if times.take() {
                return Some(fault.clone());
            }
            waiting.pop_front();
        }
        None
    }

    /// Does the work of a request with the fault that is on, if there is one. Like that of a real server, the work is
    /// done to its end also when the client goes away.
    pub async fn around<T, W>(&self, endpoint: Endpoint, connection: &Connection, work: W) -> Handled<T>
    where
        T: Send + 'static,
        W: Future<Output = (Response, T)> + Send + 'static,
    {
        let (delay, cut_after) = match self.next(endpoint) {
            Some(Fault::Refuse) => {
                return Handled {
                    response: connection.cut(),
                    did: None,
                    ending: Ending::CutBefore,
                };
            }
            Some(Fault::Status(status)) => return not_done(status, "injected fault", None),
            Some(Fault::Answer {
                status,
                error,
                retry_after,
            }) => return not_done(status, &error, retry_after),
            Some(Fault::Delay(delay)) => (delay, false),
            Some(Fault::DropAfter) => (Duration::ZERO, true),
            None => (Duration::ZERO, false),
        };
        let done = tokio::spawn(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            work.await
        });
        match done.await {
            Ok((_, did)) if cut_after => Handled {
                response: connection.cut(),
                did: Some(did),
                ending: Ending::CutAfter,
            },
            Ok((response, did)) => Handled {
                ending: Ending::Answered(response.status().as_u16()),
                response,
                did: Some(did),
            },
            Err(_) => not_done(500, "the embedded server failed", None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Switches> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer in place of the work, in words that both the task API's and the forge's clients understand.
fn not_done<T>(status: u16, error: &str, retry_after: Option<u32>) -> Handled<T> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(json!({"error": error, "message": error}))).into_response();
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Handled {
        response,
        did: None,
        ending: Ending::Answered(status.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_in_the_order_they_were_injected_and_end_with_their_count() {
        let faults = Faults::new();
        faults.inject(Endpoint::Token, Fault::Status(503), Times::Next(2));
        faults.clone().inject(Endpoint::Token, Fault::DropAfter, Times::Next(1));
        assert_eq!(faults.next(Endpoint::Data), None);
        assert_eq!(faults.next(Endpoint::Token), Some(Fault::Status(503)));
        assert_eq!(faults.next(Endpoint::Token), Some(Fault::Status(503)));
        assert_eq!(faults.next(Endpoint::Token), Some(Fault::DropAfter));
        assert_eq!(faults.next(Endpoint::Token), None);
    }

    #[test]
    fn a_fault_for_ever_lasts_until_it_is_cleared() {
        let faults = Faults::new();
        faults.inject(Endpoint::Verdict, Fault::Refuse, Times::Always);
        for _ in 0..3 {
            assert_eq!(faults.next(Endpoint::Verdict), Some(Fault::Refuse));
        }
        faults.clear(Endpoint::Verdict);
        assert_eq!(faults.next(Endpoint::Verdict), None);
    }
}
