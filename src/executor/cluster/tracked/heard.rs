//! What a stage's jobs leave in files: the worker's words, its end as the node tells it, its output and its state.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use bam_contract::event::Event;
use bam_contract::job::STATE_FILE;

use super::super::super::Message;
use super::Tracked;
use crate::store::refresh;

/// Between two times that the file system is made to look anew.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

impl Tracked {
    /// Tells again what jobs before the last one said, for a run that did not hear it.
    pub(in super::super) fn replay(&mut self) {
        let number = self.note.number;
        for earlier in 1..number {
            self.note.number = earlier;
            self.listen();
            self.read_bytes = 0;
            self.last = None;
        }
        self.note.number = number;
    }

    /// Tells what the worker has said since. Its last word is kept until the end is known.
    pub(in super::super) fn listen(&mut self) {
        let Ok(mut file) = File::open(self.files().events()) else { return };
        if file.seek(SeekFrom::Start(self.read_bytes)).is_err() {
            return;
        }
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) && line.ends_with(b"\n") {
            self.read_bytes += line.len() as u64;
            match serde_json::from_slice(&line) {
                Ok(event @ (Event::Done { .. } | Event::Stopped { .. } | Event::Failed { .. })) => {
                    self.last = Some(event);
                }
                Ok(event) => self.tell(Message::Event { stage: self.stage, event: event.in_plain_words() }),
                // No other writer than this program's.
                Err(_) => {}
            }
            line.clear();
        }
    }

    /// Looks whether the node has told of the end; says whether that is new.
    pub(in super::super) fn look_for_end(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        if self.ended_at.is_some() {
            self.refresh();
        }
        self.end = self.files().read_end();
        if self.end.is_some() {
            self.ended_at.get_or_insert_with(Instant::now);
            self.listen();
        }
        self.end.is_some()
    }

    /// Has what the node wrote be seen, should the file system be behind.
    fn refresh(&mut self) {
        if self.refreshed.is_some_and(|at| at.elapsed() < REFRESH_EVERY) {
            return;
        }
        self.refreshed = Some(Instant::now());
        let resume = if self.resume.exists() { Some(self.resume.as_path()) } else { self.resume.parent() };
        [Some(self.folder.as_path()), resume].into_iter().flatten().for_each(refresh);
    }

    /// Whether all that was said and made on the node is seen.
    pub(super) fn shows_all(&mut self) -> bool {
        let Some(end) = &self.end else { return true };
        let shows = self.read_bytes >= end.events_bytes && self.files().shows(&end.output);
        if !shows {
            self.listen();
            self.refresh();
            refresh(&self.files().output());
        }
        shows
    }

    /// Whether something of this submission's job is there, so that it must have run.
    pub(in super::super) fn has_run(&self) -> bool {
        self.end.is_some() || self.files().events().exists() || self.files().said().exists()
    }

    /// Whether the stage has kept a state since its job was submitted.
    pub(super) fn has_kept_state(&self) -> bool {
        // By the clock of the server that keeps both.
        let written = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let submitted = written(&self.files().script()).unwrap_or(SystemTime::UNIX_EPOCH);
        if self.ask.kind == "train" {
            // Notes of this program's lie beside it.
            return written(&self.resume.join(STATE_FILE)).is_some_and(|changed| changed > submitted);
        }
        let entries = fs::read_dir(&self.resume).into_iter().flatten().flatten();
        let mut changes = entries.filter_map(|entry| written(&entry.path()));
        changes.any(|changed| changed > submitted)
    }
}
