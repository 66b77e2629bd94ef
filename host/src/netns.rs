//! Network namespaces: opened by path, entered only on threads made for that.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::error::{Error, Result};

/// An open network namespace. It exists as long as this does, even when its path and all its
/// processes are gone.
#[derive(Debug)]
pub struct Netns {
    file: File,
    name: String,
    inode: u64,
}

impl Netns {
    /// Opens the namespace at `path`, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// [`Error::Io`] when the path cannot be opened, [`Error::Invalid`] when it is something
    /// else, for instance the empty file that an unmounted namespace leaves behind.
    pub fn open(path: impl AsRef<Path>) -> Result<Netns> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let what = || format!("open network namespace {name}");
        // O_NONBLOCK: a path that is a FIFO must not hang us.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file: File =
            nix::fcntl::open(path, flags, Mode::empty()).map_err(|e| Error::io(what(), e))?.into();
        let inode = file.metadata().map_err(|e| Error::io(what(), e))?.ino();
        // All kinds of namespaces look alike until one is entered: see `run`.
        let fs = fstatfs(&file).map_err(|e| Error::io(what(), e))?.filesystem_type();
        if fs == NSFS_MAGIC { Ok(Netns { file, name, inode }) } else { Err(wrong_kind(what())) }
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Netns> {
        Netns::open("/proc/thread-self/ns/net")
    }

    /// The inode number, which identifies the namespace among those that exist now
    /// (`net:[4026531840]`).
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The path it was opened by, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` inside the namespace and returns what it returns.
    ///
    /// The work runs on a thread of its own, which ends with it, so that the caller's thread
    /// never is in another namespace, not even after a panic. Costs about 50 µs.
    ///
    /// # Errors
    /// [`Error::Io`] when the thread cannot be made or may not enter (CAP_SYS_ADMIN).
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let what = || format!("enter network namespace {}", self.name);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, || {
                    setns(&self.file, CloneFlags::CLONE_NEWNET)?;
                    Ok::<T, nix::Error>(work())
                })
                .map_err(|e| Error::io(what(), e))?;
            match thread.join() {
                Ok(Ok(result)) => Ok(result),
                Ok(Err(Errno::EINVAL)) => Err(wrong_kind(what())),
                Ok(Err(errno @ Errno::EPERM)) => Err(Error::Kernel {
                    what: what(),
                    errno,
                    detail: Some("not permitted, CAP_SYS_ADMIN is needed".into()),
                }),
                Ok(Err(e)) => Err(Error::io(what(), e)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl PartialEq for Netns {
    fn eq(&self, other: &Netns) -> bool {
        self.inode == other.inode
    }
}

impl Eq for Netns {}

fn wrong_kind(what: String) -> Error {
    Error::invalid(what, "the path is not a network namespace")
}
