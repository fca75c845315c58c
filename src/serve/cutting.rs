//! The pools on which texts are cut into word pieces, bounded by how long those that wait for them will take.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

use super::inputs::Texts;
use super::patience::with_its_own;
use super::rate::Rate;
use crate::mutex::lock;

/// What a request costs beside its bytes, in bytes: a thread is handed the work and the result.
const OVERHEAD_BYTES: usize = 256;
/// Requests with a longer input are cut one at a time: the library may take some hundred bytes of memory for each of a text's.
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

    /// Does work about inputs of such a size on a pool; what it gave, and how long it took.
    pub(super) async fn cut<R: Send + 'static>(
        &self,
        size: Size,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<(R, Duration), Uncut> {
        let pool = if size.longest_bytes > LARGE_BYTES { &self.large } else { &self.small };
        pool.cut(size.bytes, work).await
    }
}

/// Of inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// In all.
    pub(super) bytes: usize,
    longest_bytes: usize,
}

impl Size {
    pub(super) fn of(inputs: &[Texts]) -> Self {
        let bytes = inputs.iter().map(Texts::bytes);
        Self { bytes: bytes.clone().sum(), longest_bytes: bytes.max().unwrap_or(0) }
    }
}

#[derive(Debug)]
struct Pool {
    /// One permit per request that may be cut at a time.
    permits: Arc<Semaphore>,
    threads: u32,
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
        let permits = Arc::new(Semaphore::new(threads));
        Self { permits, threads: threads as u32, waiting, most }
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
        let time = waiting.rate.time_of(waiting.bytes as f64);
        // One thread cuts it.
        let own = waiting.rate.time_of(bytes as f64).saturating_mul(self.threads);
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

    #[test]
    fn a_request_that_takes_long_itself_may_wait_as_long_on_any_number_of_threads() {
        let pool = Pool::new(16, Duration::from_millis(100));
        lock(&pool.waiting).rate.note(1000, Duration::from_secs(1));
        // 2 s of 16 threads' work; of one, 0.25 s.
        let _others = pool.place(32_000).unwrap();
        assert!(pool.place(230).is_err());
        assert!(pool.place(250).is_ok());
    }

    #[tokio::test]
    async fn large_inputs_go_one_at_a_time_and_many_small_ones_beside_them() {
        let cutting = Arc::new(Cutting::new(4, Duration::MAX));
        let large = Size { bytes: LARGE_BYTES + 1, longest_bytes: LARGE_BYTES + 1 };
        let at_once = Arc::new(Mutex::new((0, 0)));
        let cut_large = |_| {
            let (cutting, at_once) = (cutting.clone(), at_once.clone());
            let work = move || {
                let mut count = lock(&at_once);
                count.0 += 1;
                count.1 = count.0.max(count.1);
                drop(count);
                std::thread::sleep(Duration::from_millis(5));
                lock(&at_once).0 -= 1;
            };
            tokio::spawn(async move { cutting.cut(large, work).await.map(drop) })
        };
        for done in (0..8).map(cut_large).collect::<Vec<_>>() {
            done.await.unwrap().unwrap();
        }
        assert_eq!(lock(&at_once).1, 1);
        // Many small ones end though a large one doesn't.
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let endless = cutting.clone();
        let work = move || {
            _ = begin.send(());
            ended.recv()
        };
        let endless = tokio::spawn(async move { endless.cut(large, work).await.map(drop) });
        begun.await.unwrap();
        let small = cutting.cut(Size { bytes: 10 * LARGE_BYTES, longest_bytes: LARGE_BYTES }, || 7);
        assert_eq!(tokio::time::timeout(Duration::from_mins(1), small).await.expect("it ends").unwrap().0, 7);
        drop(end);
        endless.await.unwrap().unwrap();
    }
}
