//! The pool on which texts are cut into word pieces, bounded by how long those that wait for it will take.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

use super::rate::Rate;
use crate::mutex::lock;

/// A request may wait for as many times its own size, however long that takes: else large ones would have one client at a time.
const TIMES_ITS_OWN: usize = 8;
/// What a request costs beside its bytes, in bytes: a thread is handed the work and the result.
const OVERHEAD_BYTES: usize = 256;

#[derive(Debug)]
pub(crate) struct Cutting {
    /// One permit per request that may be cut at a time.
    permits: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
    /// How long those before a request may take, unless it takes as long itself.
    most: Duration,
}

#[derive(Debug)]
struct Waiting {
    /// Of the requests that wait and of those that are being cut, with what each costs beside.
    bytes: usize,
    rate: Rate,
}

/// Why texts are not taken in, or not cut.
#[derive(Debug)]
pub(super) enum Uncut {
    /// So many bytes come before them, and take so long.
    Full {
        bytes: usize,
        time: Duration,
    },
    Panicked(JoinError),
}

impl Cutting {
    pub(super) fn new(threads: usize, most: Duration) -> Self {
        let waiting = Mutex::new(Waiting { bytes: 0, rate: Rate::new(threads) });
        Self { permits: Arc::new(Semaphore::new(threads)), waiting, most }
    }

    /// Does work about so many bytes of text on the pool; what it gave, and how long it took.
    pub(super) async fn cut<R: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<(R, Duration), Uncut> {
        let bytes = bytes + OVERHEAD_BYTES;
        let _place = self.place(bytes)?;
        let permit = self.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let timed = spawn_blocking(move || {
            let started = Instant::now();
            let done = (work(), started.elapsed());
            drop(permit);
            done
        });
        let (result, time) = timed.await.map_err(Uncut::Panicked)?;
        lock(&self.waiting).rate.note(bytes, time);
        Ok((result, time))
    }

    /// Takes a place among those that wait. Dropped, it is free again.
    fn place(&self, bytes: usize) -> Result<Place<'_>, Uncut> {
        let mut waiting = lock(&self.waiting);
        let (before, time) = (waiting.bytes, waiting.rate.time_of(waiting.bytes as f64));
        if time > self.most && before > TIMES_ITS_OWN * bytes {
            return Err(Uncut::Full { bytes: before, time });
        }
        waiting.bytes += bytes;
        Ok(Place { waiting: &self.waiting, bytes })
    }
}

struct Place<'a> {
    waiting: &'a Mutex<Waiting>,
    bytes: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(self.waiting).bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_wait_too_long_is_refused_until_others_are_done() {
        let cutting = Cutting::new(1, Duration::from_millis(100));
        // Nothing is known of the rate yet.
        let first = cutting.place(1000).unwrap();
        lock(&cutting.waiting).rate.note(1000, Duration::from_secs(1));
        assert!(matches!(cutting.place(100), Err(Uncut::Full { bytes: 1000, time }) if time == Duration::from_secs(1)));
        let _of_its_like = cutting.place(125).unwrap();
        drop(first);
        let _small = cutting.place(20).unwrap();
        assert_eq!(lock(&cutting.waiting).bytes, 145);
    }
}
