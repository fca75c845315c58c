//! Where answers go in the end: links lead there, and are not it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

use bam_inference::rows::STDIN;

/// The descriptors of this process, as files.
const DESCRIPTORS: &str = "/proc/self/fd";
/// A system follows no more.
const MOST_LINKS: usize = 40;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    Stdout,
    /// One that is open already, by whatever name it goes: `/dev/stdout`, `/dev/fd/3`. It is written on where it stands, and may be
    /// a file that is somebody else's.
    Descriptor(RawFd),
    /// A pipe or a device, which is written to as it is.
    Device(PathBuf),
    File(PathBuf),
}

impl Target {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        if path == Path::new(STDIN) {
            return Ok(Self::Stdout);
        }
        let descriptors = fs::canonicalize(DESCRIPTORS).ok();
        let mut at = path.to_owned();
        for _ in 0..=MOST_LINKS {
            let folder = folder(&at);
            let number = at.file_name().and_then(|name| name.to_str()?.parse().ok());
            if let Some(number) = number.filter(|_| descriptors.is_some() && folder.canonicalize().ok() == descriptors)
            {
                return Ok(Self::Descriptor(number));
            }
            match fs::read_link(&at) {
                Ok(to) => at = folder.join(to),
                Err(_) if path.exists() && !path.is_file() => return Ok(Self::Device(path.to_owned())),
                Err(_) => return Ok(Self::File(at)),
            }
        }
        Err(io::Error::from_raw_os_error(libc::ELOOP))
    }
}

/// The folder in which a file lies.
pub(super) fn folder(of: &Path) -> &Path {
    of.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A descriptor's file, with the place in it that it has for whoever else writes there.
pub(super) fn descriptor(number: RawFd) -> io::Result<File> {
    // One that isn't open must not be borrowed.
    fs::symlink_metadata(Path::new(DESCRIPTORS).join(number.to_string()))?;
    // SAFETY: it is open, and stays so: only the start of the program could have left it, and nothing here closes what that left.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(borrowed.try_clone_to_owned()?.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_to_files_and_descriptors() {
        let sandbox = tempfile::tempdir().unwrap();
        let path = |name: &str| sandbox.path().join(name);
        let of = |name: &str| Target::of(&path(name)).unwrap();
        fs::write(path("file"), "").unwrap();
        for (link, to) in
            [("near", "file"), ("far", "near"), ("dangling", "new"), ("stdout", "/dev/stdout"), ("loop", "loop")]
        {
            symlink(to, path(link)).unwrap();
        }
        for (name, file) in [("file", "file"), ("near", "file"), ("far", "file"), ("dangling", "new"), ("new", "new")] {
            assert_eq!(of(name), Target::File(path(file)), "{name}");
        }
        assert_eq!(of("stdout"), Target::Descriptor(1));
        assert!(Target::of(&path("loop")).is_err());
        for (name, number) in [("/dev/stdout", 1), ("/dev/stderr", 2), ("/dev/fd/7", 7), ("/proc/self/fd/12", 12)] {
            assert_eq!(Target::of(Path::new(name)).unwrap(), Target::Descriptor(number), "{name}");
        }
        assert_eq!(Target::of(Path::new("/dev/null")).unwrap(), Target::Device("/dev/null".into()));
        assert_eq!(Target::of(Path::new("-")).unwrap(), Target::Stdout);
        assert!(descriptor(9999).is_err());
    }
}
