//! Compiles BPF programs in C with clang, for build scripts.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `bpf/NAME.bpf.c` of the package to `NAME.bpf.o` in the folder where cargo wants what a build
/// script makes. Ends the process with a message, and what to install, if that fails. The environment's
/// `CLANG` names the compiler.
pub fn compile(name: &str) {
    let source = format!("bpf/{name}.bpf.c");
    println!("cargo::rerun-if-changed={source}");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let mut command = Command::new(&clang);
    command.args(["-O2", "-g", "-target", "bpf", "-Wall", "-Werror", "-c", &source, "-o"]);
    command.arg(out.join(format!("{name}.bpf.o")));
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
            fail(&format!("{clang} cannot compile {source}:\n{message}{cure}"));
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
