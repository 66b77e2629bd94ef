//! The listening socket's file: made, taken over from a dead daemon, removed.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

/// The mode of the socket: owner and group may connect.
const MODE: u32 = 0o660;

/// Why there is no control socket. Each is a sentence that names the path and the cure.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon listens.
    #[error(
        "the control socket {} belongs to a daemon that is running: stop that one, or set \
         [switch] socket to another path", .0.display()
    )]
    InUse(PathBuf),
    /// Something else is there.
    #[error(
        "{} exists and is not a socket: remove it, or set [switch] socket to another path",
        .0.display()
    )]
    NotASocket(PathBuf),
    /// There is no such group.
    #[error("[switch] socket_group = {0:?}: expected a group that exists (`getent group`)")]
    NoSuchGroup(String),
    /// The kernel refused.
    #[error(
        "cannot make the control socket {}: {doing}: {source}{}",
        path.display(),
        cure(source)
    )]
    System {
        /// The socket's path.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

fn cure(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            ": run as root, or set [switch] socket to a path that you may write"
        }
        _ => "",
    }
}

/// The file of a listening socket; removed when dropped, if it is still ours.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// The directory, if it was made for the socket.
    made: Option<PathBuf>,
}

/// Listens on `path`, mode 0660, group `group`. A socket that nobody listens on is taken over.
pub fn listen_on(path: &Path, group: Option<&str>) -> Result<(OwnedFd, SocketFile), BindError> {
    let failed =
        |doing| move |source: io::Error| BindError::System { path: path.to_owned(), doing, source };
    let gid = group.map(|name| lookup_group(name, path)).transpose()?;

    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let made = (!dir.exists()).then(|| dir.to_owned());
    fs::create_dir_all(dir).map_err(failed("making its directory"))?;
    if made.is_some() {
        // Whatever the umask: the group must get to the socket.
        let mode = Permissions::from_mode(0o755);
        fs::set_permissions(dir, mode).map_err(failed("its directory's mode"))?;
    }
    // Two daemons that start at once must not both find the socket stale.
    let _lock = lock(dir).map_err(failed("locking its directory"))?;
    clear_stale(path)?;

    let fd = unix_socket().map_err(|e| failed("opening a socket")(e.into()))?;
    // The file's mode is the socket's less the umask: it is never wider than MODE.
    fchmod(&fd, Mode::from_bits_truncate(MODE)).map_err(|e| failed("its mode")(e.into()))?;
    let address = UnixAddr::new(path).map_err(|e| failed("its path")(e.into()))?;
    bind(fd.as_raw_fd(), &address).map_err(|e| failed("binding it")(e.into()))?;

    let meta = fs::symlink_metadata(path).map_err(failed("looking at it"))?;
    let file = SocketFile { path: path.to_owned(), identity: (meta.dev(), meta.ino()), made };
    if gid.is_some() {
        std::os::unix::fs::chown(path, None, gid).map_err(failed("its group"))?;
    }
    fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(failed("its mode"))?;
    listen(&fd, Backlog::MAXCONN).map_err(|e| failed("listening")(e.into()))?;
    Ok((fd, file))
}

fn lookup_group(name: &str, path: &Path) -> Result<u32, BindError> {
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(BindError::NoSuchGroup(name.to_owned())),
        Err(e) => Err(BindError::System {
            path: path.to_owned(),
            doing: "looking up its group",
            source: e.into(),
        }),
    }
}

fn lock(dir: &Path) -> io::Result<Flock<File>> {
    Flock::lock(File::open(dir)?, FlockArg::LockExclusive).map_err(|(_, e)| e.into())
}

fn unix_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// Removes a socket that nobody listens on.
fn clear_stale(path: &Path) -> Result<(), BindError> {
    let failed =
        |doing| move |source: io::Error| BindError::System { path: path.to_owned(), doing, source };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed("looking for it")(e)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    let probe = unix_socket().map_err(|e| failed("opening a socket")(e.into()))?;
    let address = UnixAddr::new(path).map_err(|e| failed("its path")(e.into()))?;
    match connect(probe.as_raw_fd(), &address) {
        Err(Errno::ECONNREFUSED) => {
            tracing::info!(socket = %path.display(), "taking over a dead daemon's socket");
            fs::remove_file(path).map_err(failed("removing the one of a dead daemon"))
        }
        // EAGAIN: it listens, and its backlog is full.
        Ok(()) | Err(Errno::EAGAIN) => Err(BindError::InUse(path.to_owned())),
        Err(e) => Err(failed("asking who listens")(e.into())),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let dir = self.path.parent().filter(|d| !d.as_os_str().is_empty());
        let _lock = lock(dir.unwrap_or(Path::new(".")));
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == self.identity);
        if ours && let Err(e) = fs::remove_file(&self.path) {
            tracing::warn!(socket = %self.path.display(), "cannot remove the control socket: {e}");
        }
        if let Some(made) = &self.made {
            // Fails when someone else put something there, which is then theirs.
            let _ = fs::remove_dir(made);
        }
    }
}
