//! Connections: how they begin, how long they last, and how they end.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result};
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::app::App;
use super::heard::Heard;
use super::keys::Keys;
use super::places::{Place, Places};
use super::stream::{Patience, Stream};
use crate::ui::error::warn;
use crate::ui::serving as story;

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) connections: usize,
    /// How long a connection may be quiet.
    pub(super) keep_alive: Duration,
    /// How long a client may take to read what it is sent, beside the time for its size.
    pub(super) stall: Duration,
    pub(super) drain: Duration,
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All that was accepted has been answered.
    Drained,
    /// So many connections were cut off at the deadline.
    CutOff(usize),
    /// At once, by a second signal.
    Interrupted,
}

/// How long the head of a request may take, from its first bytes on.
const HEAD: Duration = Duration::from_secs(10);
/// How long connections that are already made may take to be taken up at the end, and how many the system holds at most.
const BACKLOG: Duration = Duration::from_millis(50);
const BACKLOG_CONNECTIONS: usize = 1024;
/// Between tries where the system has no room for one more connection.
const BREATH: Duration = Duration::from_millis(50);

pub(super) async fn serve(listener: TcpListener, router: Router, bounds: &Bounds, app: &Arc<App>) -> Result<Ended> {
    let mut signals = Signals::watch()?;
    let mut hangups = Hangups::watch(app)?;
    let places = Places::new(bounds.connections);
    let connections = Connections { router, places, bounds: *bounds, graceful: GracefulShutdown::new() };
    tokio::select! {
        () = connections.accept_all(&listener) => {}
        () = signals.next() => {}
        () = hangups.end() => {}
    }
    app.drain();
    story::draining(connections.graceful.count());
    Ok(tokio::select! {
        ended = connections.end(listener) => ended,
        () = signals.next() => Ended::Interrupted,
    })
}

struct Connections {
    router: Router,
    places: Arc<Places>,
    bounds: Bounds,
    graceful: GracefulShutdown,
}

impl Connections {
    async fn accept_all(&self, listener: &TcpListener) {
        loop {
            let permit = self.places.free().await;
            match listener.accept().await {
                Ok((stream, _)) => self.start(stream, self.places.take(permit)),
                Err(_) => sleep(BREATH).await,
            }
        }
    }

    fn start(&self, stream: TcpStream, place: Place) {
        // Small answers should not wait for more to send.
        _ = stream.set_nodelay(true);
        let patience = Patience { head: HEAD, answer: self.bounds.stall };
        let stream = TokioIo::new(Stream::new(stream, patience, place.activity.clone()));
        let (router, activity) = (TowerToHyperService::new(self.router.clone()), place.activity.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let request = request.map(|body| Heard::new(body, activity.clone()));
            activity.clone().answering(router.call(request))
        });
        let mut builder = http1::Builder::new();
        // It runs from the end of the last answer on.
        builder.timer(TokioTimer::new()).header_read_timeout(self.bounds.keep_alive);
        let connection = self.graceful.watch(builder.serve_connection(stream, service));
        tokio::spawn(async move {
            tokio::select! {
                // A client that breaks off is its own matter.
                _ = connection => {}
                () = place.activity.gives_way() => {}
            }
        });
    }

    async fn end(self, listener: TcpListener) -> Ended {
        // The system has accepted connections that we haven't yet; their clients know nothing of our end, nor of our bounds.
        self.places.add(BACKLOG_CONNECTIONS);
        _ = timeout(BACKLOG, self.accept_all(&listener)).await;
        drop(listener);
        match timeout(self.bounds.drain, self.graceful.shutdown()).await {
            Ok(()) => Ended::Drained,
            Err(_) => Ended::CutOff(self.places.open()),
        }
    }
}

/// SIGHUP: keys are read again; where there are none, it ends the server, as the end of its terminal means.
struct Hangups<'a> {
    app: &'a Arc<App>,
    /// None where whoever started this wants it ignored, as `nohup` does.
    hangup: Option<Signal>,
}

impl<'a> Hangups<'a> {
    fn watch(app: &'a Arc<App>) -> Result<Self> {
        let is_watched = app.keys.is_some() || !app.settings.ignores_hangup;
        let hangup = is_watched.then(|| signal(SignalKind::hangup())).transpose().context("watching for SIGHUP")?;
        Ok(Self { app, hangup })
    }

    /// Returns when the server is to end.
    async fn end(&mut self) {
        let Some(hangup) = &mut self.hangup else { return pending().await };
        while hangup.recv().await.is_some() && self.app.keys.is_some() {
            let app = self.app.clone();
            let reread = spawn_blocking(move || app.keys.as_ref().map(Keys::reread)).await;
            match reread.map_err(Error::from) {
                Ok(Some(Ok(keys))) => story::keys_read(keys),
                Ok(Some(Err(error))) | Err(error) => warn(&error.context("the keys are not read again")),
                Ok(None) => {}
            }
        }
    }
}

/// SIGTERM and Ctrl-C. Watched from the beginning to the end, so that none is lost between two looks.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> Result<Self> {
        let watched = |kind| signal(kind).context("watching for signals");
        Ok(Self { terminate: watched(SignalKind::terminate())?, interrupt: watched(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
