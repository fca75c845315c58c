//! The story of a run, on stderr: a line per stage, a live line for what is under way, a summary.

mod hub;
mod jobs;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use console::{Alignment, Style, Term, measure_text_width, pad_str, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::units::{bytes, clock, count, duration, plural};
use super::{NOT_STARTED, error, harmless, story};
use crate::reason::Reason;
use crate::run::{Observer, RunEvent, Tally};
pub(crate) use jobs::in_words;

/// Between two lines of progress where there is no terminal to redraw.
const PLAIN_PERIOD: Duration = Duration::from_secs(30);
const BAR_CELLS: u64 = 10;
const MOST_REASONS: usize = 4;
const MOST_NAME_COLUMNS: usize = 40;
const MOST_SUMMARY_COLUMNS: usize = 40;
/// Where lines below a stage's begin.
const INDENT_COLUMNS: usize = 25;
const SLOWEST: usize = 3;
/// Stages that failed, named at the end.
const MOST_FAILED: usize = 10;
/// Stands for the time in a stage's line while it is under way.
const CLOCK: &str = "<clock>";

#[derive(Debug)]
pub(crate) struct Story {
    stages: usize,
    name_width: usize,
    terminal: Term,
    /// Redrawn lines, one per stage under way, in their order; hidden where there is no terminal.
    live: MultiProgress,
    /// An empty live line above the others. The `^C` that a terminal writes begins a new line, and then the topmost live
    /// line is not wiped away: it had better be this one.
    gap: ProgressBar,
    under_way: BTreeMap<usize, UnderWay>,
    /// The live line of a file of the hub, and when its state was last told without a terminal.
    downloading: Option<(ProgressBar, Instant)>,
    /// Seconds of the stages that ran.
    ran: Vec<(String, f64)>,
    failed: Vec<String>,
    tells_pushes: bool,
}

#[derive(Debug)]
struct UnderWay {
    verb: &'static str,
    started: Instant,
    said: Instant,
    bar: ProgressBar,
}

impl Story {
    pub(crate) fn new() -> Self {
        let live = MultiProgress::with_draw_target(live_target());
        Self {
            stages: 0,
            name_width: 0,
            terminal: Term::stderr(),
            live,
            gap: ProgressBar::hidden(),
            under_way: BTreeMap::new(),
            downloading: None,
            ran: Vec::new(),
            failed: Vec::new(),
            tells_pushes: false,
        }
    }

    /// One whose work is to push: there each artifact gets its line.
    pub(crate) fn of_pushes() -> Self {
        Self { tells_pushes: true, ..Self::new() }
    }

    fn say(&self, text: &str) {
        // `suspend` would do all three, but ends the program where the terminal is gone.
        _ = self.live.clear();
        story(text);
        self.gap.tick();
    }

    /// Columns of the terminal; as many as one likes where there is none.
    fn columns(&self) -> usize {
        self.terminal.size_checked().map_or(usize::MAX, |(_, columns)| columns.into())
    }

    /// `         RAN [    3.2s]  ( 2/20) tokens@rte           `
    fn head(&self, verb: &str, colour: &Style, time: &str, index: usize, stage: &str) -> String {
        let digits = self.stages.to_string().len();
        let verb = colour.apply_to(format!("{verb:>12}"));
        // A long name is cut in the live lines only, which others soon replace.
        let cut = (time == CLOCK).then_some("…");
        let stage = pad_str(stage, self.name_width.min(self.columns() / 4), Alignment::Left, cut);
        format!("{verb} {time:<10}  ({:>digits$}/{}) {stage}", index + 1, self.stages)
    }

    /// A stage's line with its summary and the fingerprint's start at the end. On a terminal too narrow for it the
    /// fingerprint is left out, and if need be the summary comes on a line of its own.
    fn line(&self, head: &str, summary: &str, fingerprint: &str) {
        let room = self.columns().saturating_sub(measure_text_width(head) + 2);
        let gap = " ".repeat(MOST_SUMMARY_COLUMNS.saturating_sub(measure_text_width(summary)));
        let end =
            if fingerprint.is_empty() { String::new() } else { format!("{gap}  {}", dim().apply_to(fingerprint)) };
        if measure_text_width(summary) + measure_text_width(&end) <= room {
            self.say(format!("{head}  {summary}{end}").trim_end());
        } else if measure_text_width(summary) <= room {
            self.say(&format!("{head}  {summary}"));
        } else {
            self.say(head.trim_end());
            self.below(summary);
        }
    }

    /// A line below a stage's, under its name's column.
    fn below(&self, text: &str) {
        let indent = INDENT_COLUMNS.min(self.columns() / 5);
        self.say(&format!("{:indent$}{}", "", dim().apply_to(text)));
    }

    fn because(&self, reasons: &[Reason]) {
        // On a first run every stage is new, which needs no telling.
        if reasons == [Reason::NeverRan] {
            return;
        }
        for reason in reasons.iter().take(MOST_REASONS) {
            self.below(&format!("because {reason}"));
        }
        if let Some(more) = reasons.len().checked_sub(MOST_REASONS).filter(|more| *more > 0) {
            self.below(&format!("and {}", plural(more, "more reason")));
        }
    }

    /// Adds the live line of a stage, whose clock goes on between reports.
    fn begin(&mut self, verb: &'static str, index: usize, stage: &str) {
        self.settle(index);
        let (before, after) = self.running(verb, index, stage);
        let clock = |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "[{:^8}]", clock(state.elapsed()));
        };
        let template = ProgressStyle::with_template("{prefix} {clock}  {msg}").expect("a fixed template");
        let bar = ProgressBar::no_length().with_style(template.with_key("clock", clock)).with_prefix(before.clone());
        if self.under_way.is_empty() {
            let empty = ProgressStyle::with_template(" ").expect("a fixed template");
            self.gap = self.live.add(ProgressBar::no_length().with_style(empty));
            self.gap.tick();
        }
        let above = 1 + self.under_way.range(..index).count();
        let message = truncate_str(&after, self.room_after(&before), "…").into_owned();
        let bar = self.live.insert(above, bar.with_message(message));
        if !self.live.is_hidden() {
            bar.enable_steady_tick(Duration::from_secs(1));
        }
        let now = Instant::now();
        self.under_way.insert(index, UnderWay { verb, started: now, said: now, bar });
    }

    /// Columns for what follows the clock in a live line.
    fn room_after(&self, before: &str) -> usize {
        const CLOCK_COLUMNS: usize = 13;
        self.columns().saturating_sub(measure_text_width(before) + CLOCK_COLUMNS)
    }

    /// What stands before and after the clock of a stage under way.
    fn running(&self, verb: &str, index: usize, stage: &str) -> (String, String) {
        let line = self.head(verb, &stderr().cyan().bold(), CLOCK, index, stage);
        let (before, after) = line.split_once(CLOCK).expect("the head has the time in it");
        (before.trim_end().to_owned(), after.trim_start().to_owned())
    }

    /// Tells how far a stage is: a bar, where there is one, and words. Where columns are short, the bar and what pads the name go first.
    fn progress(&mut self, index: usize, stage: &str, bar: Option<&str>, words: &str) {
        let Some(verb) = self.under_way.get(&index).map(|under_way| under_way.verb) else { return };
        let (before, after) = self.running(verb, index, stage);
        let state = bar.map_or_else(|| words.to_owned(), |bar| format!("{bar}  {words}"));
        let room = self.room_after(&before);
        let ways = [format!("{after}  {state}"), format!("{after}  {words}")];
        let fitting = ways.into_iter().find(|way| measure_text_width(way) <= room);
        let message = fitting.unwrap_or_else(|| {
            let tight = format!("{}  {words}", after.trim_end());
            truncate_str(&tight, room, "…").into_owned()
        });
        let Some(under_way) = self.under_way.get_mut(&index) else { return };
        if !self.live.is_hidden() {
            under_way.bar.set_message(message);
        } else if under_way.said.elapsed() >= PLAIN_PERIOD {
            under_way.said = Instant::now();
            story(&format!("{before} [{:^8}]  {after}  {state}", clock(under_way.started.elapsed())));
        }
    }

    fn settle(&mut self, index: usize) {
        if let Some(under_way) = self.under_way.remove(&index) {
            under_way.bar.finish_and_clear();
            if self.under_way.is_empty() {
                self.gap.finish_and_clear();
            }
        }
    }

    fn stopping(&self, stages: &[&str]) {
        self.after_question();
        let (first, more) = (stages[0], stages.len() - 1);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        self.say(&format!("stopping {first}{more}; Ctrl-C again ends at once"));
    }

    fn summary(&mut self, seconds: f64, tally: &Tally) {
        let counted = |counts: &[(usize, &str)]| -> Vec<String> {
            let some = counts.iter().filter(|(number, _)| *number > 0);
            some.map(|(number, what)| format!("{number} {what}")).collect()
        };
        let mut parts =
            counted(&[(tally.cached, "cached"), (tally.remote, "in the remote"), (tally.fetched, "fetched")]);
        if let Some(last) = parts.last_mut().filter(|_| tally.saved_secs >= 1.0) {
            *last += &format!(" ({} saved)", duration(tally.saved_secs));
        }
        if self.tells_pushes {
            parts.extend(counted(&[(tally.pushed, "pushed")]));
        }
        parts.extend(counted(&[
            (tally.ran, "ran"),
            (tally.failed, "failed"),
            (tally.stopped, "stopped"),
            (tally.skipped, "skipped"),
            (tally.absent, "absent"),
        ]));
        story("────────────");
        let verb = |word: &str| stderr().bold().apply_to(format!("{word:>12}")).to_string();
        let stages = plural(self.stages, "stage");
        story(&format!("{} {}  {stages}: {}", verb("Summary"), time(seconds), parts.join(", ")));
        if !self.failed.is_empty() {
            let verb = stderr().red().bold().apply_to(format!("{:>12}", "Failed"));
            let named = self.failed.iter().take(MOST_FAILED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = self.failed.len().saturating_sub(MOST_FAILED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            story(&format!("{verb} {named}{more}"));
        }
        self.ran.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        if self.ran.len() > 1 {
            let slowest = self.ran.iter().take(SLOWEST).map(|(stage, secs)| format!("{stage} {}", duration(*secs)));
            story(&format!("{} {}", verb("Slowest"), slowest.collect::<Vec<_>>().join(", ")));
        }
        if tally.pushed > 0 {
            let artifacts = plural(tally.pushed, "artifact");
            story(&format!("{} {artifacts}, {}, to the remote", verb("Pushed"), bytes(tally.pushed_bytes)));
        }
    }

    fn log_tail(&mut self, log: Option<&Path>, lines: &[&str]) {
        if !lines.is_empty() {
            let kept = log.map(|log| format!(", `{}`", log.display())).unwrap_or_default();
            self.say(&format!("\nthe end of its log{kept}:"));
            for line in lines {
                self.say(&format!("  | {}", harmless(line)));
            }
        }
        self.say("");
    }
}

impl Observer for Story {
    fn tell(&mut self, event: &RunEvent<'_>) {
        match event {
            RunEvent::Downloading { .. }
            | RunEvent::Awaiting { .. }
            | RunEvent::Abandoned
            | RunEvent::Downloaded { .. } => self.tell_of_hub(event),
            RunEvent::Adopted { .. }
            | RunEvent::Queued { .. }
            | RunEvent::Requeued { .. }
            | RunEvent::Left { .. }
            | RunEvent::Asking { .. } => {
                self.tell_of_job(event);
            }
            RunEvent::Started { pipeline, stages } => {
                self.stages = stages.len();
                self.name_width =
                    stages.iter().map(|name| measure_text_width(name)).max().unwrap_or(0).clamp(8, MOST_NAME_COLUMNS);
                let verb = stderr().bold().apply_to(format!("{:>12}", "Pipeline"));
                self.say(&format!("{verb} {pipeline}: {}", plural(self.stages, "stage")));
            }
            RunEvent::Cached { stage, index, manifest, reran } => {
                let head = self.head("CACHED", &stderr().green(), "", *index, stage);
                self.line(&head, &manifest.summary, &manifest.fingerprint.short());
                if !reran.is_empty() {
                    self.below(&format!("{} ran, same bytes", reran.join(", ")));
                }
            }
            RunEvent::Remote { stage, index, manifest } => {
                let head = self.head("REMOTE", &stderr().green(), "", *index, stage);
                self.line(&head, &manifest.summary, &manifest.fingerprint.short());
            }
            RunEvent::Fetching { stage, index, .. } => self.begin("FETCHING", *index, stage),
            RunEvent::Fetched { stage, index, manifest, bytes: size, fetch_seconds } => {
                self.settle(*index);
                let head = self.head("FETCHED", &stderr().green().bold(), &time(*fetch_seconds), *index, stage);
                let summary = format!("{}, {}", manifest.summary, bytes(*size));
                self.line(&head, &summary, &manifest.fingerprint.short());
            }
            RunEvent::Pushed { stage, index, manifest, bytes: size } => {
                if self.tells_pushes {
                    let head = self.head("PUSHED", &stderr().green().bold(), "", *index, stage);
                    self.line(&head, &bytes(*size), &manifest.fingerprint.short());
                }
            }
            RunEvent::Absent { stage, index, from } => {
                let head = self.head("ABSENT", &stderr().yellow(), "", *index, stage);
                self.say(&format!("{head}  not in the {from}"));
            }
            RunEvent::Trouble { text, hint } => self.say(&error::warning(text, hint.as_deref())),
            RunEvent::Waiting { stage, index, holder } => {
                let head = self.head("WAITING", &stderr().yellow(), "", *index, stage);
                self.line(&head, &format!("another run makes it ({holder})"), "");
            }
            RunEvent::Running { stage, index, .. } => self.begin("RUNNING", *index, stage),
            RunEvent::Progress { stage, index, done, total, unit, detail } => {
                let words = format!("{unit} {}/{}  {detail}", count(*done), count(*total));
                self.progress(*index, stage, Some(&bar(*done, *total)), &words);
            }
            RunEvent::Metric { .. } => {}
            RunEvent::Warning { stage, text } => {
                self.say(&format!("{} {stage}: {text}", stderr().yellow().bold().apply_to("warning:")));
            }
            RunEvent::Ran { stage, index, manifest, reasons } => {
                self.settle(*index);
                let made = &manifest.provenance;
                let head = self.head("RAN", &stderr().green().bold(), &time(made.wall_secs), *index, stage);
                let summary = format!("{}, peak {}", manifest.summary, bytes(made.peak_memory_bytes));
                self.line(&head, &summary, &manifest.fingerprint.short());
                self.because(reasons);
                self.ran.push(((*stage).to_owned(), made.wall_secs));
            }
            RunEvent::Failed { stage, index, causes, hint, log, log_tail, seconds, .. } => {
                self.settle(*index);
                self.failed.push((*stage).to_owned());
                let head = self.head("FAILED", &stderr().red().bold(), &time(*seconds), *index, stage);
                self.say(head.trim_end());
                self.say(&error::failure(causes, *hint));
                self.log_tail(*log, log_tail);
            }
            RunEvent::Skipped { stage, index, needs } => {
                let head = self.head("SKIPPED", &stderr().yellow(), "", *index, stage);
                let why = needs.map_or_else(|| NOT_STARTED.to_owned(), |needs| format!("needs {needs}"));
                self.line(&head, &why, "");
            }
            RunEvent::Stopping { stages } => self.stopping(stages),
            RunEvent::Stopped { stage, index, kept } => {
                self.settle(*index);
                let head = self.head("STOPPED", &stderr().yellow(), "", *index, stage);
                let kept = kept.map(|kept| format!("{kept}; the next run goes on from there"));
                self.line(&head, &kept.unwrap_or_default(), "");
            }
            RunEvent::Interrupted { tally } => {
                let done = tally.cached + tally.ran;
                let (is, stays) = if done == 1 { ("is", "stays") } else { ("are", "stay") };
                story(&format!("interrupted: {done} of {} {is} done and {stays} cached", plural(self.stages, "stage")));
            }
            RunEvent::Finished { seconds, tally } => self.summary(*seconds, tally),
        }
    }
}

/// Hidden where there is no terminal.
fn live_target() -> ProgressDrawTarget {
    ProgressDrawTarget::stderr_with_hz(10)
}

fn stderr() -> Style {
    Style::new().for_stderr()
}

fn dim() -> Style {
    stderr().dim()
}

fn time(seconds: f64) -> String {
    format!("[{:>8}]", duration(seconds))
}

/// `━━━━━╸━━━━` with the part that is done up to the mark.
fn bar(done: u64, total: u64) -> String {
    let full = (done.min(total) * BAR_CELLS).checked_div(total).unwrap_or(0) as usize;
    let rest = BAR_CELLS as usize - full;
    let mark = if rest > 0 { "╸" } else { "" };
    format!("{}{mark}{}", "━".repeat(full), dim().apply_to("━".repeat(rest.saturating_sub(1))))
}
