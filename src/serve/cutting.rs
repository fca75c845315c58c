//! The pools on which texts are cut into word pieces, bounded by how long those that wait for them will take.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

use super::patience::with_its_own;
use super::rate::Rate;
use crate::mutex::lock;

/// What a request costs beside its bytes, in bytes: a thread is handed the work and the result.
const OVERHEAD_BYTES: usize = 256;
/// Larger requests are cut one at a time: the library may take some hundred bytes of memory for each of theirs.
const LARGE_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Cutting {
    small: Pool,
    large: Pool,
}

impl Cutting {
    pub(super) fn new(threads: usize, most: Duration) -> Self {
        Self { small: Pool::new(threads, most), large: Pool::new(1, most) }
    }

    /// Does work about so many bytes of text on a pool; what it gave, and how long it took.
    pub(super) async fn cut<R: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<(R, Duration), Uncut> {
        let pool = if bytes > LARGE_BYTES { &self.large } else { &self.small };
        pool.cut(bytes, work).await
    }
}

#[derive(Debug)]
struct Pool {
    /// One permit per request that may be cut at a time.
    permits: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
    /// How long those before a request may take that takes no time itself.
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

impl Pool {
    fn new(threads: usize, most: Duration) -> Self {
        let waiting = Mutex::new(Waiting { bytes: 0, rate: Rate::new(threads) });
        Self { permits: Arc::new(Semaphore::new(threads)), waiting, most }
    }

    async fn cut<R: Send + 'static>(
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
        let [time, own] = [waiting.bytes, bytes].map(|bytes| waiting.rate.time_of(bytes as f64));
        if time > with_its_own(self.most, own) {
            return Err(Uncut::Full { bytes: waiting.bytes, time });
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
        let pool = Pool::new(1, Duration::from_millis(100));
        // Nothing is known of the rate yet.
        let first = pool.place(1000).unwrap();
        lock(&pool.waiting).rate.note(1000, Duration::from_secs(1));
        assert!(matches!(pool.place(100), Err(Uncut::Full { bytes: 1000, time }) if time == Duration::from_secs(1)));
        // It may wait for eight times as long as it takes, and for 0.1 s.
        let _of_its_like = pool.place(113).unwrap();
        drop(first);
        let _small = pool.place(20).unwrap();
        assert_eq!(lock(&pool.waiting).bytes, 133);
    }

    #[tokio::test]
    async fn large_requests_go_one_at_a_time_and_small_ones_beside_them() {
        let cutting = Arc::new(Cutting::new(4, Duration::MAX));
        let at_once = Arc::new(Mutex::new((0, 0)));
        let large = |_| {
            let (cutting, at_once) = (cutting.clone(), at_once.clone());
            let work = move || {
                let mut count = lock(&at_once);
                count.0 += 1;
                count.1 = count.0.max(count.1);
                drop(count);
                std::thread::sleep(Duration::from_millis(5));
                lock(&at_once).0 -= 1;
            };
            tokio::spawn(async move { cutting.cut(LARGE_BYTES + 1, work).await.map(drop) })
        };
        for large in (0..8).map(large).collect::<Vec<_>>() {
            large.await.unwrap().unwrap();
        }
        assert_eq!(lock(&at_once).1, 1);
        // A small one ends though a large one doesn't.
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let endless = {
            let cutting = cutting.clone();
            tokio::spawn(async move { cutting.cut(LARGE_BYTES + 1, move || ended.recv()).await.map(drop) })
        };
        tokio::task::yield_now().await;
        assert_eq!(cutting.cut(LARGE_BYTES, || 7).await.unwrap().0, 7);
        drop(end);
        endless.await.unwrap().unwrap();
    }
}
