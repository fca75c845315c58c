//! Locks between hosts that share a store, where the kernel's end at one host: network file systems may keep them so.
//!
//! Who makes an artifact keeps a file beside its lock that names his host, and touches it now and then. On one host the kernel's
//! lock says who is gone; of another host's file its age does, by the file server's clock alone.

use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use super::lock::own_name;
use crate::machine;

/// How often the files of a process are touched.
const TOUCH_EVERY: Duration = Duration::from_secs(20);

/// A file that was not touched for so long is that of a host that is gone. It is longer than what a network file system may keep
/// to itself.
const STALE: Duration = Duration::from_mins(3);

/// Held until it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    path: PathBuf,
}

/// What came of asking for one.
#[derive(Debug)]
pub(super) enum Leased {
    Held(Lease),
    /// By whom, on another host.
    Busy(String),
}

/// Files that this process touches.
static HELD: OnceLock<Mutex<Vec<PathBuf>>> = OnceLock::new();

impl Lease {
    /// Takes the lease of a lock that is held by the kernel's means.
    pub(super) fn take(lock: &Path) -> io::Result<Leased> {
        let path = path_of(lock);
        // For all who may read the store; the user's umask applies.
        let permissions = fs::Permissions::from_mode(0o666);
        let mut own = tempfile::Builder::new();
        let own =
            own.prefix(".lease-").permissions(permissions).tempfile_in(lock.parent().unwrap_or(Path::new(".")))?;
        own.as_file().write_all(format!("{}\n", own_name()).as_bytes())?;
        own.as_file().sync_all()?;
        loop {
            // Two hosts can't both link one name. That an answer was lost shows in the number of links.
            let linked = fs::hard_link(own.path(), &path);
            if linked.is_ok() || own.as_file().metadata()?.nlink() == 2 {
                held().push(path.clone());
                return Ok(Leased::Held(Self { path }));
            }
            match linked.map_err(|error| error.kind()) {
                Err(io::ErrorKind::AlreadyExists) => {}
                // A file system without links is none that hosts share.
                Err(_) => return Ok(Leased::Held(Self { path })),
                Ok(()) => unreachable!("it was linked"),
            }
            let judged = match fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                judged => judged?,
            };
            if let Some(holder) = foreign_holder(&path, &own.as_file().metadata()?) {
                return Ok(Leased::Busy(holder));
            }
            // Of this host, where its process is gone, or of one that is. Who takes it away alone goes on.
            take_away(&path, &judged, &own.path().with_extension("stale"))?;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = held();
        if let Some(at) = held.iter().position(|path| *path == self.path) {
            held.swap_remove(at);
            // Unless it was taken to be stale, as after a long sleep, and is another's now.
            if fs::read_to_string(&self.path).is_ok_and(|text| text.trim() == own_name()) {
                _ = fs::remove_file(&self.path);
            }
        }
    }
}

/// Who makes the artifact of a lock on another host, as far as can be told.
pub(super) fn elsewhere(lock: &Path) -> Option<String> {
    let path = path_of(lock);
    if !path.exists() {
        return None;
    }
    let now = tempfile::tempfile_in(lock.parent()?).and_then(|file| file.metadata()).ok()?;
    foreign_holder(&path, &now)
}

/// Removes a file that was judged to be stale, and not one that took its place since: another host may have judged so too, and
/// been faster.
fn take_away(path: &Path, judged: &Metadata, away: &Path) -> io::Result<()> {
    match fs::rename(path, away) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    if fs::metadata(away)?.ino() != judged.ino() {
        // Whoever has come in between waits for its holder, or has it.
        _ = fs::hard_link(away, path);
    }
    fs::remove_file(away)
}

/// Whose lease it is, if it is another host's that still touches it; `now` is of a file that was just made there.
fn foreign_holder(path: &Path, now: &Metadata) -> Option<String> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => "another user's process".to_owned(),
        text => text.ok()?,
    };
    let holder = text.trim();
    let age = now.modified().ok()?.duration_since(fs::metadata(path).ok()?.modified().ok()?).unwrap_or_default();
    let is_own_host = holder.rsplit_once(" on ").is_some_and(|(_, host)| host == machine::host());
    (!is_own_host && age < STALE).then(|| holder.to_owned())
}

fn path_of(lock: &Path) -> PathBuf {
    lock.with_extension("host")
}

/// The files that are touched; begins to when first asked.
fn held() -> MutexGuard<'static, Vec<PathBuf>> {
    let held = HELD.get_or_init(|| {
        thread::spawn(|| {
            loop {
                thread::sleep(TOUCH_EVERY);
                let paths = HELD.get().expect("it was just set").lock().unwrap_or_else(PoisonError::into_inner).clone();
                for path in paths {
                    touch(&path);
                }
            }
        });
        Mutex::default()
    });
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a file the time of the server that keeps it, and not of this machine's clock.
fn touch(path: &Path) {
    let Ok(file) = File::options().write(true).open(path) else { return };
    // SAFETY: a plain system call on an open file; no times mean now.
    unsafe { libc::futimens(file.as_raw_fd(), std::ptr::null()) };
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn taken(lock: &Path) -> Result<Lease, String> {
        match Lease::take(lock).unwrap() {
            Leased::Held(lease) => Ok(lease),
            Leased::Busy(holder) => Err(holder),
        }
    }

    #[test]
    fn another_host_is_waited_for_as_long_as_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        let path = path_of(&lock);
        fs::write(&path, "process 7 on elsewhere\n").unwrap();
        assert_eq!(taken(&lock).unwrap_err(), "process 7 on elsewhere");
        assert_eq!(elsewhere(&lock).as_deref(), Some("process 7 on elsewhere"));
        let old = SystemTime::now() - STALE - Duration::from_secs(1);
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        assert_eq!(elsewhere(&lock), None);
        let lease = taken(&lock).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().trim(), own_name());
        touch(&path);
        drop(lease);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_process_of_this_host_left_is_taken_over_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        fs::write(path_of(&lock), format!("process 7 on {}\n", machine::host())).unwrap();
        assert!(taken(&lock).is_ok());
    }

    #[test]
    fn one_that_came_in_between_is_not_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let [path, away, stale] = ["lock.host", "away", "stale"].map(|name| folder.path().join(name));
        fs::write(&stale, "process 7 on a\n").unwrap();
        let judged = fs::metadata(&stale).unwrap();
        fs::write(&path, "process 8 on b\n").unwrap();
        take_away(&path, &judged, &away).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "process 8 on b\n");
        fs::rename(&stale, &path).unwrap();
        take_away(&path, &judged, &away).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn others_may_read_whose_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        let _lease = taken(&lock).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        fs::write(folder.path().join("as others"), "").unwrap();
        assert_eq!(mode(&path_of(&lock)), mode(&folder.path().join("as others")));
    }

    #[test]
    fn one_that_was_taken_over_is_not_removed_by_who_had_it() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        let lease = taken(&lock).unwrap();
        fs::write(path_of(&lock), "process 7 on elsewhere\n").unwrap();
        drop(lease);
        assert!(path_of(&lock).exists());
    }
}
