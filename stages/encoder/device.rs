//! Where tensors live.

use anyhow::Result;
use bam_contract::fault::Fault;
use tch::{Cuda, Device, Tensor, kind::Element};

use crate::libtorch::pinned;

/// The device a job names: `cpu`, `cuda`, `cuda:1`, or `auto` for a GPU where libtorch sees one.
pub(crate) fn by_name(name: &str) -> Result<Device> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" if !Cuda::is_available() => return Ok(Device::Cpu),
        "auto" | "cuda" => 0,
        _ => match name.strip_prefix("cuda:").and_then(|index| index.parse().ok()) {
            Some(index) => index,
            None => return Err(Fault::new(format!("no device `{name}`"), "give auto, cpu, cuda or cuda:N").into()),
        },
    };
    let devices = if Cuda::is_available() { Cuda::device_count() } else { 0 };
    if index >= devices {
        let hint = "use `--device cpu`, or a libtorch built for CUDA (LIBTORCH=DIR) on a machine with a GPU";
        return Err(Fault::new(format!("no device `{name}`: libtorch sees {devices} CUDA devices"), hint).into());
    }
    Ok(Device::Cuda(index as usize))
}

/// That there are GPUs to use, which `CUDA_VISIBLE_DEVICES` names, and libtorch sees none, where a job leaves the choice to it.
pub(crate) fn unused_gpus(name: &str, device: Device, visible: &str) -> Option<String> {
    let is_any = visible.starts_with(|c: char| c.is_ascii_digit()) || visible.starts_with("GPU-");
    (is_any && name == "auto" && device == Device::Cpu).then(|| {
        format!(
            "it computes on the CPU, though it has a GPU to use (CUDA_VISIBLE_DEVICES={visible}): this libtorch sees none; build \
             with LIBTORCH=DIR of one for CUDA"
        )
    })
}

/// What [`by_name`] calls a device.
pub(crate) fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

/// Those values on a device.
pub(crate) fn upload<T: Element>(values: &[T], device: Device) -> Tensor {
    send(Tensor::from_slice(values), device)
}

/// A tensor of the CPU's on a device. A GPU reads it from pinned memory when it comes to it, and nobody waits for that.
pub(crate) fn send(tensor: Tensor, device: Device) -> Tensor {
    match device {
        Device::Cpu => tensor,
        _ => pinned(&tensor).to_device_(device, tensor.kind(), true, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_is_not_used_is_told_of_where_nobody_chose_the_cpu() {
        assert!(unused_gpus("auto", Device::Cpu, "0").is_some_and(|text| text.contains("CUDA_VISIBLE_DEVICES=0")));
        for (name, device, visible) in [
            ("cpu", Device::Cpu, "0"),
            ("auto", Device::Cuda(0), "0"),
            ("auto", Device::Cpu, ""),
            ("auto", Device::Cpu, "NoDevFiles"),
        ] {
            assert_eq!(unused_gpus(name, device, visible), None, "{name} {visible}");
        }
    }
}
