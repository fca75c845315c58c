//! Whether the server is what its `OpenAPI` document says, tried by a tool that knows nothing of it but the document.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use super::serve;

#[test]
fn the_server_conforms_to_its_document() {
    let asked = Command::new("schemathesis").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !asked.is_ok_and(|status| status.success()) {
        // Past the test harness, which hides what passing tests print.
        _ = writeln!(io::stderr(), "skipped: no `schemathesis`; `make conform` fetches it and runs this test");
        return;
    }
    let server = serve(&["--max-body", "64KiB"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new("schemathesis")
        .args([
            "run",
            "--checks=all",
            "--phases=examples,coverage,fuzzing",
            "--max-examples=100",
            "--seed=17",
            "--no-color",
        ])
        // Whether a task is one of pairs is the model's matter, and no schema's: what is well-formed may be refused with 422.
        .args(["--exclude-checks=positive_data_acceptance", "--continue-on-failure", "--request-timeout=20"])
        .arg(format!("http://{}/openapi.json", server.address))
        .current_dir(folder.path())
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
