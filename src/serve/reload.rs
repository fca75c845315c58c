//! Takes up a newer model when the link that leads to it moves on, a run that exported one ends well, or the files in its folder
//! change; and its scores, when they come.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use bam_contract::artifact::onnx;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::app::App;
use super::caught::caught;
use super::load;
use crate::exported::runs_changed;
use crate::fingerprint::Stamp;
use crate::store::Store;
use crate::ui::error::warn;

/// No file is read to see that nothing changed.
const PERIOD: Duration = Duration::from_secs(1);

/// Which files a model is read from, and in which state.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Files(Vec<Option<Stamp>>);

impl Files {
    pub(super) fn of(folder: &Path) -> Self {
        Self(onnx::files().map(|name| fs::metadata(folder.join(name)).ok().as_ref().map(Stamp::of)).collect())
    }
}

/// Goes on for as long as the server does. The model that is served was read from `folder`, and from what was `loaded` there.
pub(super) async fn follow<T>(app: &Arc<App>, folder: PathBuf, loaded: Files) -> Result<T> {
    let mut watch = Watch::new(Store::open(&app.artifacts)?, folder, loaded);
    loop {
        sleep(PERIOD).await;
        let app_of_watch = app.clone();
        // A slow disk must not keep this thread from connections and signals.
        let looked = spawn_blocking(move || (caught(|| Ok(watch.is_there_another(&app_of_watch))), watch));
        let (is_there_another, watched) = looked.await?;
        watch = watched;
        match is_there_another {
            Ok(true) => take_up(app, watch.folder.clone()).await,
            Ok(false) => {}
            Err(error) => warn(&error.context("it can't be seen whether there is a newer model")),
        }
    }
}

async fn take_up(app: &Arc<App>, folder: PathBuf) {
    match load(app.clone(), folder).await {
        Ok(engine) => {
            app.take_up(engine);
            app.metrics.reload(true);
        }
        Err(error) => {
            warn(&error.context("the newer model is not taken up"));
            app.metrics.reload(false);
        }
    }
}

struct Watch {
    store: Store,
    folder: PathBuf,
    /// When the runs' records, by which the folder may be another, were last looked at.
    runs: Option<SystemTime>,
    /// What was last loaded, or refused.
    tried: Files,
    seen: Files,
    scored: Option<SystemTime>,
}

impl Watch {
    fn new(store: Store, folder: PathBuf, loaded: Files) -> Self {
        // A run that ended while the model was loaded is looked at first.
        Self { store, folder, runs: None, tried: loaded.clone(), seen: loaded, scored: None }
    }

    /// Whether other files lie there than were last tried. Those that still change are left alone: they may be half
    /// written.
    fn is_there_another(&mut self, app: &App) -> bool {
        self.look_for_scores(app);
        let runs = runs_changed(&self.store);
        if runs != self.runs {
            self.folder = app.settings.source.now(&self.store, &self.folder);
            self.runs = runs;
        }
        let now = Files::of(&self.folder);
        let is_settled = now == self.seen;
        self.seen = now;
        let is_another = is_settled && self.seen != self.tried;
        if is_another {
            self.tried.clone_from(&self.seen);
        }
        is_another
    }

    fn look_for_scores(&mut self, app: &App) {
        let changed = self.store.changed("score");
        if changed != self.scored
            && let Ok(engine) = app.engine()
        {
            self.scored = changed;
            engine.about.look_for_scores(&self.store);
        }
    }
}
