//! The number format of the encoder's activations and matrix products.

use bam_contract::stage::Precision;
use tch::{Device, Kind};

use crate::libtorch::has_attention;

/// What a precision comes to on a device.
pub(crate) fn kind_on(precision: Precision, device: Device) -> Kind {
    match precision {
        Precision::Bf16 => Kind::BFloat16,
        Precision::Auto if has_bf16(device) => Kind::BFloat16,
        Precision::Auto | Precision::Fp32 => Kind::Float,
    }
}

/// What the pipeline file calls a format.
pub(crate) fn name(kind: Kind) -> &'static str {
    if kind == Kind::BFloat16 { "bf16" } else { "fp32" }
}

fn has_bf16(device: Device) -> bool {
    // GPUs got both at once, with Ampere.
    if device.is_cuda() { has_attention(device) } else { processor_has_bf16() }
}

/// Without instructions of its own for bf16 a processor takes 25 times as long as for fp32.
#[cfg(target_arch = "x86_64")]
fn processor_has_bf16() -> bool {
    std::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn processor_has_bf16() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_used_whatever_the_device_has() {
        assert_eq!(name(kind_on(Precision::Fp32, Device::Cuda(0))), "fp32");
        assert_eq!(name(kind_on(Precision::Bf16, Device::Cpu)), "bf16");
        assert_eq!(name(kind_on(Precision::Bf16, Device::Cuda(0))), "bf16");
    }
}
