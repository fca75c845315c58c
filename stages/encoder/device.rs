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
