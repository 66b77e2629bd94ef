//! Compiles the generator's XDP programs with clang.

use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "bpf/pktgen.bpf.c";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let mut command = Command::new(&clang);
    command.args(["-O2", "-g", "-target", "bpf", "-Wall", "-Werror", "-c", SOURCE, "-o"]);
    command.arg(out.join("pktgen.bpf.o"));
    if let Some(include) = multiarch_include() {
        command.arg("-isystem").arg(include);
    }
    match command.output() {
        Err(e) => {
            fail(&format!("{clang} cannot be run ({e}): install it with `apt install clang llvm`"))
        }
        Ok(output) if !output.status.success() => {
            let message = String::from_utf8_lossy(&output.stderr);
            let cure = if message.contains("bpf/bpf_helpers.h") {
                "\ninstall the headers with `apt install libbpf-dev`"
            } else if message.contains("asm/types.h") || message.contains("linux/bpf.h") {
                "\ninstall the headers with `apt install linux-libc-dev`"
            } else {
                ""
            };
            fail(&format!("{clang} cannot compile {SOURCE}:\n{message}{cure}"));
        }
        Ok(_) => {}
    }
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(1);
}

/// Where Debian and Ubuntu keep `asm/types.h`, for the machine that compiles: BPF has no
/// architecture of its own there.
fn multiarch_include() -> Option<PathBuf> {
    let triplet = Command::new("gcc")
        .arg("-print-multiarch")
        .output()
        .ok()
        .and_then(|o| String::from_utf8(o.stdout).ok())
        .map(|s| s.trim().to_owned())
        .filter(|s| !s.is_empty())
        .unwrap_or_else(|| format!("{}-linux-gnu", std::env::consts::ARCH));
    let path = Path::new("/usr/include").join(triplet);
    path.is_dir().then_some(path)
}
