//! Folders outside the store that stages read: paths of this machine, or repositories of the hub and where those lie.

use std::path::{Path, PathBuf};

use bam_contract::artifact::encoder::{CONFIG, TOKENIZER_FILES, WEIGHTS};
use bam_contract::external::External;
use bam_contract::fault::hint_of;
use bam_contract::stage::{DataParams, StageSpec};

use super::Typed;
use crate::hub::{CARD, File, Holds, Hub, Reference, Repository, checksum_of, spell};
use crate::pipeline::mistake::Mistakes;

impl Typed {
    /// The folder on this machine, as far as it is known.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        match &self.repository {
            Some(repository) => repository.folder.clone(),
            None => self.spec.folder().map(|(_, path)| path.to_owned()),
        }
    }

    /// The stage as its worker is told of it: with a folder where it names a repository.
    pub(super) fn resolved(&self) -> StageSpec {
        let spec = self.spec.clone();
        match self.repository.as_ref().and_then(|repository| repository.folder.clone()) {
            Some(folder) => spec.with_folder(folder),
            None => spec,
        }
    }

    /// Looks in the cache for the repository that the stage names, and for what is to be fetched of it.
    pub(super) fn find_repository(&mut self, hub: &Hub, mistakes: &mut Mistakes) {
        let Some((param, path)) = self.spec.folder() else { return };
        let text = path.to_str().unwrap_or_default().to_owned();
        let holds = if param == "from" { Holds::Dataset } else { Holds::Model };
        let reference = match Reference::parse(&text, holds) {
            None => return,
            Some(Ok(reference)) => reference,
            Some(Err(fault)) => {
                let place = self.origin.value(&mistakes.source, &[param.to_owned()]);
                mistakes.add(place, fault.to_string(), Some(fault.hint().to_owned()));
                self.flawed.insert(param.to_owned());
                return;
            }
        };
        let rounds = wanted(&self.spec);
        let lacks = rounds.iter().map(|files| hub.lacks(&reference, files)).find(|lacks| !lacks.is_empty());
        let (folder, wanted, lacks) = (hub.folder(&reference), rounds.concat(), lacks.unwrap_or_default());
        if let (StageSpec::Data(data), Some(folder), true) = (&mut self.spec, &folder, lacks.is_empty())
            && let Err(error) = spell_labels(data, folder)
        {
            let place = self.origin.value(&mistakes.source, &[param.to_owned()]);
            let message = format!("{error} (in `{reference}`)");
            mistakes.add(place, message, hint_of(&error).map(ToOwned::to_owned));
            self.flawed.insert(param.to_owned());
        }
        self.repository = Some(Repository { reference, folder, wanted, lacks });
    }

    /// Adds what the hub says of the files' bytes.
    pub(super) fn with_checksums(&self, mut files: Vec<External>) -> Vec<External> {
        if self.repository.is_some() {
            for file in &mut files {
                file.checksum = checksum_of(&file.path);
            }
        }
        files
    }
}

/// The files that a stage wants of its folder, in the order in which they are fetched: the small ones first, that tell of
/// mistakes.
fn wanted(spec: &StageSpec) -> Vec<Vec<File>> {
    let file = |name: &str, is_needed: bool| File { name: name.to_owned(), is_needed };
    let tokenizer = || TOKENIZER_FILES.iter().map(|name| file(name, false));
    match spec {
        StageSpec::Data(data) => {
            let files = data.files().unwrap_or_default();
            let named = files.iter().map(|(split, name)| file(name, !data.may_lack(*split, name)));
            vec![named.chain([file(CARD, false)]).collect()]
        }
        StageSpec::Tokenize(_) => vec![tokenizer().collect()],
        StageSpec::Train(_) => {
            vec![tokenizer().chain([file(CONFIG, true)]).collect(), vec![file(WEIGHTS, true)]]
        }
        _ => Vec::new(),
    }
}

fn spell_labels(data: &mut DataParams, folder: &Path) -> anyhow::Result<()> {
    let files = data.files()?;
    data.definition.as_mut().map_or(Ok(()), |task| spell(task, &files, folder))
}
