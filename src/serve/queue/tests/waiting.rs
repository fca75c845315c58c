//! How long requests wait, and which are refused.

use super::*;

#[test]
fn what_a_row_took_when_the_model_was_loaded_is_the_pace_until_a_batch_is_computed() {
    let queue = queue(100_000, 2);
    queue.assume(84, Duration::from_millis(50));
    let time_of_1000 = || lock(&queue.state).pace.time_of(1000);
    assert_eq!(time_of_1000(), Duration::from_millis(250));
    let others: Vec<Ticket> = (0..5).map(|_| queue.ask(rows(&[100]), vec![0]).unwrap()).collect();
    let full = Refused::Full { tokens: 500, time: Duration::from_millis(125) };
    assert_eq!(queue.ask(rows(&[10]), vec![0]).unwrap_err(), full);
    drop(others);
    let _two = queue.ask(rows(&[84, 84]), vec![0]).unwrap();
    // Nothing waits beside them, so that a row alone doesn't tell what a token of a queue costs.
    let [first, _second] = [(); 2].map(|()| queue.take(Lane::Shared).unwrap());
    queue.computed(&first, Duration::from_millis(20), Lane::Shared);
    assert_eq!(time_of_1000(), Duration::from_millis(100));
}

#[test]
fn rows_alone_on_all_threads_leave_the_pace_of_sessions_side_by_side_as_it_was() {
    let queue = queue_with_a_pace();
    let before = lock(&queue.state).pace.time_of(1000);
    let _alone = queue.ask(rows(&[50]), vec![0]).unwrap();
    let alone = queue.take(Lane::Whole).unwrap();
    queue.computed(&alone, Duration::from_millis(1), Lane::Whole);
    assert_eq!(lock(&queue.state).pace.time_of(1000), before);
}

#[test]
fn rows_of_a_queue_tell_what_a_token_costs_though_each_is_a_pass_of_its_own() {
    let wait = Duration::from_hours(1);
    let queue = Queue::new(Bounds { queue_tokens: 100_000, batch_tokens: 1, wait, timeout: wait }, 1);
    let _request = queue.ask(rows(&[50; 200]), vec![0]).unwrap();
    for _ in 0..100 {
        let batch = queue.take(Lane::Shared).unwrap();
        assert_eq!(lengths(&batch), [50]);
        queue.computed(&batch, Duration::from_millis(66), Lane::Shared);
    }
    let time = lock(&queue.state).pace.time_of(5000).as_secs_f64();
    assert!((6.4..=6.6).contains(&time), "{time}");
}

#[test]
fn the_budget_is_of_tokens_and_a_dropped_ticket_gives_its_share_back() {
    let queue = queue(100, 2);
    let refused = |lengths: &[usize]| queue.ask(rows(lengths), vec![0]).unwrap_err();
    assert_eq!(refused(&[60, 50]), Refused::TooLarge);
    let first = queue.ask(rows(&[40, 40]), vec![0]).unwrap();
    assert_eq!(refused(&[21]), Refused::Full { tokens: 80, time: Duration::ZERO });
    let _second = queue.ask(rows(&[20]), vec![0]).unwrap();
    drop(first);
    assert_eq!(queue.waiting(), (1, 20));
    assert_eq!(lengths(&queue.take(Lane::Shared).unwrap()), [20]);
    queue.close();
    assert!(queue.take(Lane::Shared).is_none());
}

#[test]
fn what_waits_is_bounded_in_time_but_for_requests_that_take_long_themselves() {
    let queue = queue_with_a_pace();
    let _within = [100, 40, 60].map(|length| queue.ask(rows(&[length]), vec![0]).unwrap());
    let full = Refused::Full { tokens: 200, time: Duration::from_millis(116) };
    assert_eq!(queue.ask(rows(&[10]), vec![0]).unwrap_err(), full);
    // What a session has taken it has still to compute.
    assert_eq!(lengths(&queue.take(Lane::Shared).unwrap()), [100]);
    assert_eq!(queue.ask(rows(&[10]), vec![0]).unwrap_err(), full);
    // In a rush: 25 ms and twice what the rows but the longest take, 41 ms and 58.
    assert_eq!(queue.ask(rows(&[100, 70]), vec![0]).unwrap_err(), full);
    let _large = queue.ask(rows(&[100, 100]), vec![0]).unwrap();
    assert_eq!(queue.waiting(), (4, 300));
}

#[test]
fn each_session_may_have_its_next_row_at_hand_however_slow_the_model_is() {
    let queue = queue(100_000, 2);
    queue.assume(50, Duration::from_secs(1));
    let ask = || queue.ask(rows(&[50]), vec![0]);
    let _computed = [(); 2].map(|()| ask().unwrap());
    let batches = [(); 2].map(|()| queue.take(Lane::Shared).unwrap());
    assert_eq!(batches.each_ref().map(|batch| lengths(batch)), [[50], [50]]);
    let _next = [(); 2].map(|()| ask().unwrap());
    assert!(matches!(ask().unwrap_err(), Refused::Full { tokens: 200, .. }));
}

#[test]
fn once_one_is_refused_the_others_wait_for_a_part_of_the_time_until_the_queue_has_drained() {
    let queue = queue_with_a_pace();
    let ask = || queue.ask(rows(&[10]), vec![0]);
    let fill = || std::iter::from_fn(|| ask().ok()).collect::<VecDeque<Ticket>>();
    let mut waiting = fill();
    assert_eq!(waiting.len(), 18);
    // Of 100 tokens, which are worth more than half the time, some have to go before there is room.
    waiting.truncate(10);
    assert!(matches!(ask(), Err(Refused::Full { tokens: 100, .. })));
    waiting.truncate(4);
    waiting.push_back(ask().unwrap());
    assert!(ask().is_err());
    // What is divided into batches together takes a quarter of the time too: a row alone.
    let batch = queue.take(Lane::Shared).unwrap();
    assert_eq!((lengths(&batch), lock(&queue.state).batches.len()), (vec![10], 0));
    // One of two sessions computes: the rush isn't over.
    waiting.clear();
    assert_eq!(fill().len(), 3);
    queue.computed(&batch, Duration::from_millis(cost_of(&batch) as u64), Lane::Shared);
    assert_eq!(fill().len(), 18);
}

/// A session of 1,000 tokens a second computes batches, and as many small requests wait all the time, until it has worked
/// for so long.
fn rush(queue: &Arc<Queue>, requests: usize, time: Duration) -> VecDeque<Ticket> {
    let mut tickets = VecDeque::new();
    let mut worked = Duration::ZERO;
    while worked < time {
        while lock(&queue.state).requests < requests {
            tickets.push_back(queue.ask(rows(&[10]), vec![0]).unwrap());
        }
        let batch = queue.take(Lane::Shared).unwrap();
        tickets.drain(..batch.len());
        while lock(&queue.state).requests < requests {
            tickets.push_back(queue.ask(rows(&[10]), vec![0]).unwrap());
        }
        let took = Duration::from_millis(cost_of(&batch) as u64);
        queue.computed(&batch, took, Lane::Shared);
        worked += took;
    }
    tickets
}

#[test]
fn a_large_request_that_would_not_end_in_time_at_its_share_is_refused_in_a_lasting_rush_alone() {
    let bounds = Bounds {
        queue_tokens: 100_000,
        batch_tokens: 1,
        wait: Duration::from_secs(1),
        timeout: Duration::from_secs(30),
    };
    let ask = |queue: &Arc<Queue>| queue.ask(rows(&[50; 100]), vec![0]).map(drop);
    // 5,000 tokens, each row a pass, would take more than 5 s alone, and more than 50 s beside ten others.
    let queue = Queue::new(bounds, 1);
    let waiting = rush(&queue, 10, Duration::from_millis(100));
    assert_eq!(ask(&queue), Ok(()));
    drop(waiting);
    let waiting = rush(&queue, 10, Duration::from_secs(10));
    let Err(Refused::Full { tokens, time }) = ask(&queue) else { panic!("it is taken in") };
    assert!((45_000..=50_000).contains(&tokens) && time > Duration::from_secs(30), "{tokens} {time:?}");
    // A tenth of that ends in time, and small ones do.
    drop(queue.ask(rows(&[50; 10]), vec![0]).unwrap());
    // Once the others have gone there is room.
    drop(waiting);
    assert_eq!(ask(&queue), Ok(()));
}

#[test]
fn what_a_token_costs_is_told_by_tokens_and_not_by_batches() {
    let wait = Duration::from_hours(1);
    let queue = Queue::new(Bounds { queue_tokens: 100_000, batch_tokens: 4096, wait, timeout: wait }, 1);
    let compute = |lengths: &[usize]| {
        let _rows = queue.ask(rows(lengths), vec![0]).unwrap();
        let _others = queue.ask(rows(&[128]), vec![0]).unwrap();
        let batch = queue.take(Lane::Shared).unwrap();
        assert_eq!(super::lengths(&batch), lengths);
        queue.computed(&batch, Duration::from_millis(cost_of(&batch) as u64), Lane::Shared);
    };
    // A row of 2 tokens is a pass of 18; eight rows of 60 are one of 496.
    compute(&[2]);
    compute(&[60; 8]);
    let tokens = 2.0 + 0.2 * (480.0 - 2.0);
    let cost = 18.0 + 0.2 * (496.0 - 18.0);
    let time = lock(&queue.state).pace.time_of(1000);
    assert!((time.as_secs_f64() - cost / tokens).abs() < 1e-6, "{time:?}");
}
