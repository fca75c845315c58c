//! How `bam-stage` finds libtorch when it runs, so that no variable has to be exported; and what of libtorch `tch` has no binding of.

use std::env;
use std::path::{Path, PathBuf};

/// Writes where libtorch lies into each program of this package.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // torch-sys says which folder it linked with: .deps/libtorch, the user's LIBTORCH, or his Python's torch.
    let lib = PathBuf::from(env::var_os("DEP_TCH_LIBTORCH_LIB").expect("torch-sys is a dependency of this package"));
    println!("cargo::rerun-if-changed={}", lib.display());
    if !lib.join("libtorch_cpu.so").exists() {
        println!("cargo::error=no libtorch_cpu.so in {}: run `make setup`", lib.display());
        return;
    }
    bind(&lib);
    let link = |argument: &str| println!("cargo::rustc-link-arg={argument}");
    // An installed bam-stage has its libraries beside it; one in target/ uses the folder that it was linked with.
    // `--disable-new-dtags` lets these paths go before LD_LIBRARY_PATH, in which many a user has another libtorch.
    link("-Wl,--disable-new-dtags");
    link("-Wl,-rpath,$ORIGIN");
    link(&format!("-Wl,-rpath,{}", lib.display()));
    // Nothing calls into the CUDA half directly; it registers itself on being loaded. So the linker must keep it.
    if lib.join("libtorch_cuda.so").exists() {
        link("-Wl,--push-state,--no-as-needed,-ltorch_cuda,--pop-state");
    }
}

/// Compiles `libtorch.cpp`, as torch-sys does its own part.
fn bind(lib: &Path) {
    println!("cargo::rerun-if-changed=libtorch.cpp");
    println!("cargo::rerun-if-env-changed=LIBTORCH_INCLUDE");
    // Headers lie beside the libraries, in libtorch as in Python's torch.
    let around = env::var_os("LIBTORCH_INCLUDE").map_or_else(|| lib.join(".."), PathBuf::from);
    // Warnings would be of libtorch's headers.
    let mut compiler = cc::Build::new();
    compiler
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(around.join("include"))
        .file("libtorch.cpp")
        .compile("libtorch_more");
}
