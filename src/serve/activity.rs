//! What goes on on a connection: whether it may give way to others, and how it is to be closed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::mutex::lock;

#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// Told when it must give way.
    gives_way: Notify,
}

#[derive(Debug)]
struct State {
    /// When it began, a head was whole, an answer was ready, or bytes of one were taken. Bytes that come are none of these:
    /// one that drips a head would pass for busy.
    moved: Instant,
    /// Requests that are being answered.
    answering: usize,
    /// When the first bytes came of a head that is not whole.
    head_began: Option<Instant>,
    /// When a request was answered that had not come to its end.
    broke_off: Option<Instant>,
}

impl Activity {
    pub(super) fn new() -> Self {
        let state = State { moved: Instant::now(), answering: 0, head_began: None, broke_off: None };
        Self { state: Mutex::new(state), gives_way: Notify::new() }
    }

    /// Bytes came.
    pub(super) fn comes(&self) {
        let mut state = lock(&self.state);
        if state.answering == 0 {
            state.head_began.get_or_insert_with(Instant::now);
        }
    }

    /// Bytes were taken.
    pub(super) fn goes(&self) {
        lock(&self.state).moves();
    }

    /// Does what answers a request, whose head is whole.
    pub(super) async fn answering<T>(self: Arc<Self>, answer: impl Future<Output = T>) -> T {
        let _answering = Answering::begin(&self);
        answer.await
    }

    /// A request was answered that had not come to its end.
    pub(super) fn breaks_off(&self) {
        lock(&self.state).broke_off = Some(Instant::now());
    }

    /// When one last was.
    pub(super) fn broke_off(&self) -> Option<Instant> {
        lock(&self.state).broke_off
    }

    /// When the head began that is still to be whole.
    pub(super) fn head_began(&self) -> Option<Instant> {
        lock(&self.state).head_began
    }

    /// How long nothing has gone on; none while a request is answered.
    pub(super) fn quiet(&self) -> Option<Duration> {
        let state = lock(&self.state);
        (state.answering == 0).then(|| state.moved.elapsed())
    }

    /// Has the connection give way.
    pub(super) fn give_way(&self) {
        self.gives_way.notify_one();
    }

    /// Until it must.
    pub(super) async fn gives_way(&self) {
        self.gives_way.notified().await;
    }
}

impl State {
    fn moves(&mut self) {
        self.moved = Instant::now();
        self.head_began = None;
    }
}

struct Answering<'a>(&'a Activity);

impl<'a> Answering<'a> {
    fn begin(activity: &'a Activity) -> Self {
        let mut state = lock(&activity.state);
        state.answering += 1;
        state.moves();
        drop(state);
        Self(activity)
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.answering -= 1;
        state.moves();
    }
}
