//! Connections: how many, how long, and how they end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::app::App;
use crate::ui::serving as story;

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) connections: usize,
    /// How long the head of a request may take; a connection that is quiet for longer ends too.
    pub(super) header_time: Duration,
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

/// How long connections that are already made may take to be taken up at the end.
const BACKLOG: Duration = Duration::from_millis(50);
/// Between tries where the system has no room for one more connection.
const BREATH: Duration = Duration::from_millis(50);

pub(super) async fn serve(listener: TcpListener, router: Router, bounds: &Bounds, app: &App) -> Ended {
    let connections = Connections {
        router,
        permits: Arc::new(Semaphore::new(bounds.connections)),
        header_time: bounds.header_time,
        graceful: GracefulShutdown::new(),
    };
    tokio::select! {
        () = connections.accept_all(&listener) => {}
        () = stop_signal() => {}
    }
    app.drain();
    story::draining(connections.graceful.count());
    // The system has accepted connections that we haven't yet; their clients know nothing of our end.
    _ = timeout(BACKLOG, connections.accept_all(&listener)).await;
    drop(listener);
    let open = connections.permits.clone();
    tokio::select! {
        drained = timeout(bounds.drain, connections.graceful.shutdown()) => match drained {
            Ok(()) => Ended::Drained,
            Err(_) => Ended::CutOff(bounds.connections - open.available_permits()),
        },
        () = stop_signal() => Ended::Interrupted,
    }
}

struct Connections {
    router: Router,
    permits: Arc<Semaphore>,
    header_time: Duration,
    graceful: GracefulShutdown,
}

impl Connections {
    async fn accept_all(&self, listener: &TcpListener) {
        loop {
            let permit = self.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, _)) => self.start(stream, permit),
                Err(_) => sleep(BREATH).await,
            }
        }
    }

    fn start(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        // Small answers should not wait for more to send.
        _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(self.router.clone());
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.header_time);
        let connection = self.graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A client that breaks off is its own matter.
            _ = connection.await;
            drop(permit);
        });
    }
}

async fn stop_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
