//! The end of a connection whose client may still be sending. Were it closed at once, the system would reset it, and the client
//! would lose the answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What is read at most, and for how long.
const MOST_BYTES: usize = 16 << 20;
const MOST_TIME: Duration = Duration::from_secs(10);
/// A client that has sent nothing for so long is done, or waits.
const QUIET: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Linger {
    left_bytes: usize,
    ends: Instant,
    deadline: Pin<Box<Sleep>>,
}

impl Linger {
    /// After an answer that was ready then.
    pub(super) fn since(answered: Instant) -> Self {
        let deadline = Box::pin(sleep_until(answered + QUIET));
        Self { left_bytes: MOST_BYTES, ends: answered + MOST_TIME, deadline }
    }

    /// Reads and drops what comes, until nothing more does or it is enough.
    pub(super) fn poll<S: AsyncRead + Unpin>(&mut self, stream: &mut S, context: &mut Context<'_>) -> Poll<()> {
        let mut dropped = [0; 16 << 10];
        while self.left_bytes > 0 {
            let mut buffer = ReadBuf::new(&mut dropped);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.left_bytes = self.left_bytes.saturating_sub(buffer.filled().len());
                    self.deadline.as_mut().reset(self.ends.min(Instant::now() + QUIET));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.deadline.as_mut().poll(context),
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_comes_is_read_up_to_a_bound() {
        // To the end, where it has one.
        let (mut server, mut client) = duplex(1 << 10);
        let writing = tokio::spawn(async move { client.write_all(&vec![0; 1 << 20]).await });
        let mut linger = Linger::since(Instant::now());
        poll_fn(|context| linger.poll(&mut server, context)).await;
        writing.await.unwrap().unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);

        let (mut server, mut client) = duplex(1 << 20);
        let writing = tokio::spawn(async move { client.write_all(&vec![0; 2 * MOST_BYTES]).await });
        let mut linger = Linger::since(Instant::now());
        poll_fn(|context| linger.poll(&mut server, context)).await;
        drop(server);
        assert!(writing.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_client_that_is_silent_since_is_not_waited_for() {
        let (mut server, _client) = duplex(1 << 10);
        let mut linger = Linger::since(Instant::now() - QUIET);
        timeout(Duration::from_secs(1), poll_fn(|context| linger.poll(&mut server, context))).await.unwrap();
    }
}
