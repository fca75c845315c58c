//! The queue as its callers see it.

use std::thread;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use batches::PASS_OVERHEAD_TOKENS;

mod waiting;

fn rows(lengths: &[usize]) -> TokenRows {
    let mut rows = TokenRows::default();
    for (row, length) in lengths.iter().enumerate() {
        rows.push(row as i64, false, None, &vec![7; *length], &vec![0; *length], 0);
    }
    rows
}

fn lengths(batch: &[Row]) -> Vec<usize> {
    batch.iter().map(Row::tokens).collect()
}

fn queue(queue_tokens: usize, sessions: usize) -> Arc<Queue> {
    let (wait, timeout) = (Duration::from_millis(100), Duration::from_secs(30));
    Queue::new(Bounds { queue_tokens, batch_tokens: 4096, wait, timeout }, sessions)
}

/// A queue before two sessions, each of which has been seen to compute 1,000 tokens a second.
fn queue_with_a_pace() -> Arc<Queue> {
    let queue = queue(100_000, 2);
    let _request = queue.ask(rows(&[50; 4]), vec![0]).unwrap();
    for _ in 0..2 {
        let batch = queue.take(Lane::Shared).unwrap();
        assert_eq!(batch.len(), 2);
        queue.computed(&batch, Duration::from_millis(cost_of(&batch) as u64), Lane::Shared);
    }
    queue
}

#[test]
fn a_short_row_does_not_go_with_a_long_one_and_none_is_passed_over() {
    let queue = queue(10_000, 1);
    let _first = queue.ask(rows(&[5, 128, 6]), vec![0]).unwrap();
    let _second = queue.ask(rows(&[120, 7]), vec![1]).unwrap();
    assert_eq!(lengths(&queue.take(Lane::Shared).unwrap()), [5, 7, 6]);
    assert_eq!(lengths(&queue.take(Lane::Shared).unwrap()), [120, 128]);
    assert_eq!(queue.waiting(), (0, 0));
}

#[test]
fn rows_are_divided_among_the_sessions_that_are_free() {
    let queue = queue(10_000, 3);
    let _first = queue.ask(rows(&[24; 8]), vec![0]).unwrap();
    let batches: Vec<Vec<Row>> = (0..3).map(|_| queue.take(Lane::Shared).unwrap()).collect();
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [2, 3, 3]);
    queue.computed(&batches[0], Duration::ZERO, Lane::Shared);
    let _second = queue.ask(rows(&[24; 8]), vec![0]).unwrap();
    assert_eq!(queue.take(Lane::Shared).unwrap().len(), 8);
}

#[test]
fn few_rows_that_come_alone_get_all_threads_and_then_nothing_is_computed_beside_them() {
    let queue = queue(10_000, 4);
    let to_wake = || {
        let state = lock(&queue.state);
        state.lanes.to_wake(state.waiting())
    };
    let _alone = queue.ask(rows(&[20, 20]), vec![0]).unwrap();
    assert_eq!(to_wake(), (Lane::Whole, 1));
    let alone = queue.take(Lane::Whole).unwrap();
    assert_eq!((alone.len(), to_wake().1), (2, 0));
    let _three = queue.ask(rows(&[20, 20, 20]), vec![0]).unwrap();
    assert_eq!(to_wake().1, 0);
    assert!(!lock(&queue.state).lanes.may_take(Lane::Shared, 3));
    queue.computed(&alone, Duration::ZERO, Lane::Whole);
    assert_eq!(to_wake(), (Lane::Shared, 3));
    let first = queue.take(Lane::Shared).unwrap();
    let second = queue.take(Lane::Shared).unwrap();
    // The last is alone in the queue, and not on the machine.
    assert_eq!((first.len(), second.len(), to_wake()), (1, 1, (Lane::Shared, 1)));
    assert!(!lock(&queue.state).lanes.may_take(Lane::Whole, 1));
    queue.computed(&first, Duration::ZERO, Lane::Shared);
    queue.computed(&second, Duration::ZERO, Lane::Shared);
    assert_eq!(to_wake(), (Lane::Whole, 1));
}

#[test]
fn a_session_that_waited_for_the_one_with_all_threads_ends_once_the_queue_is_closed() {
    let queue = queue(10_000, 2);
    let _alone = queue.ask(rows(&[20]), vec![0]).unwrap();
    let alone = queue.take(Lane::Whole).unwrap();
    let waiting = queue.ask(rows(&[20]), vec![0]).unwrap();
    thread::scope(|scope| {
        let sessions = [0, 1].map(|_| scope.spawn(|| queue.take(Lane::Shared)));
        // They wait, and wait again once they are told that it is closed.
        thread::sleep(Duration::from_millis(20));
        queue.close();
        thread::sleep(Duration::from_millis(20));
        drop(waiting);
        queue.computed(&alone, Duration::ZERO, Lane::Whole);
        assert!(sessions.into_iter().all(|session| session.join().unwrap().is_none()));
    });
}

#[test]
fn whichever_session_is_woken_every_request_is_answered() {
    // However slow the machine is just now, none is refused.
    let (wait, timeout) = (Duration::from_hours(1), Duration::from_hours(1));
    for sessions in [1, 3, 8] {
        let bounds = Bounds { queue_tokens: 100_000, batch_tokens: 4096, wait, timeout };
        rush_of_clients(&Queue::new(bounds, sessions), sessions);
    }
}

fn rush_of_clients(queue: &Arc<Queue>, sessions: usize) {
    let session = |lane| {
        while let Some(batch) = queue.take(lane) {
            let started = Instant::now();
            if batch.len() % 3 == 0 {
                thread::sleep(Duration::from_micros(50));
            }
            for row in &batch {
                row.request.answer(row.index, vec![vec![0.0]], started);
            }
            queue.computed(&batch, started.elapsed(), lane);
        }
    };
    let ask = |most_rows: usize, number: usize| queue.ask(rows(&vec![20; 1 + number % most_rows]), vec![0]).unwrap();
    let client = |most_rows: usize| {
        for number in 0..500 {
            let ticket = ask(most_rows, number);
            // Some hang up at once.
            if number % 5 > 0 {
                assert!(block_on(ticket.answer()).is_ok());
            }
        }
    };
    thread::scope(|scope| {
        let session = &session;
        let lanes = vec![Lane::Shared; sessions].into_iter().chain((sessions > 1).then_some(Lane::Whole));
        for lane in lanes {
            scope.spawn(move || session(lane));
        }
        // Else the sessions would be waited for where a client fails.
        let _closing = Closing(queue);
        thread::scope(|scope| {
            let client = &client;
            for most_rows in [1, 1, 2, 5] {
                scope.spawn(move || client(most_rows));
            }
        });
        let last = [1, 2, 3].map(|number| ask(4, number));
        queue.close();
        assert!(last.into_iter().all(|ticket| block_on(ticket.answer()).is_ok()));
    });
    assert_eq!(queue.waiting(), (0, 0));
}

struct Closing<'a>(&'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[test]
fn a_session_that_takes_a_part_of_what_the_other_lane_was_told_of_wakes_another() {
    let queue = queue(10_000, 4);
    thread::scope(|scope| {
        let other = scope.spawn(|| queue.take(Lane::Shared));
        thread::sleep(Duration::from_millis(20));
        // Two rows that go alone, as unlike as they are: the session with all threads is told of them, and is late.
        let _two = queue.ask(rows(&[8, 128]), vec![0]).unwrap();
        let first = queue.take(Lane::Shared).unwrap();
        assert_eq!((first.len(), other.join().unwrap().unwrap().len()), (1, 1));
    });
}

/// A row that nobody takes fails the test, and doesn't hang it.
fn block_on(answer: impl Future<Output = Result<Answered, String>>) -> Result<Answered, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), answer).await.expect("a row is left") })
}

#[test]
fn a_small_request_comes_between_the_rows_of_a_large_one() {
    // 100 ms are worth 100 tokens of a session, and rows are divided into batches by a third of that.
    let queue = queue_with_a_pace();
    let large = queue.ask(rows(&[50; 100]), vec![0]).unwrap();
    let other = queue.ask(rows(&[50; 100]), vec![0]).unwrap();
    for _ in 0..3 {
        let batch = queue.take(Lane::Shared).unwrap();
        assert_eq!(lengths(&batch), [50]);
        queue.computed(&batch, Duration::from_millis(50 + PASS_OVERHEAD_TOKENS as u64), Lane::Shared);
    }
    let small = queue.ask(rows(&[10]), vec![0]).unwrap();
    let mut served = Vec::new();
    for _ in 0..3 {
        let batch = queue.take(Lane::Shared).unwrap();
        queue.computed(&batch, Duration::from_millis(50 + PASS_OVERHEAD_TOKENS as u64), Lane::Shared);
        served.extend(batch);
    }
    assert!(served.iter().any(|row| Arc::ptr_eq(&row.request, &small.request)));
    // And both large ones have had the same.
    let left = |request: &Request| request.waiting();
    assert!(left(&large.request).abs_diff(left(&other.request)) <= 1);
}

proptest! {
    #[test]
    fn every_row_is_taken_once_whatever_comes_and_goes(
        requests in prop::collection::vec((prop::collection::vec(2_usize..128, 1..9), any::<bool>()), 1..20),
    ) {
        let queue = queue(100_000, 2);
        let take = || {
            let batch = queue.take(Lane::Shared)?;
            queue.computed(&batch, Duration::ZERO, Lane::Shared);
            Some(batch.len())
        };
        let (mut tickets, mut taken) = (Vec::new(), 0);
        for (lengths, is_dropped) in &requests {
            let ticket = queue.ask(rows(lengths), vec![0]).unwrap();
            if *is_dropped {
                taken += take().unwrap();
            } else {
                tickets.push(ticket);
            }
        }
        let waiting = tickets.iter().map(|ticket| ticket.request.waiting()).sum::<usize>();
        prop_assert_eq!(waiting, queue.waiting().0);
        prop_assert_eq!(lock(&queue.state).requests, tickets.iter().filter(|ticket| ticket.request.waiting() > 0).count());
        queue.close();
        let mut rest = 0;
        while let Some(rows) = take() {
            rest += rows;
        }
        prop_assert_eq!(rest, waiting);
        prop_assert_eq!((queue.waiting(), lock(&queue.state).requests), ((0, 0), 0));
        let all: usize = requests.iter().map(|(lengths, _)| lengths.len()).sum();
        prop_assert!(rest + taken <= all);
    }

    #[test]
    fn rows_that_come_later_pass_none_over_but_those_they_are_divided_with(
        requests in prop::collection::vec(2_usize..128, 2..60),
        batch_tokens in 1_usize..2000,
        sessions in 1_usize..5,
        ends in prop::collection::vec(any::<bool>(), 60),
    ) {
        let bounds = Bounds { queue_tokens: 100_000, batch_tokens, wait: Duration::from_millis(100), timeout: Duration::from_secs(30) };
        let queue = Queue::new(bounds, sessions);
        let ask = |length: &usize| queue.ask(rows(&[*length]), vec![0]).unwrap();
        let tickets: Vec<Ticket> = requests.iter().map(ask).collect();
        let mut first_waiting = 0;
        let mut is_taken = vec![false; requests.len()];
        let mut computing: VecDeque<Vec<Row>> = VecDeque::new();
        let (mut divided_among, mut ends) = (0, ends.into_iter());
        while queue.waiting().0 > 0 {
            if computing.len() == sessions || ends.next() == Some(true) {
                computing.pop_front().into_iter().for_each(|batch| queue.computed(&batch, Duration::ZERO, Lane::Shared));
            }
            if lock(&queue.state).batches.is_empty() {
                divided_among = sessions - computing.len();
            }
            let batch = queue.take(Lane::Shared).unwrap();
            let longest = lengths(&batch).into_iter().max().unwrap();
            prop_assert!(batch.len() == 1 || batch.len() * longest <= batch_tokens);
            for row in &batch {
                let came = tickets.iter().position(|ticket| Arc::ptr_eq(&ticket.request, &row.request)).unwrap();
                is_taken[came] = true;
                let passed_over = (first_waiting..came).filter(|before| !is_taken[*before]);
                prop_assert!(passed_over.map(|before| requests[before]).sum::<usize>() <= batch_tokens * divided_among);
            }
            while is_taken.get(first_waiting) == Some(&true) {
                first_waiting += 1;
            }
            computing.push_back(batch);
        }
        prop_assert!(is_taken.into_iter().all(|is_taken| is_taken));
    }

    #[test]
    fn no_free_session_gets_more_than_its_share_of_equal_rows(
        count in 1_usize..60, length in 1_usize..64, sessions in 2_usize..9,
    ) {
        let queue = queue(100_000, sessions);
        let _ticket = queue.ask(rows(&vec![length; count]), vec![0]).unwrap();
        let mut taken = 0;
        for _ in 0..sessions {
            if queue.waiting().0 > 0 {
                let batch = queue.take(Lane::Shared).unwrap();
                prop_assert!(batch.len() <= count.div_ceil(sessions));
                taken += batch.len();
            }
        }
        prop_assert_eq!(taken, count);
    }
}
