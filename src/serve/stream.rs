//! A connection whose client must go on reading what it asked for.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::places::Activity;

/// For what it has taken of an answer a client is given more time, at this rate.
const LEAST_BYTES_PER_SEC: f64 = (16 << 10) as f64;

/// Fails where a client has not taken what there is for it within `patience`, and the time that its bytes take at a least rate:
/// one that takes a byte now and then must not keep its place.
#[derive(Debug)]
pub(super) struct Stream<S> {
    inner: S,
    patience: Duration,
    activity: Arc<Activity>,
    /// Since a write had to wait, until all is written.
    behind: Option<Behind>,
}

#[derive(Debug)]
struct Behind {
    since: Instant,
    taken_bytes: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<S> Stream<S> {
    pub(super) fn new(inner: S, patience: Duration, activity: Arc<Activity>) -> Self {
        Self { inner, patience, activity, behind: None }
    }

    fn in_time(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.activity.moves();
            if let Some(behind) = &mut self.behind {
                behind.taken_bytes += bytes;
            }
        }
        if written.is_ready() {
            return written;
        }
        let patience = self.patience;
        let behind = self.behind.get_or_insert_with(|| {
            let since = Instant::now();
            Behind { since, taken_bytes: 0, deadline: Box::pin(sleep_until(since + patience)) }
        });
        let deadline = behind.since + patience + time_for(behind.taken_bytes);
        if behind.deadline.deadline() != deadline {
            behind.deadline.as_mut().reset(deadline);
        }
        behind.deadline.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

fn time_for(bytes: usize) -> Duration {
    Duration::from_secs_f64(bytes as f64 / LEAST_BYTES_PER_SEC)
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if read.is_ready() {
            self.activity.moves();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// Asked for once all that there is has been written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.behind = None;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{sleep, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    /// What becomes of an answer whose client takes so many bytes every 10 ms.
    async fn written(answer_bytes: usize, taken_bytes: usize) -> io::Result<()> {
        let (server, mut client) = duplex(64);
        let mut server = Stream::new(server, PATIENCE, Arc::new(Activity::new()));
        let writing = tokio::spawn(async move {
            server.write_all(&vec![0; answer_bytes]).await?;
            server.flush().await
        });
        let reading = tokio::spawn(async move {
            let mut taken = vec![0; taken_bytes];
            while client.read_exact(&mut taken).await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        let written = timeout(Duration::from_secs(20), writing).await.expect("it ends").unwrap();
        reading.abort();
        written
    }

    #[tokio::test]
    async fn a_client_that_takes_a_byte_now_and_then_is_given_up() {
        let started = Instant::now();
        assert_eq!(written(100_000, 1).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() >= PATIENCE);
        // One that takes longer than the patience, at a fair rate, is not.
        let started = Instant::now();
        written(40_000, 800).await.unwrap();
        assert!(started.elapsed() > PATIENCE);
    }
}
