//! Compiles in where ONNX Runtime lies; the last place where it is looked for.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ORT_DYLIB_PATH");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above");
    let fetched = root.join(".deps/onnxruntime/lib/libonnxruntime.so");
    let own = env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).filter(|path| path.is_absolute());
    println!("cargo::rustc-env=BAM_ORT_DYLIB={}", own.unwrap_or(fetched).display());
}
