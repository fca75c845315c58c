//! ONNX Runtime: found when it is first needed, then one session per model.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use bam_contract::artifact::onnx::{GRAPH, INPUTS};
use bam_contract::fault::Fault;
use ort::environment::Environment;
use ort::session::Session;
use ort::value::TensorRef;

use crate::padding::Padded;

const LIBRARY: &str = "libonnxruntime.so";
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// A model that ONNX Runtime has loaded, on the CPU.
#[derive(Debug)]
pub struct OnnxSession {
    session: Session,
}

impl OnnxSession {
    /// Opens the model of an artifact's folder. Its operators use that many threads.
    ///
    /// # Errors
    /// When ONNX Runtime isn't found, or can't load the graph.
    pub fn open(folder: &Path, threads: usize) -> Result<Self> {
        let path = folder.join(GRAPH);
        let environment = environment()?;
        let session = load(&environment, &path, threads)
            .with_context(|| format!("ONNX Runtime can't load `{}`", path.display()))?;
        Ok(Self { session })
    }

    /// What the graph's own metadata holds under this name.
    pub fn metadata(&self, name: &str) -> Result<Option<String>> {
        Ok(self.session.metadata()?.custom(name))
    }

    /// A task's outputs for padded rows, row by row.
    pub fn run(&mut self, rows: &Padded, task: &str) -> Result<Vec<f32>> {
        Ok(self.run_all(rows, &[task])?.remove(0))
    }

    /// The same of several tasks, in their order, by one pass of the encoder.
    pub fn run_all(&mut self, rows: &Padded, tasks: &[&str]) -> Result<Vec<Vec<f32>>> {
        let mut inputs = Vec::with_capacity(INPUTS.len());
        for (name, values) in INPUTS.into_iter().zip([&rows.input_ids, &rows.attention_mask, &rows.token_type_ids]) {
            inputs.push((name, TensorRef::from_array_view(([rows.rows, rows.length], values.as_slice()))?));
        }
        let outputs = self.session.run(inputs)?;
        let values = |task: &&str| {
            let output = outputs.get(*task).with_context(|| format!("the graph has no output `{task}`"))?;
            Ok(output.try_extract_tensor::<f32>()?.1.to_vec())
        };
        tasks.iter().map(values).collect()
    }
}

fn load(environment: &Environment, path: &Path, threads: usize) -> ort::Result<Session> {
    Session::builder(environment)?
        .with_intra_threads(threads.max(1))?
        .with_deterministic_compute(true)?
        // Idle threads of one session must not keep the processors from another's.
        .with_config_entry("session.force_spinning_stop", "1")?
        .commit_from_file(path)
}

/// ONNX Runtime's environment, of which a process has one.
fn environment() -> Result<Environment> {
    static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);
    let mut made = ENVIRONMENT.lock().expect("nothing panics while it holds this lock");
    if let Some(environment) = made.as_ref() {
        return Ok(environment.clone());
    }
    let path = library(env::var_os(VARIABLE).map(PathBuf::from))?;
    let builder = ort::init_from(&path).map_err(|error| {
        Fault::new(
            format!("ONNX Runtime can't be loaded: {error}"),
            format!("`make setup` fetches one that fits; one of your own is named with `{VARIABLE}`"),
        )
    })?;
    let environment = builder.with_name("bam").with_telemetry(false).build()?;
    Ok(made.insert(environment).clone())
}

/// Where ONNX Runtime lies: where the user says, else beside this program, else where it is installed, else where it was
/// when this program was built.
fn library(own: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(own) = own.filter(|path| !path.as_os_str().is_empty()) {
        ensure!(
            own.is_file(),
            Fault::new(
                format!("`{VARIABLE}` names `{}`, which does not exist", own.display()),
                format!("give the path of a `{LIBRARY}`, or unset the variable"),
            )
        );
        return Ok(own);
    }
    let beside = env::current_exe()?.with_file_name(LIBRARY);
    let installed = beside.with_file_name("../lib/bam").join(LIBRARY);
    let places = [beside, installed, PathBuf::from(env!("BAM_ORT_DYLIB"))];
    let shown: Vec<String> = places.iter().map(|place| format!("`{}`", place.display())).collect();
    places.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let message = format!("ONNX Runtime is at none of {}", shown.join(", "));
        Fault::new(message, format!("run `make setup`, or name your `{LIBRARY}` with `{VARIABLE}`")).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_named_by_the_user_must_exist() {
        let error = library(Some("/nowhere/libonnxruntime.so".into())).unwrap_err();
        assert_eq!(error.to_string(), "`ORT_DYLIB_PATH` names `/nowhere/libonnxruntime.so`, which does not exist");
    }
}
