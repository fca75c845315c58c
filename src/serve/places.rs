//! Open connections: how many there may be, and which one gives way where all places are taken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// A connection may be taken for one that nobody uses after this long.
const QUIET: Duration = Duration::from_secs(1);
/// Between looks for one.
const BREATH: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Places {
    permits: Arc<Semaphore>,
    open: Mutex<Vec<Arc<Activity>>>,
}

/// What goes on on a connection.
#[derive(Debug)]
pub(super) struct Activity {
    /// When bytes last went either way.
    moved: Mutex<Instant>,
    /// Held while a request is answered.
    answering: Mutex<usize>,
    /// Told when it must give way.
    gives_way: Notify,
}

/// A connection's place. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    pub(super) activity: Arc<Activity>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(connections: usize) -> Arc<Self> {
        Arc::new(Self { permits: Arc::new(Semaphore::new(connections)), open: Mutex::default() })
    }

    /// Makes room for more.
    pub(super) fn add(&self, connections: usize) {
        self.permits.add_permits(connections);
    }

    /// Waits for a free place. Where there is none, the connection that has been quiet for longest is ended: nobody is kept
    /// out by clients who want nothing.
    pub(super) async fn free(&self) -> OwnedSemaphorePermit {
        loop {
            match timeout(BREATH, self.permits.clone().acquire_owned()).await {
                Ok(permit) => return permit.expect("the semaphore is never closed"),
                Err(_) => self.end_the_quietest(),
            }
        }
    }

    pub(super) fn take(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        let activity = Arc::new(Activity::new());
        lock(&self.open).push(activity.clone());
        Place { places: self.clone(), activity, _permit: permit }
    }

    pub(super) fn open(&self) -> usize {
        lock(&self.open).len()
    }

    fn end_the_quietest(&self) {
        let open = lock(&self.open);
        let quiet = open.iter().filter_map(|activity| Some((activity.quiet()?, activity)));
        if let Some((_, quietest)) = quiet.max_by_key(|(time, _)| *time).filter(|(time, _)| *time >= QUIET) {
            quietest.gives_way.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places.open).retain(|activity| !Arc::ptr_eq(activity, &self.activity));
    }
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { moved: Mutex::new(Instant::now()), answering: Mutex::new(0), gives_way: Notify::new() }
    }

    /// Bytes went either way.
    pub(super) fn moves(&self) {
        *lock(&self.moved) = Instant::now();
    }

    /// Does what answers a request.
    pub(super) async fn answering<T>(self: Arc<Self>, answer: impl Future<Output = T>) -> T {
        let _answering = Answering::begin(&self);
        answer.await
    }

    /// Until the connection must give way.
    pub(super) async fn gives_way(&self) {
        self.gives_way.notified().await;
    }

    /// How long nothing has gone on; none while a request is answered.
    fn quiet(&self) -> Option<Duration> {
        (*lock(&self.answering) == 0).then(|| lock(&self.moved).elapsed())
    }
}

struct Answering<'a>(&'a Activity);

impl<'a> Answering<'a> {
    fn begin(activity: &'a Activity) -> Self {
        *lock(&activity.answering) += 1;
        Self(activity)
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        *lock(&self.0.answering) -= 1;
        self.0.moves();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
