//! A server on 127.0.0.1 that speaks the routes of the Hugging Face hub, from memory. It ends with its test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(crate) const TOKEN: &str = "hf_secret";

/// A commit to pin, and one that comes after it.
pub(crate) const COMMIT: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
pub(crate) const LATER: &str = "decade00decade00decade00decade00decade00";

#[derive(Debug)]
pub(crate) struct HubServer {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// By kind and name, as in `datasets/nyu-mll/glue`.
    pub(crate) repositories: BTreeMap<String, Repository>,
    /// Method, path, range and whether a token came along.
    pub(crate) requests: Vec<String>,
    pub(crate) manners: Manners,
}

#[derive(Debug, Default)]
pub(crate) struct Repository {
    /// The commit that `main` stands for.
    pub(crate) main: String,
    /// Files of each commit.
    pub(crate) commits: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    pub(crate) access: Access,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Access {
    #[default]
    Public,
    /// The hub says that there is no such thing to those without a token.
    Private,
    Gated,
}

/// How it behaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manners {
    /// So many requests are answered with status 503.
    pub(crate) unavailable: usize,
    /// So many bodies of large files end after this many bytes.
    pub(crate) cut: (usize, usize),
    /// Large files have a wrong byte.
    pub(crate) is_wrong: bool,
    /// Large files are sent whole, whatever part is asked for.
    pub(crate) ignores_ranges: bool,
    /// Large files never come.
    pub(crate) is_silent: bool,
}

struct Request {
    method: String,
    path: String,
    /// First byte, and last if it is given.
    range: Option<(usize, Option<usize>)>,
    has_token: bool,
}

struct Answer {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
    /// The file's length, where the body is a part of it.
    sent: usize,
}

impl HubServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State::default()));
        let served = state.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let state = served.clone();
                thread::spawn(move || serve(socket, port, &state));
            }
        });
        Self { port, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    /// Adds a repository with these files at `COMMIT`, which is its `main`.
    pub(crate) fn add(&self, name: &str, files: BTreeMap<String, Vec<u8>>) {
        let commits = [(COMMIT.to_owned(), files)].into();
        let repository = Repository { main: COMMIT.to_owned(), commits, access: Access::Public };
        self.state().repositories.insert(name.to_owned(), repository);
    }

    /// Changes a file of a repository.
    pub(crate) fn put(&self, name: &str, file: &str, bytes: impl Into<Vec<u8>>) {
        self.files(name, |files| drop(files.insert(file.to_owned(), bytes.into())));
    }

    pub(crate) fn remove(&self, name: &str, file: &str) {
        self.files(name, |files| drop(files.remove(file).expect("it is there")));
    }

    fn files(&self, name: &str, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) {
        let mut state = self.state();
        change(state.repositories.get_mut(name).and_then(|it| it.commits.get_mut(COMMIT)).expect("a repository"));
    }

    pub(crate) fn behave(&self, manners: Manners) {
        self.state().manners = manners;
    }

    /// The requests since the last time.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Tells a program where the hub is.
    pub(crate) fn lead(&self, command: &mut Command) {
        command.env("HF_ENDPOINT", self.endpoint());
    }
}

fn serve(mut socket: TcpStream, port: u16, state: &Mutex<State>) {
    let Some(request) = read(&socket) else { return };
    let is_large = request.path.starts_with("/cdn/");
    let (manners, answer) = {
        let mut state = state.lock().expect("no test panics with it");
        let range = request
            .range
            .map(|(first, last)| format!(" {first}-{}", last.map(|last| last.to_string()).unwrap_or_default()));
        let token = if request.has_token { " with a token" } else { "" };
        let line = format!("{} {}{}{token}", request.method, request.path, range.unwrap_or_default());
        state.requests.push(line);
        let answer = if state.manners.unavailable > 0 {
            state.manners.unavailable -= 1;
            Answer::refusal("503 Service Unavailable", "")
        } else {
            state.answer(&request, port)
        };
        let manners = state.manners.clone();
        let cuts = is_large && request.range.is_some_and(|(_, last)| last.is_none());
        if cuts && manners.cut.0 > 0 {
            state.manners.cut.0 -= 1;
        }
        (Manners { cut: if cuts { manners.cut } else { (0, 0) }, ..manners }, answer)
    };
    let wants_all = request.range.is_some_and(|(_, last)| last.is_none());
    if is_large && wants_all && manners.is_silent {
        thread::park();
    }
    let mut head = format!("HTTP/1.1 {}\r\nconnection: close\r\n", answer.status);
    let _ = write!(head, "content-length: {}\r\n{}\r\n", answer.body.len(), answer.headers);
    let sent = if manners.cut.0 > 0 { answer.sent.min(manners.cut.1) } else { answer.sent };
    // A client may have gone.
    let _ = socket.write_all(head.as_bytes());
    if request.method != "HEAD" {
        let _ = socket.write_all(&answer.body[..sent]);
    }
}

fn read(socket: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(socket).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = Request { method, path, range: None, has_token: false };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
                request.range = Some((first.parse().ok()?, last.parse().ok()));
            }
            "authorization" => request.has_token = value == format!("Bearer {TOKEN}"),
            _ => {}
        }
    }
    Some(request)
}

impl State {
    fn answer(&self, request: &Request, port: u16) -> Answer {
        if let Some(hash) = request.path.strip_prefix("/cdn/") {
            let files = self.repositories.values().flat_map(|it| it.commits.values()).flat_map(BTreeMap::values);
            let bytes = files.clone().find(|bytes| sha256(bytes) == hash).expect("a large file").clone();
            let is_range = request.range.filter(|(_, last)| last.is_some() || !self.manners.ignores_ranges);
            return Answer::of_file(bytes, is_range, String::new(), self.manners.is_wrong);
        }
        if let Some(path) = request.path.strip_prefix("/api/") {
            let (name, revision) = path.split_once("/revision/").expect("a revision");
            return match self.find(name, revision, request) {
                Err(refusal) => refusal,
                Ok((commit, files)) => {
                    let siblings: Vec<_> = files.keys().map(|name| json!({ "rfilename": name })).collect();
                    let body = json!({ "sha": commit, "siblings": siblings }).to_string().into_bytes();
                    Answer { status: "200 OK", headers: String::new(), sent: body.len(), body }
                }
            };
        }
        let (name, rest) = request.path[1..].split_once("/resolve/").expect("a file");
        let name = if name.starts_with("datasets/") { name.to_owned() } else { format!("models/{name}") };
        let (revision, file) = rest.split_once('/').expect("a file");
        let (commit, files) = match self.find(&name, revision, request) {
            Ok(found) => found,
            Err(refusal) => return refusal,
        };
        let Some(bytes) = files.get(file) else { return Answer::refusal("404 Not Found", "EntryNotFound") };
        let commit = format!("x-repo-commit: {commit}\r\n");
        if !is_large(file) {
            return Answer::of_file(
                bytes.clone(),
                request.range,
                format!("{commit}etag: \"{}\"\r\n", git(bytes)),
                false,
            );
        }
        let hash = sha256(bytes);
        let headers = format!(
            "{commit}x-linked-etag: \"{hash}\"\r\nx-linked-size: {}\r\netag: \"other\"\r\n\
             location: http://127.0.0.1:{port}/cdn/{hash}\r\n",
            bytes.len()
        );
        Answer { status: "302 Found", headers, body: Vec::new(), sent: 0 }
    }

    fn find(
        &self,
        name: &str,
        revision: &str,
        request: &Request,
    ) -> Result<(String, &BTreeMap<String, Vec<u8>>), Answer> {
        let known = self.repositories.get(name);
        match known.map(|repository| (repository.access, request.has_token)) {
            // The hub doesn't tell those without a token what isn't there from what they may not see.
            None | Some((Access::Private, false)) => {
                let status = if request.has_token { "404 Not Found" } else { "401 Unauthorized" };
                return Err(Answer::refusal(status, "RepoNotFound"));
            }
            Some((Access::Gated, false)) => return Err(Answer::refusal("401 Unauthorized", "GatedRepo")),
            _ => {}
        }
        let repository = known.expect("it was found");
        let commit = if revision == "main" { &repository.main } else { revision };
        let files = repository.commits.get(commit);
        let files = files.ok_or_else(|| Answer::refusal("404 Not Found", "RevisionNotFound"))?;
        Ok((commit.to_owned(), files))
    }
}

impl Answer {
    fn refusal(status: &'static str, code: &str) -> Self {
        Self { status, headers: format!("x-error-code: {code}\r\n"), body: Vec::new(), sent: 0 }
    }

    fn of_file(mut bytes: Vec<u8>, range: Option<(usize, Option<usize>)>, headers: String, is_wrong: bool) -> Self {
        let length = bytes.len();
        if is_wrong {
            *bytes.last_mut().expect("a byte") ^= 1;
        }
        let Some((first, last)) = range else {
            return Self { status: "200 OK", headers, sent: length, body: bytes };
        };
        if first >= length {
            return Self::refusal("416 Range Not Satisfiable", "");
        }
        let body = bytes[first..last.map_or(length, |last| (last + 1).min(length))].to_vec();
        let headers = format!("{headers}content-range: bytes {first}-{}/{length}\r\n", first + body.len() - 1);
        Self { status: "206 Partial Content", headers, sent: body.len(), body }
    }
}

/// Whether the hub keeps a file apart from Git.
fn is_large(file: &str) -> bool {
    file.ends_with(".safetensors") || file.ends_with(".parquet")
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn git(bytes: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
