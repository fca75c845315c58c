//! A Slurm of one node on 127.0.0.1, with folders, keys, sockets and ports of its own, that ends with the tests.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::until;

/// The programs it is made of, and the Debian package of each.
const PROGRAMS: [(&str, &str); 4] =
    [("munged", "munge"), ("slurmctld", "slurmctld"), ("slurmd", "slurmd"), ("sbatch", "slurm-client")];

/// A controller and a node with more cores than the machine, two GPUs that are none, and one token.
#[derive(Debug)]
pub(crate) struct Slurm {
    folder: tempfile::TempDir,
    /// In the order in which they started.
    daemons: Vec<Child>,
}

/// The one that tests share; stopped when the test program ends.
static SHARED: OnceLock<Mutex<thread::Result<Option<Slurm>>>> = OnceLock::new();

impl Slurm {
    /// The settings of the Slurm that tests share; nothing where the machine has none, which is said.
    pub(crate) fn shared() -> Option<PathBuf> {
        let shared = SHARED.get_or_init(|| {
            // SAFETY: a plain call; the function takes and returns nothing.
            unsafe { libc::atexit(stop_shared) };
            // One that doesn't start does so once, and not for each test.
            Mutex::new(catch_unwind(Self::start))
        });
        let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.as_ref().expect("the shared Slurm starts").as_ref().map(Self::settings)
    }

    /// One of a test's own.
    pub(crate) fn start() -> Option<Self> {
        if let Some((program, package)) = PROGRAMS.into_iter().find(|(program, _)| !is_installed(program)) {
            // Past the test harness, which hides what passing tests print.
            _ = writeln!(io::stderr(), "skipped: no `{program}` (Debian package `{package}`), so no Slurm to try");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Daemons end with the thread that started them, should the test program be killed; so that thread stays.
        let (sender, receiver) = mpsc::channel();
        let path = folder.path().to_owned();
        thread::spawn(move || {
            sender.send(start_daemons(&path)).expect("the other end waits");
            loop {
                thread::park();
            }
        });
        let mut slurm = Self { folder, daemons: receiver.recv().expect("daemons start") };
        for _ in 0..300 {
            if said(&slurm.settings(), "sinfo", &["-h", "-o", "%T"]).contains("idle") {
                return Some(slurm);
            }
            thread::sleep(Duration::from_millis(100));
            if slurm.daemons.iter_mut().any(|daemon| daemon.try_wait().is_ok_and(|ended| ended.is_some())) {
                break;
            }
        }
        let read = |name| fs::read_to_string(slurm.folder.path().join(name)).unwrap_or_default();
        panic!("the node is not up: {}", ["munged.out", "slurmctld.out", "slurmd.out"].map(read).concat());
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.folder.path().join("slurm.conf")
    }

    fn stop(&mut self) {
        _ = said(&self.settings(), "scancel", &["--me"]);
        // Jobs' own processes end by the node's hand.
        for _ in 0..100 {
            if said(&self.settings(), "squeue", &["-h"]).is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        for daemon in self.daemons.iter_mut().rev() {
            // SAFETY: a plain system call, on a child that was not waited for.
            unsafe { libc::kill(daemon.id().cast_signed(), libc::SIGTERM) };
            _ = daemon.wait();
        }
        self.daemons.clear();
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        self.stop();
    }
}

extern "C" fn stop_shared() {
    if let Some(shared) = SHARED.get() {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        drop(std::mem::replace(&mut *shared, Ok(None)));
    }
}

/// What one of Slurm's programs says on standard output.
pub(crate) fn said(settings: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).env("SLURM_CONF", settings).stdin(Stdio::null()).output();
    String::from_utf8(output.expect("it is installed").stdout).expect("UTF-8")
}

/// All jobs that Slurm knows of.
pub(crate) fn jobs(settings: &Path) -> Vec<Value> {
    let text = said(settings, "squeue", &["--json"]);
    let mut all: Value = serde_json::from_str(&text).expect("JSON");
    all["jobs"].as_array_mut().map(std::mem::take).unwrap_or_default()
}

fn is_installed(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .any(|dir| Path::new(dir).join(program).exists())
}

fn start_daemons(folder: &Path) -> Vec<Child> {
    for name in ["state", "spool"] {
        fs::create_dir(folder.join(name)).expect("a folder");
    }
    let key: String = (0..1024).map(|at| char::from(b'a' + (at * 7 % 26) as u8)).collect();
    let key_file = folder.join("munge.key");
    File::create(&key_file).and_then(|mut file| file.write_all(key.as_bytes())).expect("a key");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&key_file, mode).expect("a key that is secret");
    // Held until both are known, so that they differ.
    let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let [controller_port, node_port] = ports.each_ref().map(|port| port.local_addr().expect("bound").port());
    drop(ports);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
    let host = host.trim().split('.').next().unwrap_or_default();
    let user = Command::new("id").arg("-un").output().expect("`id` runs").stdout;
    let user = String::from_utf8(user).expect("UTF-8");
    let settings = include_str!("slurm.conf")
        .replace("FOLDER", &folder.display().to_string())
        .replace("CONTROLLER_PORT", &controller_port.to_string())
        .replace("NODE_PORT", &node_port.to_string())
        .replace("HOST", host)
        .replace("USER", user.trim());
    fs::write(folder.join("slurm.conf"), settings).expect("settings");
    fs::write(folder.join("gres.conf"), format!("NodeName={host} Name=gpu File=/dev/tty[0-1]\n")).expect("settings");
    let at = |name: &str| folder.join(name).display().to_string();
    let munged = [
        format!("--key-file={}", at("munge.key")),
        format!("--socket={}", at("munge.sock")),
        format!("--pid-file={}", at("munged.pid")),
        format!("--seed-file={}", at("munge.seed")),
        format!("--log-file={}", at("munged.log")),
        "--foreground".to_owned(),
        // A folder below a temporary one that others may write to.
        "--force".to_owned(),
    ];
    let mut daemons = vec![start(folder, "munged", &munged)];
    until("munged listens", || folder.join("munge.sock").exists());
    daemons.push(start(folder, "slurmctld", &["-D".to_owned(), "-c".to_owned()]));
    daemons.push(start(folder, "slurmd", &["-D".to_owned()]));
    daemons
}

fn start(folder: &Path, program: &str, args: &[String]) -> Child {
    let log = File::create(folder.join(format!("{program}.out"))).expect("a log");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.args(args).env("SLURM_CONF", folder.join("slurm.conf")).env("PATH", format!("{path}:/usr/sbin:/usr/bin"));
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log).process_group(0);
    // SAFETY: between fork and exec one system call is made, which is allowed there.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"))
}
