//! How jobs are ended that this run wants no more of.

use std::time::Instant;

use super::super::job::JobId;
use super::super::queue::Cancel;
use super::super::tracked::Phase;
use super::{ASK_SOON, Clerk, Request};

impl Clerk {
    /// Whether something that was heard is about jobs that are to end.
    pub(super) fn is_told_to_end(&self) -> bool {
        self.heard.iter().any(|request| !matches!(request, Request::Track(_)))
    }

    /// Has jobs end, in one call for all. Says of how many the queue could not be told.
    pub(super) fn stop(&mut self, stages: &[usize], how: Cancel) -> usize {
        let now = Instant::now();
        let (mut jobs, mut unknown) = (Vec::new(), 0);
        for stage in stages {
            let Some(tracked) = self.jobs.get_mut(stage) else { continue };
            if tracked.asked.is_some() && how == Cancel::Soon {
                continue;
            }
            tracked.asked = Some((how, now));
            match &mut tracked.phase {
                Phase::Submit { .. } => {
                    tracked.tell_end(Some("it was not submitted yet".to_owned()), None);
                    self.jobs.remove(stage);
                }
                Phase::Find { until, .. } => {
                    *until = (*until).min(now + self.settings.poll.0);
                    unknown += 1;
                }
                Phase::Watch => match &tracked.note.job {
                    Some(job) => jobs.push(job.clone()),
                    None if self.queue.tells_names() => unknown += 1,
                    None => {
                        let trouble =
                            format!("its job, `{}`, was not cancelled: its number is not known", tracked.note.name);
                        tracked.tell_end(Some(trouble), Some("the queue's own programs end it".to_owned()));
                        self.jobs.remove(stage);
                        unknown += 1;
                    }
                },
            }
            self.ask_at = self.ask_at.min(now + ASK_SOON);
        }
        if jobs.is_empty() { unknown } else { unknown + self.queue.cancel(&jobs, how) }
    }

    /// Says so again of jobs that go on: one that was just about to start may not have heard it.
    pub(super) fn stop_again(&mut self) {
        let now = Instant::now();
        for how in [Cancel::AtOnce, Cancel::Soon] {
            let mut jobs: Vec<JobId> = Vec::new();
            for tracked in self.jobs.values_mut().filter(|tracked| tracked.is_in_queue()) {
                if let Some((asked, at)) = &mut tracked.asked
                    && *asked == how
                    && now.duration_since(*at) >= self.settings.poll.0
                {
                    *at = now;
                    jobs.extend(tracked.note.job.clone());
                }
            }
            if !jobs.is_empty() {
                self.queue.cancel(&jobs, how);
            }
        }
    }
}
