//! An exported model over HTTP.
//!
//! A request's texts are cut into word pieces ([`ask`]) and wait in a [`queue`] bounded by tokens, where the rows whose turn is
//! next are divided into batches; a session that is free takes the first of these ([`engine`]); each answer goes back to its request.
//! [`listen`] bounds connections and ends them in order, [`reload`] takes up a newer model.

mod about;
mod activity;
mod api;
mod app;
mod ask;
mod body;
mod caught;
mod counted;
mod cutting;
mod document;
mod engine;
mod error;
mod exposition;
mod heard;
mod hosts;
mod info;
mod inputs;
mod keys;
mod linger;
mod listen;
mod metrics;
mod pages;
mod patience;
mod places;
mod predict;
mod queue;
mod rate;
mod reload;
mod routes;
mod sessions;
mod source;
mod stream;
mod tei;
mod tokenize;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bam_contract::fault::Fault;
use bam_inference::word_pieces::keep_to_one_thread;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use crate::cli::ServeArgs;
use crate::machine;
use crate::store::Store;
use crate::ui::serving as story;
use app::App;
use engine::Engine;
use keys::Keys;
pub(crate) use listen::Ended;
use reload::Files;
pub(crate) use source::Source;

/// What is served, and with how much.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) source: Source,
    pub(crate) sessions: sessions::Wish,
    pub(crate) queue: queue::Bounds,
    pub(crate) max_inputs: usize,
    pub(crate) max_body_bytes: usize,
    pub(crate) timeout: Duration,
    /// Nobody else can reach it, or so it is meant.
    pub(crate) is_for_this_machine: bool,
    /// Whoever started it wants SIGHUP ignored.
    pub(crate) ignores_hangup: bool,
}

/// Serves the model until it is told to stop.
///
/// # Errors
/// When the address can't be had or the model can't be loaded.
pub(crate) fn serve(args: &ServeArgs, source: Source, store: &Store, ignores_hangup: bool) -> Result<Ended> {
    let threads = args.threads.unwrap_or_else(machine::cores);
    if let Some(sessions) = args.sessions {
        ensure!(
            sessions <= threads,
            Fault::new(
                format!("`--sessions {sessions}` are more than there are threads: {threads}"),
                "a session takes a thread at least: ask for fewer sessions, or say `--threads N`"
            )
        );
    }
    let keys = args.api_keys.as_deref().map(Keys::read).transpose()?;
    ensure!(
        args.listen.ip().is_loopback() || keys.is_some() || args.insecure,
        Fault::new(
            format!("`--listen {}` lets others in, and there are no keys", args.listen),
            "give `--api-keys FILE`, listen on 127.0.0.1, or say `--insecure`"
        )
    );
    let settings = Settings {
        source,
        sessions: sessions::Wish { threads, side_by_side: args.sessions, free_bytes: machine::memory_bytes() },
        queue: queue::Bounds {
            queue_tokens: args.bounds.queue_tokens,
            batch_tokens: args.bounds.batch_tokens,
            wait: args.bounds.max_wait.into(),
            timeout: args.bounds.timeout.into(),
        },
        max_inputs: args.bounds.max_inputs,
        max_body_bytes: args.bounds.max_body.as_u64() as usize,
        timeout: args.bounds.timeout.into(),
        is_for_this_machine: args.listen.ip().is_loopback() && keys.is_none() && !args.insecure,
        ignores_hangup,
    };
    // Requests are cut side by side; each need not be spread over threads too.
    keep_to_one_thread();
    let app = App::new(settings, keys, store.root().to_owned(), threads);
    let router = routes::router(&app, &args.cors)?;
    // Taken before the model is read: what changes meanwhile is read again.
    let folder = app.settings.source.first().to_owned();
    let files = Files::of(&folder);
    // One thread for all connections: a hand-over to a second takes longer than what either has to do.
    let runtime = Builder::new_multi_thread().worker_threads(1).max_blocking_threads(threads + 2).enable_all().build();
    let runtime = runtime.context("starting the server's threads")?;
    let ended = runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await.with_context(|| {
            Fault::new(format!("can't listen on {}", args.listen), "choose another address or port with `--listen`")
        })?;
        let address = listener.local_addr()?;
        story::listening(&format!("http://{address}"));
        if let Source::LastRun(last) = &app.settings.source {
            story::chosen(&last.origin());
        }
        let bounds = listen::Bounds {
            connections: args.bounds.connections,
            keep_alive: args.bounds.keep_alive.into(),
            stall: args.bounds.timeout.into(),
            drain: args.bounds.drain.into(),
        };
        let serving = listen::serve(listener, router, &bounds, &app);
        let loading = async {
            app.take_up(load(app.clone(), folder.clone()).await?);
            reload::follow(&app, folder, files).await
        };
        tokio::select! {
            ended = serving => ended,
            failed = loading => failed,
        }
    });
    // A thread that still reads a file or cuts a text is not waited for.
    runtime.shutdown_background();
    ended
}

async fn load(app: Arc<App>, folder: PathBuf) -> Result<Engine> {
    let load = move || Engine::load(&folder, &app.settings, &Store::open(&app.artifacts)?, &app.metrics);
    tokio::task::spawn_blocking(load).await?
}
