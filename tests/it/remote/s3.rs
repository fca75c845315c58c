//! An S3 server on 127.0.0.1 with one bucket, `shared`, in a folder of its own. It ends with its test.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use futures_util::future::select;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;

pub(crate) const KEY: &str = "the-key";
pub(crate) const SECRET: &str = "the-secret";

#[derive(Debug)]
pub(crate) struct S3 {
    folder: tempfile::TempDir,
    port: u16,
    state: Arc<State>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    requests: AtomicUsize,
    /// Whether it lets uploads of blobs hang.
    is_stuck: AtomicBool,
    /// Whether a blob is hanging.
    hangs: AtomicBool,
}

/// What sort of server it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manners {
    Good,
    /// It writes what is there already though it is asked only to create, as some do; and asks for no credentials.
    IgnoresCreateOnly,
}

impl S3 {
    pub(crate) fn start(manners: Manners) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("shared")).expect("a bucket");
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).expect("a file system"));
        if manners == Manners::Good {
            builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        }
        let service = builder.build();
        let state = Arc::new(State::default());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (sender, port) = mpsc::channel();
        let served = state.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                sender.send(listener.local_addr().expect("an address").port()).expect("the test waits");
                select(pin!(serve(listener, service, manners, served)), stopped).await;
            });
        });
        Self { folder, port: port.recv().expect("a port"), state, _stop: stop }
    }

    /// Where an object lies on the disk.
    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join("shared").join(key)
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// Lets uploads of blobs hang from now on, or no longer.
    pub(crate) fn get_stuck(&self, is_stuck: bool) {
        self.state.is_stuck.store(is_stuck, Ordering::Relaxed);
    }

    pub(crate) fn hangs(&self) -> bool {
        self.state.hangs.load(Ordering::Relaxed)
    }

    /// Tells a program where the server is, and who asks.
    pub(crate) fn lead(&self, command: &mut Command) {
        command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port));
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
    }
}

async fn serve(listener: TcpListener, service: S3Service, manners: Manners, state: Arc<State>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (service, state) = (service.clone(), state.clone());
        let answer = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            state.requests.fetch_add(1, Ordering::Relaxed);
            if manners == Manners::IgnoresCreateOnly {
                request.headers_mut().remove(hyper::header::IF_NONE_MATCH);
            }
            let (service, state) = (service.clone(), state.clone());
            let is_upload = request.method() == hyper::Method::PUT && request.uri().path().contains("/blobs/");
            async move {
                if is_upload && state.is_stuck.load(Ordering::Relaxed) {
                    state.hangs.store(true, Ordering::Relaxed);
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(service.call(request.map(s3s::Body::from)).await.expect("an answer"))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), answer);
        tokio::spawn(async move { drop(connection.await) });
    }
}

/// Names of the files below a folder, relative to it, sorted; without those that `s3s-fs` keeps for itself.
pub(crate) fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(inside) = open.pop() {
        for entry in std::fs::read_dir(&inside).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                open.push(entry.path());
            } else {
                let path = entry.path();
                files.push(path.strip_prefix(folder).expect("it is below").to_str().expect("UTF-8").to_owned());
            }
        }
    }
    files.retain(|file| !file.split('/').any(|part| part.starts_with('.')));
    files.sort();
    files
}
