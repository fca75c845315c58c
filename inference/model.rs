//! An exported model's folder: what it says of itself, its tokenizer, and sessions that run its graph.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bam_contract::artifact::FINGERPRINT;
use bam_contract::artifact::checkpoint::ModelInfo;
use bam_contract::artifact::onnx::{GRAPH, Probe, Probes};
use bam_contract::artifact::tokens::TokenRows;
use bam_contract::fault::Fault;
use bam_contract::stage::GraphPrecision;
use bam_contract::task::TaskSpec;

use crate::padding::Padded;
use crate::row::row;
use crate::session::OnnxSession;
use crate::word_pieces::WordPieces;

/// Everything of a model but the sessions.
#[derive(Debug)]
pub struct OnnxModel {
    folder: PathBuf,
    pub info: ModelInfo,
    pub word_pieces: WordPieces,
}

/// What a row is made of.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    pub text: &'a str,
    pub pair: Option<&'a str>,
}

impl OnnxModel {
    pub fn open(folder: &Path) -> Result<Self> {
        let (info, word_pieces) = (ModelInfo::read(folder)?, WordPieces::open(folder)?);
        Ok(Self { folder: folder.to_owned(), info, word_pieces })
    }

    /// A session whose operators use that many threads.
    ///
    /// # Errors
    /// When the graph says that it is another model's than `bam.json`, as where one folder is being copied over another.
    pub fn session(&self, threads: usize) -> Result<OnnxSession> {
        let session = OnnxSession::open(&self.folder, threads)?;
        let of_graph = session.metadata(FINGERPRINT)?;
        let own = self.info.fingerprint.to_string();
        ensure!(
            of_graph.as_ref().is_none_or(|of_graph| *of_graph == own),
            Fault::new(
                format!(
                    "the files in `{}` are of two models: `bam.json` says {own}, `{GRAPH}` {}",
                    self.folder.display(),
                    of_graph.unwrap_or_default()
                ),
                format!(
                    "copy the folder whole; who writes a graph of their own sets `{FINGERPRINT}` in its metadata too"
                )
            )
        );
        Ok(session)
    }

    /// What a session's weights take in memory: about as much as the graph's file, and twice that where it holds halves, which are
    /// widened.
    pub fn weight_bytes(&self) -> Result<u64> {
        let path = self.folder.join(GRAPH);
        let bytes = fs::metadata(&path).with_context(|| format!("reading `{}`", path.display()))?.len();
        Ok(if self.info.precision == Some(GraphPrecision::Fp16) { 2 * bytes } else { bytes })
    }

    /// Texts as rows, in their order.
    pub fn encode(&self, texts: &[Texts<'_>]) -> Result<TokenRows> {
        encode(&self.word_pieces, texts, self.info.max_tokens)
    }

    /// Outputs of the given tasks for the given rows, by task, in one pass of the encoder.
    pub fn run(
        &self,
        session: &mut OnnxSession,
        rows: &[(&TokenRows, usize)],
        tasks: &[&str],
    ) -> Result<Vec<Vec<f32>>> {
        session.run_all(&Padded::new(rows, self.word_pieces.pad_id), tasks)
    }

    /// Asks what the checkpoint was asked when it was exported; returns how many rows that were.
    ///
    /// # Errors
    /// When the answers differ. A model without such rows must give finite numbers of the right shape.
    pub fn test(&self, session: &mut OnnxSession) -> Result<usize> {
        let Some(probes) = Probes::read(&self.folder)? else {
            let rows = self.encode(&[Texts { text: "Is anybody there?", pair: None }])?;
            for task in &self.info.tasks {
                let outputs = self.run(session, &[(&rows, 0)], &[&task.name])?.remove(0);
                self.expect(
                    outputs.len() == task.outputs() && outputs.iter().all(|output| output.is_finite()),
                    task,
                    0,
                )?;
            }
            return Ok(0);
        };
        let mut cut = Vec::new();
        for (number, probe) in probes.rows.iter().enumerate() {
            let rows = self.rows_of(probe)?;
            ensure!(
                rows.input_ids(0) == probe.input_ids,
                Fault::new(
                    format!(
                        "the tokenizer in `{}` cuts probe {number} into other pieces than at the export",
                        self.folder.display()
                    ),
                    "export the model again"
                )
            );
            for task in &self.info.tasks {
                let difference = self.difference(session, probe, &rows, task)?;
                self.expect(difference <= probes.tolerance, task, number)?;
            }
            cut.push(rows);
        }
        // Side by side they are padded; int8 answers a little otherwise then.
        if cut.len() > 1 && self.info.precision != Some(GraphPrecision::Int8) {
            self.test_side_by_side(session, &probes, &cut)?;
        }
        Ok(probes.rows.len())
    }

    fn test_side_by_side(&self, session: &mut OnnxSession, probes: &Probes, cut: &[TokenRows]) -> Result<()> {
        let rows: Vec<_> = cut.iter().map(|rows| (rows, 0)).collect();
        for task in &self.info.tasks {
            let outputs = self.run(session, &rows, &[&task.name])?.remove(0);
            for (number, (probe, outputs)) in probes.rows.iter().zip(outputs.chunks(task.outputs())).enumerate() {
                self.expect(greatest_gap(outputs, probe, task) <= probes.tolerance, task, number)?;
            }
        }
        Ok(())
    }

    /// How far a session's answers to probes are from the checkpoint's at most: not a finite number where one of either is
    /// none, or where they are of different shapes.
    pub fn greatest_difference(&self, session: &mut OnnxSession, probes: &[Probe]) -> Result<f32> {
        let mut greatest = 0.0;
        for probe in probes {
            let rows = self.rows_of(probe)?;
            for task in &self.info.tasks {
                greatest = greater(greatest, self.difference(session, probe, &rows, task)?);
            }
        }
        Ok(greatest)
    }

    fn rows_of(&self, probe: &Probe) -> Result<TokenRows> {
        self.encode(&[Texts { text: &probe.text, pair: probe.pair.as_deref() }])
    }

    fn difference(&self, session: &mut OnnxSession, probe: &Probe, rows: &TokenRows, task: &TaskSpec) -> Result<f32> {
        let outputs = self.run(session, &[(rows, 0)], &[&task.name])?.remove(0);
        Ok(greatest_gap(&outputs, probe, task))
    }

    fn expect(&self, sound: bool, task: &TaskSpec, probe: usize) -> Result<()> {
        let message = format!(
            "the model in `{}` answers probe {probe} of `{}` otherwise than at its export",
            self.folder.display(),
            task.name
        );
        ensure!(sound, Fault::new(message, "export it again, or use the ONNX Runtime that `make setup` brings"));
        Ok(())
    }
}

/// How far outputs are from those of a probe.
fn greatest_gap(outputs: &[f32], probe: &Probe, task: &TaskSpec) -> f32 {
    let expected = probe.logits.get(&task.name).map_or(&[][..], Vec::as_slice);
    if outputs.len() != expected.len() {
        return f32::INFINITY;
    }
    outputs.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, greater)
}

/// The greater of two numbers. NaN, which `f32::max` would drop, is greater than all.
fn greater(one: f32, other: f32) -> f32 {
    if other.is_nan() || other > one { other } else { one }
}

/// Texts as rows of at most `max_tokens` tokens; ids count from 0.
pub fn encode(word_pieces: &WordPieces, texts: &[Texts<'_>], max_tokens: usize) -> Result<TokenRows> {
    let first = word_pieces.encode(texts.iter().map(|texts| texts.text))?;
    let mut second = word_pieces.encode(texts.iter().filter_map(|texts| texts.pair))?.into_iter();
    let mut rows = TokenRows::default();
    for (id, (texts, text)) in (0..).zip(texts.iter().zip(&first)) {
        let pair = texts.pair.and_then(|_| second.next());
        let row = row(text, pair.as_deref(), max_tokens, word_pieces);
        rows.push(id, false, None, &row.input_ids, &row.token_type_ids, row.lost);
    }
    Ok(rows)
}
