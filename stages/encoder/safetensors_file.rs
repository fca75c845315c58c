//! Tensors from and to safetensors files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use bam_contract::artifact::FINGERPRINT;
use bam_contract::digest::Fingerprint;
use bam_contract::fault::Fault;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::weights::Parameter;

/// All floating-point tensors of a file, as fp32 on the CPU, by name.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    tensors(&map(path)?).with_context(|| format!("`{}` is not a safetensors file", path.display()))
}

fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).with_context(|| format!("opening `{}`", path.display()))?;
    // SAFETY: the file is a committed artifact, a kept state, or an encoder that the user doesn't write to meanwhile.
    unsafe { Mmap::map(&file) }.with_context(|| format!("mapping `{}`", path.display()))
}

fn tensors(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let tensors = SafeTensors::deserialize(bytes)?;
    let mut read = BTreeMap::new();
    for (name, view) in tensors.tensors() {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F64 => Kind::Double,
            _ => continue,
        };
        let shape: Vec<_> = view.shape().iter().map(|size| *size as i64).collect();
        read.insert(name, Tensor::f_from_data_size(view.data(), &shape, kind)?.to_kind(Kind::Float));
    }
    Ok(read)
}

/// Takes a tensor of that shape out of what was read.
pub(super) fn take(tensors: &mut BTreeMap<String, Tensor>, name: &str, shape: &[i64], path: &Path) -> Result<Tensor> {
    let tensor = tensors.remove(name).ok_or_else(|| {
        let hint = "config.json and model.safetensors must come from the same BERT";
        Fault::new(format!("`{}` has no tensor `{name}`", path.display()), hint)
    })?;
    if tensor.size() != shape {
        let message =
            format!("`{}`: tensor `{name}` has shape {:?}, {shape:?} expected", path.display(), tensor.size());
        return Err(Fault::new(message, "config.json and model.safetensors must come from the same BERT").into());
    }
    Ok(tensor)
}

/// Writes fp32 parameters, with the fingerprint in the file's metadata.
pub(super) fn write(path: &Path, parameters: &[Parameter], fingerprint: Fingerprint) -> Result<()> {
    let metadata = json!({ "format": "pt", FINGERPRINT: fingerprint });
    write_with(path, &metadata, parameters.iter().map(|parameter| (parameter.name.as_str(), &parameter.tensor)))
}

/// Writes fp32 tensors with a text in the file's metadata.
pub(crate) fn write_tensors<'a>(
    path: &Path,
    text: &str,
    tensors: impl Iterator<Item = (&'a str, &'a Tensor)> + Clone,
) -> Result<()> {
    write_with(path, &json!({ TEXT: text }), tensors)
}

/// The text and the tensors of such a file.
pub(crate) fn read_tensors(path: &Path) -> Result<(String, BTreeMap<String, Tensor>)> {
    let bytes = map(path)?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).context("it is damaged")?;
    let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get(TEXT)).context("it is damaged")?.clone();
    Ok((text, tensors(&bytes).context("it is damaged")?))
}

/// Name of the text in the metadata.
const TEXT: &str = "text";

/// The crate `safetensors` keeps metadata in a hash map and so writes its entries in another order each
/// time; equal weights must give equal bytes, so the header (eight bytes of length, then JSON) is written here.
fn write_with<'a>(
    path: &Path,
    metadata: &Value,
    tensors: impl Iterator<Item = (&'a str, &'a Tensor)> + Clone,
) -> Result<()> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), metadata.clone());
    let mut end = 0;
    for (name, tensor) in tensors.clone() {
        let start = end;
        end += tensor.numel() * size_of::<f32>();
        let entry = json!({ "dtype": "F32", "shape": tensor.size(), "data_offsets": [start, end] });
        header.insert(name.to_owned(), entry);
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');

    let file = File::create(path).with_context(|| format!("creating `{}`", path.display()))?;
    let mut writer = BufWriter::new(file);
    writer.write_all(&(header.len() as u64).to_le_bytes())?;
    writer.write_all(&header)?;
    let mut bytes = Vec::new();
    for (_, tensor) in tensors {
        let count = tensor.numel();
        bytes.resize(count * size_of::<f32>(), 0);
        let on_cpu = tensor.detach().to_device(tch::Device::Cpu).contiguous();
        on_cpu.copy_data_u8(&mut bytes, count);
        writer.write_all(&bytes)?;
    }
    Ok(writer.flush()?)
}
