use std::collections::BTreeMap;

use super::super::super::Queued;
use super::*;

/// Settings, and what a training asks for.
fn given() -> (Settings, Ask) {
    let settings = "executor: slurm\nlimits: { train: { time: 1h } }";
    let ask = Ask {
        stage: "teacher".to_owned(),
        kind: "train".to_owned(),
        cpus: 1,
        memory_bytes: 1 << 30,
        is_memory_known: true,
        gpus: 0,
        time: Some(Span(Duration::from_hours(1))),
    };
    (serde_yaml::from_str(settings).unwrap(), ask)
}

fn job(state: &str) -> QueueJob {
    let queued = Queued { job: 7.into(), state: state.to_lowercase(), reason: None, node: None };
    QueueJob { state: state.to_owned(), exit_code: 3, queued, ..QueueJob::default() }
}

fn known<'a>(
    (settings, ask, note): (&'a Settings, &'a Ask, &'a Note),
    last: Option<&'a Event>,
    end: Option<&'a NodeEnd>,
    standing: Standing<'a>,
) -> Known<'a> {
    Known {
        ask,
        settings,
        note,
        last,
        end,
        shows_all: true,
        limit: None,
        standing,
        waited: SETTLE,
        watched: Watched::Throughout,
        has_kept_state: false,
        tells_of_memory: false,
    }
}

/// What becomes of a training whose job ended in this state, with this last word and this end on its node.
fn verdict(state: Option<&str>, last: Option<&Event>, end: Option<&NodeEnd>, change: fn(&mut Known<'_>)) -> Verdict {
    let (settings, ask) = given();
    let note = Note { job: Some(7.into()), stopped_at: Some("step 4".to_owned()), ..Note::default() };
    let job = state.map(job);
    let standing = job.as_ref().map_or(Standing::Open, Standing::Ended);
    let mut known = known((&settings, &ask, &note), last, end, standing);
    change(&mut known);
    known.verdict()
}

fn end(trouble: Option<&str>, wall_secs: f64) -> NodeEnd {
    let trouble = trouble.map(ToOwned::to_owned);
    let (host, is_signalled) = ("n1".to_owned(), wall_secs > 0.0);
    NodeEnd { trouble, peak_memory_bytes: 0, wall_secs, host, is_signalled, output: BTreeMap::new(), events_bytes: 0 }
}

fn stopped(summary: &str) -> Event {
    Event::Stopped { summary: summary.to_owned() }
}

fn again(why: &str, is_lost: bool) -> Verdict {
    Verdict::Again { why: why.to_owned(), is_lost }
}

fn trouble(verdict: Verdict) -> String {
    let Verdict::Failed { trouble, .. } = verdict else { panic!("{verdict:?}") };
    trouble
}

#[test]
fn a_good_end_needs_no_word_of_slurms() {
    assert_eq!(verdict(None, None, Some(&end(None, 0.0)), |_| ()), Verdict::Ended);
    assert_eq!(verdict(None, None, None, |_| ()), Verdict::Wait);
    assert_eq!(verdict(None, None, Some(&end(Some("exit code 3"), 0.0)), |_| ()), Verdict::Wait);
    assert_eq!(verdict(Some("FAILED"), None, Some(&end(Some("exit code 3"), 0.0)), |_| ()), Verdict::Ended);
    assert_eq!(
        verdict(None, None, Some(&end(Some("exit code 3"), 0.0)), |known| known.waited = MOST_WAIT),
        Verdict::Ended
    );
}

#[test]
fn a_training_that_stopped_goes_on_while_it_makes_headway() {
    let at_limit =
        || verdict(Some("FAILED"), Some(&stopped("step 9")), Some(&end(Some("exit code 1"), 3500.0)), |_| ());
    assert_eq!(at_limit(), again("job 7 on n1 came to its time limit: step 9", false));
    let early = verdict(Some("FAILED"), Some(&stopped("step 9")), Some(&end(Some("exit code 1"), 60.0)), |_| ());
    assert_eq!(early, again("job 7 on n1 was asked to end: step 9", false));
    let stuck = verdict(Some("FAILED"), Some(&stopped("step 4")), Some(&end(Some("exit code 1"), 60.0)), |_| ());
    assert_eq!(trouble(stuck), "two jobs in a row stopped at the same place: step 4");
    let wanted = verdict(Some("FAILED"), Some(&stopped("step 9")), Some(&end(Some("exit code 1"), 60.0)), |known| {
        known.watched = Watched::ToItsEnd;
    });
    assert_eq!(wanted, Verdict::Ended);
    let cancelled = verdict(Some("CANCELLED"), Some(&stopped("step 9")), Some(&end(Some("exit code 1"), 60.0)), |_| ());
    assert_eq!(trouble(cancelled), "job 7 on n1 was cancelled, and not by this run");
}

#[test]
fn what_was_no_fault_of_its_own_may_happen_at_the_same_place() {
    let at_four = |known: fn(&mut Known<'_>)| {
        verdict(Some("PREEMPTED"), Some(&stopped("step 4")), Some(&end(Some("exit code 1"), 60.0)), known)
    };
    assert_eq!(at_four(|_| ()), again("job 7 on n1 was preempted", true));
    let note = Note { job: Some(7.into()), stopped_at: Some("step 4".to_owned()), lost: 3, ..Note::default() };
    let verdict = |kept: bool| {
        let (last, end) = (stopped("step 4"), end(Some("exit code 1"), 60.0));
        let (settings, ask) = given();
        let job = job("PREEMPTED");
        let mut known = known((&settings, &ask, &note), Some(&last), Some(&end), Standing::Ended(&job));
        known.has_kept_state = kept;
        known.verdict()
    };
    assert_eq!(trouble(verdict(false)), "job 7 on n1 was preempted, as 3 before it were lost");
    assert_eq!(verdict(true), again("job 7 on n1 was preempted", true), "it makes headway");
}

#[test]
fn a_limit_that_the_queue_alone_knows_is_one() {
    let end = end(Some("exit code 1"), 3500.0);
    let (_, mut ask) = given();
    (ask.kind, ask.time) = ("exec".to_owned(), None);
    let settings = serde_yaml::from_str("executor: slurm\nlimits: { exec: { grace: 30s } }").unwrap();
    let note = Note { job: Some(7.into()), ..Note::default() };
    let job = job("FAILED");
    let mut known = known((&settings, &ask, &note), None, Some(&end), Standing::Ended(&job));
    assert_eq!(known.verdict(), again("job 7 on n1 was asked to end", true));
    known.limit = Some(Duration::from_hours(1));
    let time = "job 7 on n1 was asked to end 30s before its limit, 1h, and kept no state to go on from";
    assert_eq!(trouble(known.verdict()), time);
    known.has_kept_state = true;
    let kept = "job 7 on n1 came to its time limit; it goes on from the state that it kept last";
    assert_eq!(known.verdict(), again(kept, false));
}

#[test]
fn a_program_that_is_not_asked_early_was_out_of_time_only_by_the_queues_word() {
    let end = end(Some("exit code 1"), 3590.0);
    let (_, mut ask) = given();
    ask.kind = "exec".to_owned();
    let settings = serde_yaml::from_str("executor: slurm\nlimits: { exec: { time: 1h } }").unwrap();
    let note = Note { job: Some(7.into()), ..Note::default() };
    let verdict = |standing: Standing<'_>| known((&settings, &ask, &note), None, Some(&end), standing).verdict();
    assert_eq!(verdict(Standing::Ended(&job("FAILED"))), again("job 7 on n1 was asked to end", true));
    let time = "job 7 on n1 came to its time limit, 1h, and the stage keeps no state to go on from";
    let hint = Some("raise `time` in the stage's `resources`, or of `exec` in the profile's `limits`".to_owned());
    let out_of_time = Verdict::Failed { trouble: time.to_owned(), hint };
    assert_eq!(verdict(Standing::Ended(&job("TIMEOUT"))), out_of_time);
    assert_eq!(verdict(Standing::Gone(None)), out_of_time, "a queue that forgot it says nothing else");
}

#[test]
fn what_was_made_is_waited_for_until_it_is_seen() {
    let unseen = |waited: fn(&mut Known<'_>)| verdict(None, None, Some(&end(None, 0.0)), waited);
    assert_eq!(unseen(|known| known.shows_all = false), Verdict::Wait);
    let why = verdict(Some("FAILED"), None, Some(&end(Some("exit code 1"), 0.0)), |known| known.shows_all = false);
    assert_eq!(why, Verdict::Wait, "its last word may say why");
    let never = unseen(|known| (known.shows_all, known.waited) = (false, SETTLE_OUTPUT));
    assert_eq!(trouble(never), "not all that job 7 on n1 made is seen here, of 0 files");
}

#[test]
fn a_lost_job_is_submitted_again() {
    assert_eq!(verdict(Some("NODE_FAIL"), None, None, |_| ()), again("job 7 lost its node", true));
    assert_eq!(verdict(Some("NODE_FAIL"), None, None, |known| known.waited = Duration::ZERO), Verdict::Wait);
    let gone = verdict(None, None, None, |known| known.standing = Standing::Gone(None));
    assert_eq!(gone, again("job 7 is gone from the queue", true));
    let unwatched = verdict(Some("CANCELLED"), None, None, |known| known.watched = Watched::Adopted);
    assert_eq!(unwatched, again("job 7 was cancelled", true));
    let failed = end(Some("exit code 3"), 0.0);
    let forgotten = verdict(None, None, Some(&failed), |known| known.standing = Standing::Gone(None));
    assert_eq!(forgotten, Verdict::Ended, "a worker that failed was not lost, though the queue forgot its job");
}

#[test]
fn a_time_limit_ends_what_has_kept_nothing() {
    let kept = verdict(Some("TIMEOUT"), None, None, |known| known.has_kept_state = true);
    assert_eq!(kept, again("job 7 came to its time limit; it goes on from the state that it kept last", false));
    let nothing = verdict(Some("TIMEOUT"), None, None, |_| ());
    assert_eq!(trouble(nothing), "job 7 came to its time limit, 1h, and the stage keeps no state to go on from");
}

#[test]
fn a_job_without_a_word_is_told_from_one_without_a_shared_store() {
    let failed = verdict(Some("FAILED"), None, None, |_| ());
    assert_eq!(trouble(failed), "job 7 ended with exit code 3 before the worker did");
    let done = |known: &mut Known<'_>| known.waited = SETTLE_COMPLETED;
    let completed = verdict(Some("COMPLETED"), None, None, done);
    assert_eq!(trouble(completed), "job 7 has ended (completed), and left no word of it in the store");
}
