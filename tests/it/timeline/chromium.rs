//! A real Chromium without a window, driven by the `DevTools` protocol over a pair of pipes: no port, no crate.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::NEVER;

/// The program that `RUNNER_TEST_CHROMIUM` names.
pub(crate) fn program() -> Option<PathBuf> {
    let Some(named) = std::env::var_os("RUNNER_TEST_CHROMIUM") else {
        println!("not run: RUNNER_TEST_CHROMIUM names no Chromium (Debian: chromium)");
        return None;
    };
    Some(PathBuf::from(named))
}

/// A browser with one page. It is gone when this is dropped.
pub(crate) struct Chromium {
    process: Child,
    to: ChildStdin,
    /// Answers and events.
    from: Receiver<Value>,
    calls: u64,
    session: Option<String>,
    /// What happened in the page since it was opened.
    events: Vec<Value>,
    _profile: TempDir,
}

/// A key as the protocol has it: its name, and what it types.
pub(crate) struct Key(pub(crate) &'static str, pub(crate) &'static str);

impl Chromium {
    pub(crate) fn start(program: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // It reads the protocol from descriptor 3 and writes it to 4.
        let mut process = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#])
            .arg(program)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--remote-debugging-pipe",
                "--hide-scrollbars",
            ])
            .args([
                "--disable-background-networking",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--no-first-run",
                "--disable-component-update",
                "--force-color-profile=srgb",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = process.stdin.take().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let (tell, from) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while out.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                if tell.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            process,
            to,
            from,
            calls: 0,
            session: None,
            events: Vec::new(),
            _profile: profile,
        };
        // The tab that it starts with, not one more: of two, one is in the background, and of a tab there no frame is
        // ever made, so that its picture is waited for without end.
        let target = browser.first_page();
        let attached = browser.call("Target.attachToTarget", &json!({"targetId": target, "flatten": true}));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser.screen(1280, 900);
        browser
    }

    /// The tab that it starts with.
    fn first_page(&mut self) -> Value {
        let begun = Instant::now();
        loop {
            let targets = self.call("Target.getTargets", &json!({}));
            let mut targets = targets["targetInfos"].as_array().unwrap().iter();
            if let Some(page) = targets.find(|target| target["type"] == "page") {
                return page["targetId"].clone();
            }
            assert!(begun.elapsed() < NEVER, "the browser has no page");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Calls a method of the protocol, and gives its result.
    pub(crate) fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.to.write_all(&bytes).unwrap();
        loop {
            let answer = self.next(method);
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn next(&mut self, what: &str) -> Value {
        self.from
            .recv_timeout(NEVER)
            .unwrap_or_else(|error| panic!("the browser says nothing to {what}: {error}"))
    }

    /// Opens a file, and waits until all of it is there.
    pub(crate) fn open(&mut self, page: &Path) {
        self.call("Page.navigate", &json!({"url": "about:blank"}));
        self.wait("location.href === 'about:blank' && document.readyState === 'complete'");
        self.events.clear();
        self.call("Page.navigate", &json!({"url": format!("file://{}", page.display())}));
        self.wait("location.protocol === 'file:' && document.readyState === 'complete'");
    }

    /// What an expression comes to in the page.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    pub(crate) fn number(&mut self, expression: &str) -> u64 {
        let value = self.eval(expression);
        value.as_u64().unwrap_or_else(|| panic!("{expression}: {value}"))
    }

    pub(crate) fn text(&mut self, expression: &str) -> String {
        let value = self.eval(expression);
        let text = value.as_str().map(str::to_owned);
        text.unwrap_or_else(|| panic!("{expression}: {value}"))
    }

    /// Waits until something holds in the page.
    pub(crate) fn wait(&mut self, holds: &str) {
        let begun = Instant::now();
        while self.eval(&format!("Boolean({holds})")) != true {
            assert!(begun.elapsed() < NEVER, "never: {holds}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Clicks into the middle of an element, as a mouse does.
    pub(crate) fn click(&mut self, selector: &str) {
        let place = self.eval(&format!(
            "(() => {{ const element = document.querySelector({selector:?}); \
             element.scrollIntoView({{block: 'center', behavior: 'instant'}}); const box = element.getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            self.call(
                "Input.dispatchMouseEvent",
                &json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1}),
            );
        }
    }

    /// Presses a key, wherever the focus is.
    pub(crate) fn press(&mut self, key: &Key) {
        let Key(name, text) = key;
        self.call(
            "Input.dispatchKeyEvent",
            &json!({"type": "keyDown", "key": name, "text": text, "windowsVirtualKeyCode": if *name == "Enter" { 13 } else { 0 }}),
        );
        self.call("Input.dispatchKeyEvent", &json!({"type": "keyUp", "key": name}));
    }

    /// Types a text into what has the focus.
    pub(crate) fn type_in(&mut self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    pub(crate) fn screen(&mut self, width: u32, height: u32) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}),
        );
    }

    /// What the user's system prefers, and what the page is shown on.
    pub(crate) fn media(&mut self, medium: &str, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({"media": medium, "features": features}),
        );
    }

    /// What is to be seen of the page above an element, as a PNG.
    pub(crate) fn picture(&mut self, until: &str) -> Vec<u8> {
        let size = self.eval(&format!(
            "[document.documentElement.clientWidth, document.querySelector({until:?}).getBoundingClientRect().top + scrollY]"
        ));
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1});
        self.call("Page.bringToFront", &json!({}));
        let taken = self.call(
            "Page.captureScreenshot",
            &json!({"format": "png", "clip": clip, "captureBeyondViewport": true}),
        );
        BASE64_STANDARD.decode(taken["data"].as_str().unwrap()).unwrap()
    }

    /// Everything that the page asked for since it was opened.
    pub(crate) fn requests(&mut self) -> Vec<String> {
        self.happened("Network.requestWillBeSent", |event| event["request"]["url"].clone())
    }

    /// Everything that went wrong since it was opened: what is on the console, and what its policy refused.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        let mut complaints = self.happened("Log.entryAdded", |event| event["entry"]["text"].clone());
        complaints.extend(self.happened("Runtime.exceptionThrown", |event| json!(event.to_string())));
        complaints.extend(self.happened("Runtime.consoleAPICalled", |event| json!(event.to_string())));
        complaints
    }

    fn happened(&mut self, method: &str, what: impl Fn(&Value) -> Value) -> Vec<String> {
        // What has happened until now comes before the answer to this.
        self.eval("new Promise((resolve) => setTimeout(resolve))");
        let events = self.events.iter().filter(|event| event["method"] == method);
        events
            .map(|event| what(&event["params"]).as_str().unwrap().to_owned())
            .collect()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Its other processes go with it, and its profile after them.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
