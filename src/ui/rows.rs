//! The story of rows that go through a model: a live line on a terminal, and what came of it.

use std::time::{Duration, Instant};

use console::style;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::story;
use super::units::{count, duration, plural};

/// Between two lines where there is no terminal to redraw.
const PLAIN_PERIOD: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct RowsStory {
    started: Instant,
    said: Instant,
    live: ProgressBar,
}

impl RowsStory {
    pub(crate) fn new() -> Self {
        let plain = ProgressStyle::with_template("{msg}").expect("a fixed template");
        let live = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10)).with_style(plain);
        let now = Instant::now();
        Self { started: now, said: now, live }
    }

    pub(crate) fn progress(&mut self, rows: usize) {
        let line =
            format!("{} {}", style(format!("{:>12}", "ANSWERING")).for_stderr().cyan().bold(), self.so_far(rows));
        if !self.live.is_hidden() {
            self.live.set_message(line);
        } else if self.said.elapsed() >= PLAIN_PERIOD {
            self.said = Instant::now();
            story(&line);
        }
    }

    /// `model` is the one that answered, `left_out` are its tasks that these rows are no rows of.
    pub(crate) fn finish(&self, (rows, cut): (usize, usize), model: &str, tasks: usize, left_out: &[&str]) {
        self.live.finish_and_clear();
        let cut = if cut > 0 { format!(", {} cut to fit the model", plural(cut, "row")) } else { String::new() };
        let verb = style(format!("{:>12}", "ANSWERED")).for_stderr().green().bold();
        story(&format!("{verb} {} for {} by {model}{cut}", self.so_far(rows), plural(tasks, "task")));
        if !left_out.is_empty() {
            story(&format!(
                "{:>12} {}: the rows are not of their kind (see `--pair`)",
                "left out",
                left_out.join(", ")
            ));
        }
    }

    fn so_far(&self, rows: usize) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = count((rows as f64 / seconds.max(1e-3)) as u64);
        format!("[{:^8}] {}, {rate} rows/s", duration(seconds), plural(rows, "row"))
    }
}
