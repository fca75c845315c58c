//! SIGHUP apart from Ctrl-C: that a terminal is gone is no wish of anybody's. It may come more than once, from the shell and the kernel.

use std::io::{self, Read as _};
use std::os::fd::IntoRawFd as _;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use anyhow::{Context, Result};

/// The end of a pipe that the handler writes to.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// Has a thread act on each.
pub(super) fn act_on(mut act: impl FnMut() + Send + 'static) -> Result<()> {
    let (mut told, tell) = io::pipe().context("watching for SIGHUP")?;
    PIPE.store(tell.into_raw_fd(), Ordering::Relaxed);
    thread::spawn(move || {
        while told.read_exact(&mut [0]).is_ok() {
            act();
        }
    });
    let handler: extern "C" fn(i32) = note;
    // SAFETY: the handler does only what one may.
    unsafe { libc::signal(libc::SIGHUP, handler as libc::sighandler_t) };
    Ok(())
}

extern "C" fn note(_: i32) {
    // SAFETY: a system call that handlers may make, on a pipe that stays open; what it interrupts keeps its own error number.
    unsafe {
        let error = *libc::__errno_location();
        libc::write(PIPE.load(Ordering::Relaxed), [0_u8].as_ptr().cast(), 1);
        *libc::__errno_location() = error;
    }
}
