//! Files outside the store that stages read: there, and readable.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bam_contract::external::External;
use bam_contract::fault::{Fault, hint_of};
use bam_contract::stage::StageSpec;

use super::{Mistakes, Typed};

/// Files found readable, which needn't be tried again for other stages.
#[derive(Debug, Default)]
pub(super) struct Files {
    readable: HashSet<PathBuf>,
}

impl Files {
    /// The files that a stage reads.
    pub(super) fn of(&mut self, stage: &Typed, mistakes: &mut Mistakes) -> Vec<External> {
        let param = match stage.spec {
            StageSpec::Data(_) => "from",
            StageSpec::Exec(_) => "files",
            _ => "encoder",
        };
        let is_lacking = stage.repository.as_ref().is_some_and(|repository| !repository.lacks.is_empty());
        if is_lacking || stage.flawed.contains(param) || stage.flawed.contains("task") {
            return Vec::new();
        }
        self.find(stage).unwrap_or_else(|error| {
            let holder = stage.origin.holder(&mistakes.source, &[param.to_owned()]);
            let place = mistakes.source.value(&holder);
            let is_absent = stage.folder().is_some_and(|folder| !folder.is_dir());
            let other = is_absent.then(|| format!("; `--set {}=DIR` names another", holder.join(".")));
            let hint = hint_of(&error).map(|hint| hint.to_owned() + &other.unwrap_or_default());
            mistakes.add(place, format!("{error:#}"), hint);
            Vec::new()
        })
    }

    fn find(&mut self, stage: &Typed) -> Result<Vec<External>> {
        let files = stage.with_checksums(stage.resolved().external()?);
        files.iter().try_for_each(|file| self.try_to_read(&file.path))?;
        Ok(files)
    }

    fn try_to_read(&mut self, path: &Path) -> Result<()> {
        if !self.readable.contains(path) {
            let hint = "give the user that runs `bam` the right to read it";
            File::open(path)
                .map_err(|error| Fault::new(format!("`{}` cannot be read: {error}", path.display()), hint))?;
            self.readable.insert(path.to_owned());
        }
        Ok(())
    }
}
