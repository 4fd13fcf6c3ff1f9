//! `POST /task` with any head and any body: one of the contract's answers, and only a task that is one reaches the driver.
#![no_main]

use std::cell::RefCell;

use axum::body::Body;
use axum::http::Request;
use libfuzzer_sys::fuzz_target;
use runner::driver::{Assign, Assigned};
use runner::server::{Listener, router};
use runner::telemetry::{Metrics, Status};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tower::ServiceExt;

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(Builder::new_current_thread().enable_all().build().unwrap());
}

fuzz_target!(|input: (&str, &str, &[u8])| {
    let (content_type, traceparent, body) = input;
    let request = Request::post("/task")
        .header("content-type", content_type)
        .header("traceparent", traceparent)
        .body(Body::from(body.to_owned()));
    // Not every text is a header.
    let Ok(request) = request else { return };
    RUNTIME.with_borrow_mut(|runtime| {
        runtime.block_on(async {
            let (inbox, mut requests) = mpsc::channel::<Assign>(1);
            let status = watch::Sender::new(Status::starting());
            let routes = router(Listener {
                inbox,
                status: status.subscribe(),
                metrics: Metrics::new(),
                task_token: None,
                api_allow: vec!["api.example".to_owned()],
            });
            let driver = async {
                if let Some(request) = requests.recv().await {
                    assert_eq!(request.assignment.api_url.host().as_deref(), Some("api.example"));
                    let _ = request.answer.send(Assigned::Accepted);
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                answer = routes.oneshot(request) => {
                    let status = answer.unwrap().status().as_u16();
                    assert!([200, 400, 403, 413, 415].contains(&status), "{status}");
                }
                () = driver => {}
            }
        });
    });
});
