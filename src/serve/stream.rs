//! A connection whose client must end what it begins to ask, and go on reading what it asked for; its end waits until the client
//! has spoken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::Activity;
use super::linger::Linger;

/// For what it has taken of an answer a client is given more time, at this rate.
const LEAST_BYTES_PER_SEC: f64 = (16 << 10) as f64;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a request's head, from its first bytes on.
    pub(super) head: Duration,
    /// To read what it is sent, beside the time for its size.
    pub(super) answer: Duration,
}

/// Fails where a head isn't whole in time, or a client has not taken what there is for it, in the time too that its bytes take at
/// a least rate: one that sends or takes a byte now and then must not keep its place.
#[derive(Debug)]
pub(super) struct Stream<S> {
    inner: S,
    patience: Patience,
    activity: Arc<Activity>,
    /// When the head must be whole that is coming, or came last.
    head: Option<Pin<Box<Sleep>>>,
    /// Since a write had to wait, until all is written.
    behind: Option<Behind>,
    /// Once our half is closed.
    linger: Option<Linger>,
}

#[derive(Debug)]
struct Behind {
    since: Instant,
    taken_bytes: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<S> Stream<S> {
    pub(super) fn new(inner: S, patience: Patience, activity: Arc<Activity>) -> Self {
        Self { inner, patience, activity, head: None, behind: None, linger: None }
    }

    /// Waits for more of a head that has begun, up to its deadline.
    fn head_in_time(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(began) = self.activity.head_began() else { return Poll::Pending };
        let deadline = began + self.patience.head;
        let sleep = self.head.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn in_time(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.activity.goes();
            if let Some(behind) = &mut self.behind {
                behind.taken_bytes += bytes;
            }
        }
        if written.is_ready() {
            return written;
        }
        let patience = self.patience.answer;
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
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.comes();
        }
        if read.is_ready() { read } else { self.head_in_time(context) }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
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
        let Self { inner, activity, linger, .. } = &mut *self;
        if linger.is_none() {
            ready!(Pin::new(&mut *inner).poll_shutdown(context))?;
            *linger = activity.broke_off().map(Linger::since);
        }
        linger.as_mut().map_or(Poll::Ready(()), |linger| linger.poll(inner, context)).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{interval, sleep, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    fn stream<S>(inner: S) -> (Stream<S>, Arc<Activity>) {
        let activity = Arc::new(Activity::new());
        (Stream::new(inner, Patience { head: PATIENCE, answer: PATIENCE }, activity.clone()), activity)
    }

    /// What becomes of an answer whose client takes so many bytes every 10 ms.
    async fn written(answer_bytes: usize, taken_bytes: usize) -> io::Result<()> {
        let (server, mut client) = duplex(64);
        let (mut server, _) = stream(server);
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

    /// Has a client send a byte every 10 ms.
    fn drip(mut client: impl AsyncWrite + Unpin + Send + 'static) {
        tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(10));
            while client.write_all(b"a").await.is_ok() {
                ticks.tick().await;
            }
        });
    }

    #[tokio::test]
    async fn a_client_that_drips_a_head_is_given_up() {
        let (server, client) = duplex(64);
        let (mut server, _) = stream(server);
        drip(client);
        let head = async {
            while server.read_u8().await? != b'b' {}
            io::Result::Ok(())
        };
        let read = timeout(Duration::from_secs(20), head).await.expect("it ends");
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn what_comes_while_a_request_is_answered_is_no_head() {
        let (server, client) = duplex(64);
        let (mut server, activity) = stream(server);
        drip(client);
        server.read_u8().await.unwrap();
        let body = async {
            for _ in 0..50 {
                server.read_u8().await.unwrap();
            }
        };
        activity.clone().answering(body).await;
        // The next one has its own time.
        let answered = Instant::now();
        server.read_u8().await.unwrap();
        assert!(activity.head_began().is_some_and(|began| began >= answered));
    }
}
