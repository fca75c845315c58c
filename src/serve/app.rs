//! What all requests share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use super::Settings;
use super::about::About;
use super::cutting::Cutting;
use super::engine::Engine;
use super::error::ApiError;
use super::keys::Keys;
use super::metrics::Metrics;
use super::queue::Queue;
use crate::mutex::lock;
use crate::ui::serving as story;

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) settings: Settings,
    pub(crate) keys: Option<Keys>,
    pub(crate) artifacts: PathBuf,
    pub(crate) metrics: Metrics,
    pub(crate) cutting: Cutting,
    engine: RwLock<Option<Arc<Engine>>>,
    /// Of all models that requests are still under way with.
    queues: Mutex<Vec<Weak<Queue>>>,
    draining: AtomicBool,
}

impl App {
    pub(crate) fn new(settings: Settings, keys: Option<Keys>, artifacts: PathBuf, threads: usize) -> Arc<Self> {
        let metrics = Metrics::new(settings.queue.queue_tokens);
        let cutting = Cutting::new(threads, settings.queue.wait);
        let draining = AtomicBool::new(false);
        Arc::new(Self {
            settings,
            keys,
            artifacts,
            metrics,
            cutting,
            engine: RwLock::default(),
            queues: Mutex::default(),
            draining,
        })
    }

    /// The model that new requests go to.
    pub(crate) fn engine(&self) -> Result<Arc<Engine>, ApiError> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner).clone();
        let engine = engine.ok_or_else(|| ApiError::not_ready("the model is being loaded"))?;
        if engine.works() { Ok(engine) } else { Err(ApiError::not_ready("a session of the model has ended")) }
    }

    /// Has new requests go to this model. Those under way end with the one that they began with.
    pub(crate) fn take_up(&self, engine: Engine) {
        lock(&self.queues).push(Arc::downgrade(&engine.queue));
        let engine = Arc::new(engine);
        let mut served = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        let before = served.replace(engine.clone());
        let before = before.as_ref().map(|before| &before.about);
        self.metrics.model(&engine.about, before);
        drop(served);
        let tasks = engine.model.info.tasks.len();
        story::ready(&engine.about.name(), before.map(About::name).as_deref(), engine.probes, tasks);
    }

    /// Rows and tokens that wait, those of requests that began with an older model included.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let mut queues = lock(&self.queues);
        queues.retain(|queue| queue.strong_count() > 0);
        let waiting = queues.iter().filter_map(Weak::upgrade).map(|queue| queue.waiting());
        waiting.fold((0, 0), |(rows, tokens), (more_rows, more_tokens)| (rows + more_rows, tokens + more_tokens))
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
