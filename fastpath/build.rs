//! Compiles the XDP programs with clang.

fn main() {
    bpf_build::compile("podswitch");
}
