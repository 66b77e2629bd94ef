//! Compiles the BPF programs with clang.

fn main() {
    bpf_build::compile("podswitch");
    bpf_build::compile("transmit");
}
