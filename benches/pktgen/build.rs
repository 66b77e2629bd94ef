//! Compiles the generator's XDP programs with clang.

fn main() {
    bpf_build::compile("pktgen");
}
