//! Takes up a newer model when the link that leads to it moves on, or the files in its folder change; and its scores, when
//! they come.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bam_contract::artifact::checkpoint::ModelInfo;
use bam_contract::digest::Fingerprint;
use tokio::time::sleep;

use super::app::App;
use super::load;
use crate::store::Store;
use crate::ui::error::warn;

/// Reading one small file is all that it takes to see that nothing changed.
const PERIOD: Duration = Duration::from_secs(1);

/// Goes on for as long as the server does.
pub(super) async fn follow<T>(app: &Arc<App>) -> Result<T> {
    let store = Store::open(&app.artifacts)?;
    let (mut refused, mut scored): (Option<Fingerprint>, _) = (None, None);
    loop {
        sleep(PERIOD).await;
        // What can't be read now may be on its way; the model that is loaded goes on.
        let Ok(now) = ModelInfo::read(&app.settings.folder).map(|info| info.fingerprint) else { continue };
        let current = app.engine().ok().filter(|engine| engine.about.fingerprint == now);
        if let Some(engine) = &current
            && scored != store.changed("score")
        {
            scored = store.changed("score");
            engine.about.look_for_scores(&store);
        }
        if current.is_some() || refused == Some(now) {
            continue;
        }
        match load(app.clone()).await {
            Ok(engine) => {
                app.take_up(engine);
                app.metrics.reload(true);
            }
            Err(error) => {
                warn(&error.context("the newer model is not taken up"));
                app.metrics.reload(false);
                refused = Some(now);
            }
        }
    }
}
