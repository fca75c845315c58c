//! Workers as child processes of this one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bam_contract::event::Event;
use bam_contract::fault::Fault;

use super::groups::Groups;
use super::{End, Executor, Launch, Message, Reins, Worker};

/// Runs `bam-stage JOB` on this machine.
#[derive(Debug)]
pub(crate) struct Local {
    program: PathBuf,
    groups: Groups,
}

impl Local {
    /// Finds the worker program: `BAM_STAGE`, or beside this program, or in `../lib/bam` as installed.
    pub(crate) fn find() -> Result<Self> {
        const NAME: &str = "bam-stage";
        if let Some(program) = std::env::var_os("BAM_STAGE").filter(|program: &OsString| !program.is_empty()) {
            let program = PathBuf::from(program);
            if program.is_file() {
                return Ok(Self { program, groups: Groups::default() });
            }
            let message = format!("`BAM_STAGE` names `{}`, which does not exist", program.display());
            return Err(Fault::new(message, "unset it, or name the worker program").into());
        }
        let own = std::env::current_exe().context("finding the folder of `bam`")?;
        let folder = own.parent().unwrap_or(Path::new("/"));
        let places = [folder.join(NAME), folder.join("../lib/bam").join(NAME)];
        match places.into_iter().find(|place| place.is_file()) {
            Some(program) => Ok(Self { program, groups: Groups::default() }),
            None => Err(Fault::new(
                format!("the worker program `{NAME}` lies neither in `{}` nor in `../lib/bam`", folder.display()),
                "`make build` makes both programs; `BAM_STAGE=FILE` names another",
            )
            .into()),
        }
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }
}

impl Executor for Local {
    fn start(&self, launch: &Launch<'_>, messages: SyncSender<Message>) -> Result<Box<dyn Worker>> {
        let Launch { stage, program, job, log, threads, gpus, .. } = *launch;
        let mut log_file = File::options().create(true).append(true).open(log).context("opening the stage's log")?;
        keep_room(&log_file);
        let engine = std::process::id();
        let mut command = match program {
            Some([program, arguments @ ..]) => {
                let mut command = Command::new(program);
                // What the libraries that such a program uses go by; `bam-stage` goes by its job.
                command.args(arguments).env("OMP_NUM_THREADS", threads.to_string());
                command
            }
            _ => Command::new(&self.program),
        };
        let name = command.get_program().to_string_lossy().into_owned();
        let who = program.map_or_else(|| "the worker".to_owned(), |_| format!("`{name}`"));
        command.arg(job).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file.try_clone()?);
        if std::env::var_os(WAIT_POLICY).is_none() {
            command.env(WAIT_POLICY, "passive").env(SPIN_COUNT, "20000");
        }
        if let Some(gpus) = gpus {
            command.env("CUDA_VISIBLE_DEVICES", gpus.join(","));
        }
        // SAFETY: between fork and exec only two system calls are made, both of which are allowed there.
        unsafe { command.pre_exec(move || die_with(engine)) };
        let starting = || Fault::new(format!("starting `{name}`"), "is it a program?");
        let mut child = self.groups.spawn(&mut command).with_context(starting)?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let process = child.id().cast_signed();
        let (groups, events) = (self.groups.clone(), messages.clone());
        let (all_read, until_all_read) = mpsc::channel();
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = Vec::new();
            while (&mut stdout).take(LONGEST_LINE_BYTES).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                match serde_json::from_slice::<Event>(&line) {
                    // The receiver is gone only when the engine is ending.
                    Ok(event) => drop(events.send(Message::Event { stage, event: event.in_plain_words() })),
                    // Libraries print as they please; the log is the place for it.
                    // A line in one piece, for the worker's stderr goes there too.
                    Err(_) => drop(log_file.write_all(&line)),
                }
                line.clear();
            }
            _ = all_read.send(());
        });
        thread::spawn(move || {
            until_ended(process);
            let at = Instant::now();
            // What it has started and left behind would write on, and keep its stdout open.
            groups.remove(process);
            // What has left the group as well keeps it open still; the stage doesn't wait for that.
            _ = until_all_read.recv_timeout(LAST_WORDS);
            let end = take_end(process, at, &who);
            drop(messages.send(Message::Ended { stage, end }));
        });
        Ok(Box::new(LocalWorker { leader: process, groups: self.groups.clone() }))
    }

    fn reins(&self) -> Box<dyn Reins> {
        Box::new(self.groups.clone())
    }
}

/// What is longer is no event, and goes into the log in pieces.
const LONGEST_LINE_BYTES: u64 = 1 << 20;

/// How long what a worker has said is read on after its end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How the threads of a parallel loop wait for each other. By OpenMP's default they spin, which cost a training step
/// on two cores four fifths of its speed while something else wanted them (3.4 rows/s against 18.4). Sleeping at once
/// costs a fifth when nothing does (79 rows/s against 95); so they spin for less than a millisecond, and then sleep.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";
const SPIN_COUNT: &str = "GOMP_SPINCOUNT";

struct LocalWorker {
    leader: libc::pid_t,
    groups: Groups,
}

impl Worker for LocalWorker {
    fn kill(&self) {
        self.groups.kill_one(self.leader);
    }
}

/// Room on the disk that a log has before anything is said: should the disk be filled, its last words still have a place.
const ROOM_BYTES: libc::off_t = 64 << 10;

/// Keeps that room, where the file system can.
fn keep_room(log: &File) {
    // SAFETY: a plain system call on an open file.
    unsafe { libc::fallocate(log.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, ROOM_BYTES) };
}

/// Asks the kernel to end this process when the engine ends, however that happens.
fn die_with(engine: u32) -> io::Result<()> {
    // SAFETY: plain system calls without pointers.
    let (set, parent) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    // The engine may have ended before the request.
    if parent.cast_unsigned() == engine { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
}

/// Waits until a child has ended, and leaves its end for [`take_end`] to take, so that its number stays its own.
fn until_ended(process: libc::pid_t) {
    // SAFETY: `siginfo_t` is plain data, for which zeros are valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer leads to a live local.
    again_if_interrupted(|| unsafe {
        libc::waitid(libc::P_PID, process.cast_unsigned(), &raw mut info, libc::WEXITED | libc::WNOWAIT)
    });
}

/// Takes the end of a child; `wait4` tells its peak memory too, which the standard library does not.
fn take_end(process: libc::pid_t, at: Instant, who: &str) -> End {
    // SAFETY: `rusage` is plain data, for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    // SAFETY: both pointers lead to live locals of the right types.
    let waited = again_if_interrupted(|| unsafe { libc::wait4(process, &raw mut status, 0, &raw mut usage) });
    let trouble = if waited == process {
        trouble(who, ExitStatus::from_raw(status))
    } else {
        Some(format!("waiting for {who} failed: {}", io::Error::last_os_error()))
    };
    // Linux counts in KiB.
    let peak_memory_bytes = u64::try_from(usage.ru_maxrss).unwrap_or_default() * 1024;
    End { trouble, hint: None, peak_memory_bytes, at, elsewhere: None }
}

fn again_if_interrupted(mut call: impl FnMut() -> i32) -> i32 {
    loop {
        let result = call();
        if result >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return result;
        }
    }
}

fn trouble(who: &str, status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("{who} ended with exit code {code}")),
        (None, Some(libc::SIGKILL)) => Some(format!("{who} was killed (signal 9): was memory short?")),
        (None, signal) => Some(format!("{who} was ended by {}", signal_name(signal.unwrap_or_default()))),
    }
}

/// `SIGSEGV (signal 11)`.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGHUP => "SIGHUP",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return format!("signal {signal}"),
    };
    format!("{name} (signal {signal})")
}
