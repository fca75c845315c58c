//! Two users on one store.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Stdio;

use crate::support::{Sandbox, signal};

const STAGE: &str = "examples@sentiment";

#[test]
fn what_another_user_makes_on_another_host_is_waited_for_though_it_says_not_whose_it_is() {
    let made = Sandbox::with_small_pipeline();
    assert_eq!(made.bam(&["run", "pipeline.yaml", STAGE]).code, 0);
    let fingerprint = made.manifest(STAGE)["fingerprint"].as_str().unwrap().to_owned();

    let sandbox = Sandbox::with_small_pipeline();
    let lease = format!("artifacts/locks/{fingerprint}.host");
    sandbox.write(&lease, "process 7 on elsewhere\n");
    let lease = sandbox.path(&lease);
    fs::set_permissions(&lease, Permissions::from_mode(0o600)).unwrap();
    let Some(mut command) = sandbox.humble_command(&["run", "pipeline.yaml", STAGE]) else { return };
    if chown(&lease, Some(65534), None).is_err() {
        return;
    }
    let engine = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(sandbox.names_in("artifacts/store"), [""; 0], "it waits");
    signal(engine.id(), libc::SIGTERM);
    let (story, _) = super::ended(engine);
    assert!(story.contains("WAITING") && story.contains("another user's process"), "{story}");
    assert!(lease.exists());
}
