//! A headless Chromium, told what to do by its `DevTools` protocol over a pair of pipes.

use std::cell::Cell;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Longer than anything here takes, so that a browser that hangs fails a test instead of stopping it.
const PATIENCE: Duration = Duration::from_mins(2);

/// A browser with one page. It goes with this value.
#[derive(Debug)]
pub(crate) struct Browser {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<Value>,
    page: String,
    last: Cell<u64>,
    _profile: TempDir,
}

impl Browser {
    /// None, and a line that says so, where there is none. Names that end in `.test` lead to this machine.
    pub(crate) fn start() -> Option<Self> {
        let Some(program) = NAMES.into_iter().find(|name| is_installed(name)) else {
            // Past the test harness, which hides what passing tests print.
            _ = writeln!(
                io::stderr(),
                "skipped: no `chromium` (Debian package `chromium`), so no browser to try pages in"
            );
            return None;
        };
        let profile = tempfile::tempdir().expect("a temporary folder");
        // Orders come by descriptor 3, answers go by 4; both are messages that end with a zero byte.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh", program])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--remote-debugging-pipe", "--host-resolver-rules=MAP *.test 127.0.0.1"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        let (orders, said) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let (sender, answers) = channel();
        thread::spawn(move || {
            let messages = BufReader::new(said).split(0).map_while(Result::ok);
            messages.map(|message| serde_json::from_slice(&message).expect("JSON")).try_for_each(|it| sender.send(it))
        });
        let mut browser =
            Self { child, orders, answers, page: String::new(), last: Cell::default(), _profile: profile };
        let target = browser.order("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.order("Target.attachToTarget", attach);
        session["sessionId"].as_str().expect("a session").clone_into(&mut browser.page);
        Some(browser)
    }

    /// Gives an order, and waits for its answer.
    pub(crate) fn order(&self, method: &str, params: Value) -> Value {
        let id = self.last.get() + 1;
        self.last.set(id);
        let mut order = json!({ "id": id, "method": method });
        order["params"] = params;
        if !self.page.is_empty() {
            order["sessionId"] = json!(self.page);
        }
        (&self.orders).write_all(format!("{order}\0").as_bytes()).expect("the browser listens");
        loop {
            let answer = self.answers.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{method}: {error}"));
            // All else are events.
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    pub(crate) fn open(&self, url: &str) {
        self.order("Page.navigate", json!({ "url": url }));
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true });
        let result = self.order("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// The text of what a selector finds first.
    pub(crate) fn text(&self, selector: &str) -> String {
        let text = self.value(&format!("document.querySelector({})?.innerText ?? ''", json!(selector)));
        text.as_str().expect("a text").to_owned()
    }

    pub(crate) fn wait_until(&self, condition: &str) {
        for _ in 0..PATIENCE.as_millis() / 20 {
            if self.value(condition) == true {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("waited in vain for `{condition}`; the page says:\n{}", self.text("body"));
    }

    /// Types into what has the focus.
    pub(crate) fn type_text(&self, text: &str) {
        self.order("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key by its name; with Ctrl if asked for.
    pub(crate) fn press(&self, key: &str, ctrl: bool) {
        let (code, number, text) = match key {
            "Tab" => ("Tab", 9, ""),
            "Enter" => ("Enter", 13, "\r"),
            " " => ("Space", 32, " "),
            letter => (letter, u32::from(letter.as_bytes()[0].to_ascii_uppercase()), ""),
        };
        let text = if ctrl { "" } else { text };
        let mut event = json!({
            "type": if text.is_empty() { "rawKeyDown" } else { "keyDown" },
            "key": key,
            "code": code,
            "windowsVirtualKeyCode": number,
            "text": text,
            "modifiers": if ctrl { 2 } else { 0 },
        });
        if key == "a" && ctrl {
            // What a browser with a window would make of it.
            event["commands"] = json!(["selectAll"]);
        }
        self.order("Input.dispatchKeyEvent", event.clone());
        event["type"] = json!("keyUp");
        self.order("Input.dispatchKeyEvent", event);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn is_installed(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}
