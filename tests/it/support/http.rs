//! A server under test, and a client plain enough to misbehave.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

/// Longer than anything here takes, so that a hanging server fails a test instead of stopping it.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers, as they came.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Server {
    /// Starts `bam serve …`, which listens on port 0, and waits until it is ready.
    pub(crate) fn start(command: Command) -> Self {
        let server = Self::begin(command);
        server.wait_until("it is ready", || server.get("/readyz").status == 200);
        server
    }

    /// The same, and waits until it listens.
    pub(crate) fn begin(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("bam starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines().map_while(Result::ok);
        let first = lines.next().unwrap_or_default();
        let address = first.split_once("http://").unwrap_or_else(|| panic!("no address in `{first}`")).1;
        let address = address.trim().parse().expect("an address");
        let said = Arc::new(Mutex::new(first + "\n"));
        let heard = said.clone();
        let listener = thread::spawn(move || lines.for_each(|line| *heard.lock().unwrap() += &(line + "\n")));
        Self { child, address, said, listener: Some(listener) }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.try_request("GET", path, &[], "").expect("an answer")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_request("POST", path, &["content-type: application/json"], &body.to_string()).expect("an answer")
    }

    pub(crate) fn try_request(&self, method: &str, path: &str, headers: &[&str], body: &str) -> io::Result<Answer> {
        let mut stream = self.connect()?;
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all((head + body).as_bytes())?;
        Answer::read(&mut stream)
    }

    pub(crate) fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// The answer to `POST /v1/predict`, which must be a success.
    pub(crate) fn predict(&self, body: &Value) -> Value {
        let answer = self.post("/v1/predict", body);
        assert_eq!(answer.status, 200, "{body}: {}", answer.body);
        answer.json()
    }

    /// Results of inputs under these tasks.
    pub(crate) fn results(&self, inputs: &Value, tasks: &[&str]) -> Vec<Value> {
        self.predict(&json!({ "inputs": inputs, "tasks": tasks }))["results"].as_array().expect("a list").clone()
    }

    /// The value of a line of `/metrics`, by its name and labels; 0 if there is none.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    pub(crate) fn wait_until(&self, what: &str, mut reached: impl FnMut() -> bool) {
        for _ in 0..PATIENCE.as_millis() / 20 {
            if reached() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("waited in vain until {what}; the server said:\n{}", self.said());
    }

    /// Its lines come on a thread of their own, later than an answer may.
    pub(crate) fn wait_until_it_says(&self, text: &str) {
        self.wait_until(&format!("it says `{text}`"), || self.said().contains(text));
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Bytes of memory that it holds.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// Most bytes of memory that it has held.
    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, which: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    pub(crate) fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    pub(crate) fn signal(&self, number: i32) {
        // SAFETY: a signal to a child that is not yet waited for.
        unsafe { libc::kill(self.child.id().cast_signed(), number) };
    }

    /// Waits for its end; returns how it ended and all that it said.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("it ends");
        self.listener.take().expect("it listens").join().expect("it heard all");
        (status, self.said())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Answer {
    /// Reads an answer up to the connection's end.
    pub(crate) fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let text = String::from_utf8(bytes).expect("UTF-8");
        let whole = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = whole.0.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Ok(Self { status, head: whole.0.to_owned(), body: whole.1.to_owned() })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(": ")?;
            own.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}
