//! How `bam` finds the libraries that travel with it, where the machine has none of its own.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Installed, they lie in `../lib/bam`: `libgcc_s.so.1` for `bam` itself. ONNX Runtime finds its own beside it.
    println!("cargo::rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/../lib/bam");
}
