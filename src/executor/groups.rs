//! The process groups of workers under way: signalled together, and ended with the engine.
//!
//! A worker leads a group of its own, which all that it starts belongs to. Should the engine end, however it does, the
//! kernel closes its end of a pipe; a guardian process, which waits at the other end, then kills every group it was told of.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

use super::Reins;

/// The first argument of a `bam` that is to be a guardian.
pub(crate) const GUARDIAN: &str = "guard-stages";

/// Workers' process groups. Clones stand for the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Numbers of the processes that lead them, and whether they were asked to end: some take a second request for more.
    leaders: BTreeMap<i32, bool>,
    /// The pipe that a guardian waits at, once there is one.
    guardian: Option<ChildStdin>,
}

impl Groups {
    /// Starts a process that leads a group, which is known here and to the guardian.
    pub(super) fn spawn(&self, command: &mut Command) -> Result<Child> {
        let mut inner = self.inner();
        if inner.guardian.is_none() {
            // A parent may have had children's ends ignored; then nobody could wait for a worker's.
            // SAFETY: a plain system call; nothing runs on the signal.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
            inner.guardian = Some(start_guardian().context("starting the guardian of workers")?);
        }
        // Ctrl-C in a terminal reaches a whole process group; the engine alone is to act on it. In a session of its own a
        // worker has no terminal either: a program that asks there for a password fails, where it would wait for good.
        // SAFETY: a plain system call, which is allowed between fork and exec.
        unsafe {
            command.pre_exec(|| if libc::setsid() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) });
        }
        let child = command.spawn()?;
        let leader = child.id().cast_signed();
        inner.leaders.insert(leader, false);
        inner.tell(leader);
        Ok(child)
    }

    /// Ends what is left of a group whose leader has ended, and was not waited for yet, so that its number is still its own.
    pub(super) fn remove(&self, leader: i32) {
        let mut inner = self.inner();
        signal(leader, libc::SIGKILL);
        inner.leaders.remove(&leader);
        inner.tell(-leader);
    }

    /// Ends one at once.
    pub(super) fn kill_one(&self, leader: i32) {
        if self.inner().leaders.contains_key(&leader) {
            signal(leader, libc::SIGKILL);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reins for Groups {
    /// Asks all that were not asked before.
    fn stop(&self) {
        for (leader, is_asked) in &mut self.inner().leaders {
            if !std::mem::replace(is_asked, true) {
                signal(*leader, libc::SIGTERM);
            }
        }
    }

    fn kill(&self) -> Option<String> {
        for leader in self.inner().leaders.keys() {
            signal(*leader, libc::SIGKILL);
        }
        None
    }
}

impl Inner {
    /// Tells the guardian of a group, and another one of all if that one is gone; to do without is no reason to end a training.
    fn tell(&mut self, number: i32) {
        let tell = |pipe: &mut ChildStdin, number: i32| pipe.write_all(&number.to_ne_bytes());
        if self.guardian.as_mut().is_some_and(|pipe| tell(pipe, number).is_ok()) {
            return;
        }
        self.guardian = start_guardian().ok();
        if let Some(pipe) = &mut self.guardian {
            for leader in self.leaders.keys() {
                _ = tell(pipe, *leader);
            }
        }
    }
}

fn signal(leader: i32, number: i32) {
    // SAFETY: a plain system call. A number that is known here is its group's own: it is removed before it can be another's.
    unsafe { libc::kill(-leader, number) };
}

/// Starts a guardian; it lives as long as the pipe, or as the groups it was told of.
fn start_guardian() -> io::Result<ChildStdin> {
    // By another name than `bam`, so that `pkill bam` spares it.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("stages").arg(GUARDIAN).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let guardian = command.process_group(0).spawn()?;
    Ok(guardian.stdin.expect("stdin is piped"))
}

/// What a guardian does: takes in numbers of groups, negative ones of those that ended, until the engine is gone; then kills
/// those that are left.
pub(crate) fn guard() {
    for ignored in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: a plain system call; nothing runs on the signal.
        unsafe { libc::signal(ignored, libc::SIG_IGN) };
    }
    let mut leaders = BTreeSet::new();
    let mut told = io::stdin().lock();
    let mut number = [0; size_of::<i32>()];
    while told.read_exact(&mut number).is_ok() {
        match i32::from_ne_bytes(number) {
            ended @ ..0 => drop(leaders.remove(&-ended)),
            leader => drop(leaders.insert(leader)),
        }
    }
    for leader in leaders {
        signal(leader, libc::SIGKILL);
    }
}
