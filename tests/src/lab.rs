//! A place for one test: its namespaces and its folder, under names that no other test has.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::interrupt;
use crate::netns::Netns;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A test that measures has the machine to itself; others wait more than they compute, and do it side by side.
static TURN: RwLock<()> = RwLock::new(());

/// Held for as long as a lab is there.
#[derive(Debug)]
enum Turn {
    Alone(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
    BesideOthers(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
}

/// A test's own corner of the machine, and its turn to use it. Its namespaces remove themselves; it
/// removes its folder.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    folder: PathBuf,
    _turn: Turn,
}

impl Lab {
    /// A lab that has the machine to itself, or none where these tests cannot run; then the reason is
    /// printed, past the test runner's capture.
    ///
    /// # Panics
    /// When not root in CI, which must skip nothing.
    pub fn new() -> Option<Lab> {
        // A test that failed poisons the lock, and guards nothing that could be broken.
        Lab::with(|| Turn::Alone(TURN.write().unwrap_or_else(PoisonError::into_inner)))
    }

    /// A lab that other such labs may be beside, as many as the test runner has threads: for tests that
    /// neither measure nor send as much as the machine can carry.
    ///
    /// # Panics
    /// As [`Lab::new`].
    pub fn beside_others() -> Option<Lab> {
        Lab::with(|| Turn::BesideOthers(TURN.read().unwrap_or_else(PoisonError::into_inner)))
    }

    fn with(turn: impl FnOnce() -> Turn) -> Option<Lab> {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "CI must run these tests as root"
            );
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            // Best effort: a closed stderr is no reason to fail.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: needs root, for network namespaces and XDP: {test}"
            );
            return None;
        }
        interrupt::clean_up();
        let turn = turn();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("pst-{}-{number}-", std::process::id());
        let folder = std::env::temp_dir().join(prefix.trim_end_matches('-'));
        std::fs::create_dir_all(&folder).expect("making the lab's folder");
        Some(Lab { prefix, folder, _turn: turn })
    }

    /// A new network namespace of this lab, its loopback interface up.
    pub fn netns(&self, name: &str) -> Netns {
        Netns::new(&format!("{}{name}", self.prefix))
    }

    /// Where the lab's files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file in the lab's folder.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).expect("writing in the lab's folder");
        path
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Whoever holds it would return from `main` next, with another code.
        interrupt::rest_if_interrupted();
        // What remains of the folder is harmless; `make clean-host` removes it too.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
