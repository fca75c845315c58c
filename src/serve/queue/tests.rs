//! The queue as its callers see it.

use proptest::prelude::*;

use super::*;

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

fn queue(queue_tokens: usize) -> Arc<Queue> {
    Queue::new(
        Bounds { queue_tokens, batch_tokens: 4096, wait: Duration::from_millis(100), timeout: Duration::from_secs(30) },
        2,
    )
}

#[test]
fn a_short_row_does_not_go_with_a_long_one_and_none_is_passed_over() {
    let queue = queue(10_000);
    let _first = queue.ask(rows(&[5, 128, 6]), vec![0]).unwrap();
    let _second = queue.ask(rows(&[120, 7]), vec![1]).unwrap();
    assert_eq!(lengths(&queue.take().unwrap()), [5, 7, 6]);
    assert_eq!(lengths(&queue.take().unwrap()), [120, 128]);
    assert_eq!(queue.waiting(), (0, 0));
}

#[test]
fn the_budget_is_of_tokens_and_a_dropped_ticket_gives_its_share_back() {
    let queue = queue(100);
    let refused = |lengths: &[usize]| queue.ask(rows(lengths), vec![0]).unwrap_err();
    assert_eq!(refused(&[60, 50]), Refused::TooLarge);
    let first = queue.ask(rows(&[40, 40]), vec![0]).unwrap();
    assert_eq!(refused(&[21]), Refused::Full { tokens: 80, time: Duration::ZERO });
    let _second = queue.ask(rows(&[20]), vec![0]).unwrap();
    drop(first);
    assert_eq!(queue.waiting(), (1, 20));
    assert_eq!(lengths(&queue.take().unwrap()), [20]);
    queue.close();
    assert!(queue.take().is_none());
}

#[test]
fn what_waits_is_bounded_in_time_but_for_requests_that_take_long_themselves() {
    let queue = queue(100_000);
    let _first = queue.ask(rows(&[50; 4]), vec![0]).unwrap();
    let batch = queue.take().unwrap();
    assert_eq!(batch.len(), 4);
    // Two sessions of 1,000 tokens a second each.
    queue.computed(&batch, Duration::from_millis(200 + PASS_OVERHEAD_TOKENS as u64));
    let _within = [100; 2].map(|length| queue.ask(rows(&[length]), vec![0]).unwrap());
    let _at_the_bound = queue.ask(rows(&[10]), vec![0]).unwrap();
    let full = Refused::Full { tokens: 210, time: Duration::from_micros(106_680) };
    assert_eq!(queue.ask(rows(&[10]), vec![0]).unwrap_err(), full);
    // What a session has taken it has still to compute.
    assert_eq!(lengths(&queue.take().unwrap()), [100]);
    assert_eq!(queue.ask(rows(&[10]), vec![0]).unwrap_err(), full);
    let _of_its_like = queue.ask(rows(&[30]), vec![0]).unwrap();
    assert_eq!(queue.waiting(), (3, 140));
}

#[test]
fn a_small_request_comes_between_the_rows_of_a_large_one() {
    let queue = queue(100_000);
    let _first = queue.ask(rows(&[50; 4]), vec![0]).unwrap();
    let batch = queue.take().unwrap();
    // 100 ms are worth 100 tokens of a session, and rows are divided into batches by a third of that.
    queue.computed(&batch, Duration::from_millis(200 + PASS_OVERHEAD_TOKENS as u64));
    let large = queue.ask(rows(&[50; 100]), vec![0]).unwrap();
    let other = queue.ask(rows(&[50; 100]), vec![0]).unwrap();
    for _ in 0..3 {
        let batch = queue.take().unwrap();
        assert_eq!(lengths(&batch), [50]);
        queue.computed(&batch, Duration::from_millis(50 + PASS_OVERHEAD_TOKENS as u64));
    }
    let small = queue.ask(rows(&[10]), vec![0]).unwrap();
    let served = queue.take().unwrap().into_iter().chain(queue.take().unwrap()).chain(queue.take().unwrap());
    assert!(served.into_iter().any(|row| Arc::ptr_eq(&row.request, &small.request)));
    // And both large ones have had the same.
    let left = |request: &Request| request.waiting();
    assert!(left(&large.request).abs_diff(left(&other.request)) <= 1);
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
        let batch = queue.take().unwrap();
        tickets.drain(..batch.len());
        while lock(&queue.state).requests < requests {
            tickets.push_back(queue.ask(rows(&[10]), vec![0]).unwrap());
        }
        let took = Duration::from_millis(batches::cost_of(&batch) as u64);
        queue.computed(&batch, took);
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
    // 5,000 tokens would take 5 s alone, and at least 50 s beside ten others.
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

proptest! {
    #[test]
    fn every_row_is_taken_once_whatever_comes_and_goes(
        requests in prop::collection::vec((prop::collection::vec(2_usize..128, 1..9), any::<bool>()), 1..20),
    ) {
        let queue = queue(100_000);
        let (mut tickets, mut taken) = (Vec::new(), 0);
        for (lengths, is_dropped) in &requests {
            let ticket = queue.ask(rows(lengths), vec![0]).unwrap();
            if *is_dropped {
                taken += queue.take().unwrap().len();
            } else {
                tickets.push(ticket);
            }
        }
        let waiting = tickets.iter().map(|ticket| ticket.request.waiting()).sum::<usize>();
        prop_assert_eq!(waiting, queue.waiting().0);
        prop_assert_eq!(lock(&queue.state).requests, tickets.iter().filter(|ticket| ticket.request.waiting() > 0).count());
        queue.close();
        let mut rest = 0;
        while let Some(batch) = queue.take() {
            rest += batch.len();
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
    ) {
        let bounds = Bounds { queue_tokens: 100_000, batch_tokens, wait: Duration::from_millis(100), timeout: Duration::from_secs(30) };
        let queue = Queue::new(bounds, 1);
        let ask = |length: &usize| queue.ask(rows(&[*length]), vec![0]).unwrap();
        let tickets: Vec<Ticket> = requests.iter().map(ask).collect();
        let mut first_waiting = 0;
        let mut is_taken = vec![false; requests.len()];
        queue.close();
        while let Some(batch) = queue.take() {
            let longest = lengths(&batch).into_iter().max().unwrap();
            prop_assert!(batch.len() == 1 || batch.len() * longest <= batch_tokens);
            for row in &batch {
                let came = tickets.iter().position(|ticket| Arc::ptr_eq(&ticket.request, &row.request)).unwrap();
                is_taken[came] = true;
                let passed_over = (first_waiting..came).filter(|before| !is_taken[*before]);
                prop_assert!(passed_over.map(|before| requests[before]).sum::<usize>() <= batch_tokens);
            }
            while is_taken.get(first_waiting) == Some(&true) {
                first_waiting += 1;
            }
        }
    }
}
