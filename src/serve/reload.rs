//! Takes up a newer model when the link that leads to it moves on, or the files in its folder change.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bam_contract::artifact::checkpoint::ModelInfo;
use bam_contract::digest::Fingerprint;
use tokio::time::sleep;

use super::app::App;
use super::load;
use crate::ui::error::warn;

/// Reading one small file is all that it takes to see that nothing changed.
const PERIOD: Duration = Duration::from_secs(1);

/// Goes on for as long as the server does.
pub(super) async fn follow<T>(app: &Arc<App>) -> Result<T> {
    let mut refused: Option<Fingerprint> = None;
    loop {
        sleep(PERIOD).await;
        // What can't be read now may be on its way; the model that is loaded goes on.
        let Ok(now) = ModelInfo::read(&app.settings.folder).map(|info| info.fingerprint) else { continue };
        let serves = app.engine().is_ok_and(|engine| engine.about.fingerprint == now);
        if serves || refused == Some(now) {
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
