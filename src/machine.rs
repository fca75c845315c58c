//! What this machine has for stages to use.

use std::ffi::CString;
use std::fs;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::thread;

/// Cores that this process may use; quotas of a container count.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Bytes of memory that could be taken now, by the kernel's estimate and the container's limit; all there could ever be
/// where neither is known.
pub(crate) fn memory_bytes() -> u64 {
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
    });
    let number =
        |file: &str| fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok()?.trim().parse::<u64>().ok();
    let left = number("memory.max")
        .map(|most| (most + idle_cache_bytes()).saturating_sub(number("memory.current").unwrap_or(0)));
    [available, left].into_iter().flatten().min().unwrap_or(u64::MAX)
}

/// Bytes of files in the container's memory that the kernel drops as soon as anything else wants the room.
fn idle_cache_bytes() -> u64 {
    let text = fs::read_to_string("/sys/fs/cgroup/memory.stat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("inactive_file "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// Bytes that can still be written to the disk of a folder.
pub(crate) fn free_disk_bytes(folder: &Path) -> Option<u64> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: `statvfs` is plain data, for which zeros are valid.
    let mut disk: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a path that ends with zero, and a live local of the right type.
    let asked = unsafe { libc::statvfs(path.as_ptr(), &raw mut disk) };
    (asked == 0).then(|| disk.f_bavail * disk.f_frsize)
}

/// Names of the graphics processors that stages may be given, as `CUDA_VISIBLE_DEVICES` takes them.
pub(crate) fn gpus() -> Vec<String> {
    if let Ok(visible) = std::env::var("CUDA_VISIBLE_DEVICES") {
        return visible.split(',').map(str::trim).filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect();
    }
    let found = fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, Iterator::count);
    (0..found).map(|index| index.to_string()).collect()
}

pub(crate) fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
