//! Padded rows as tensors.

use tch::{Device, Kind, Tensor};

use bam_inference::padding::Padded;

/// Padded rows on a device.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) input_ids_bl: Tensor,
    pub(crate) token_type_ids_bl: Tensor,
    /// 0 at tokens and a large negative number at padding, of shape [B, 1, 1, L]; none where nothing is padded.
    pub(crate) mask_b11l: Option<Tensor>,
}

/// Added to the attention scores of padding: as good as minus infinity, and a number in bf16 too.
const MASKED: f64 = -1e30;

impl Batch {
    pub(crate) fn new(padded: &Padded, device: Device) -> Self {
        let shape = [padded.rows as i64, padded.length as i64];
        let tensor = |values: &[i64]| Tensor::from_slice(values).view(shape).to_device(device);
        let mask = padded.attention_mask.contains(&0).then(|| {
            let is_padding = tensor(&padded.attention_mask).eq(0).to_kind(Kind::Float);
            (is_padding * MASKED).view([shape[0], 1, 1, shape[1]])
        });
        Self {
            input_ids_bl: tensor(&padded.input_ids),
            token_type_ids_bl: tensor(&padded.token_type_ids),
            mask_b11l: mask,
        }
    }
}
