//! What is fetched of the Hugging Face hub before a run: a line for each repository, and a live one for the file on its way.

use std::time::Instant;

use console::truncate_str;
use indicatif::{ProgressBar, ProgressStyle};

use super::{PLAIN_PERIOD, Story, bar, stderr, time};
use crate::run::RunEvent;
use crate::ui::story;
use crate::ui::units::{bytes, plural};

impl Story {
    /// Tells of what is fetched of the hub before the run.
    pub(super) fn tell_of_hub(&mut self, event: &RunEvent<'_>) {
        match event {
            RunEvent::Downloading { repository, file, done, bytes: all } => {
                let state = format!("{}  {}/{}  {file}", bar(*done, *all), bytes(*done), bytes(*all));
                self.download(repository, &state);
            }
            RunEvent::Awaiting { repository, file } => {
                self.download(repository, &format!("another process fetches {file}"));
            }
            RunEvent::Abandoned => self.end_download(),
            RunEvent::Downloaded { repository, files, bytes: size, seconds } => {
                self.end_download();
                let verb = stderr().green().bold().apply_to(format!("{:>12}", "FETCHED"));
                self.say(&format!(
                    "{verb} {}  {repository}  {}, {}",
                    time(*seconds),
                    plural(*files, "file"),
                    bytes(*size)
                ));
            }
            _ => {}
        }
    }

    /// Tells how far a file of the hub is.
    fn download(&mut self, repository: &str, state: &str) {
        let verb = stderr().cyan().bold().apply_to(format!("{:>12}", "FETCHING"));
        let line = format!("{verb} {repository}  {state}");
        let (bar, said) = self.downloading.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg}").expect("a fixed template");
            (self.live.add(ProgressBar::no_length().with_style(style)), Instant::now())
        });
        if !self.live.is_hidden() {
            bar.set_message(truncate_str(&line, self.terminal.size().1.into(), "…").into_owned());
        } else if said.elapsed() >= PLAIN_PERIOD {
            *said = Instant::now();
            story(&line);
        }
    }

    fn end_download(&mut self) {
        if let Some((bar, _)) = self.downloading.take() {
            bar.finish_and_clear();
        }
    }
}
