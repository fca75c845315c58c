//! Open connections: how many there may be, and which one gives way where all places are taken.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::activity::Activity;
use crate::mutex::lock;

/// A connection may be taken for one that nobody uses after this long.
const QUIET: Duration = Duration::from_secs(1);
/// Between looks for one.
const BREATH: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Places {
    permits: Arc<Semaphore>,
    open: Mutex<Vec<Arc<Activity>>>,
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
            if self.permits.available_permits() == 0 {
                self.end_the_quietest();
            }
            if let Ok(permit) = timeout(BREATH, self.permits.clone().acquire_owned()).await {
                return permit.expect("the semaphore is never closed");
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
            quietest.give_way();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places.open).retain(|activity| !Arc::ptr_eq(activity, &self.activity));
    }
}
