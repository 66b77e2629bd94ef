//! What can go wrong when the kernel is asked for something, always with the name of what was
//! being done and to which object.

use std::io;

use nix::errno::Errno;

/// The result of an operation on the kernel.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on the kernel failed. `what` reads as an action, for example
/// `create veth psw0a1b2c3d4e5 with peer eth0`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a request.
    #[error("{what}: {}", describe(*.errno, .detail.as_deref()))]
    Kernel {
        /// The action that was refused.
        what: String,
        /// The kernel's error number.
        errno: Errno,
        /// The kernel's own explanation (netlink extended acknowledgement), when it gave one.
        detail: Option<String>,
    },
    /// An operating system call around a request failed: a socket, a file, a namespace.
    #[error("{what}: {source}")]
    Io {
        /// The action that failed.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The kernel's answer could not be understood.
    #[error("{what}: unexpected answer of the kernel: {reason}")]
    Protocol {
        /// The action that was answered.
        what: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// A dump was changed by others each time it was read, and so never was consistent.
    #[error("{what}: the list kept changing while it was read")]
    Unstable {
        /// The list that was read.
        what: String,
    },
    /// The object does not exist.
    #[error("{what}: not found")]
    NotFound {
        /// The object.
        what: String,
    },
    /// The arguments contradict each other or the object.
    #[error("{what}: {reason}")]
    Invalid {
        /// The action that was asked for.
        what: String,
        /// Why it makes no sense.
        reason: String,
    },
}

impl Error {
    /// The system's error number, if there was one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Kernel { errno, .. } => Some(*errno),
            Error::Io { source, .. } => source.raw_os_error().map(Errno::from_raw),
            _ => None,
        }
    }

    /// Whether the object of the operation does not exist (any more).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
            || matches!(
                self.errno(),
                Some(Errno::ENODEV | Errno::ENXIO | Errno::ENOENT | Errno::ESRCH)
            )
    }

    /// Whether the object exists already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }

    /// Whether the process lacks the right (usually CAP_NET_ADMIN or CAP_SYS_ADMIN).
    pub fn is_permission(&self) -> bool {
        matches!(self.errno(), Some(Errno::EPERM | Errno::EACCES))
    }

    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Io { what: what.into(), source: source.into() }
    }

    pub(crate) fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Invalid { what: what.into(), reason: reason.into() }
    }
}

/// `message (ENAME)`, with the kernel's own words first where it said more than a number.
fn describe(errno: Errno, detail: Option<&str>) -> String {
    let text = match (detail, errno) {
        (Some(detail), _) => detail.trim_end_matches('.'),
        (None, Errno::EEXIST) => "it exists already",
        (None, Errno::ENODEV) => "no such interface",
        (None, Errno::ESRCH) => "no such entry",
        (None, Errno::EPERM) => "not permitted (CAP_NET_ADMIN is needed)",
        (None, errno) => errno.desc(),
    };
    format!("{text} ({errno:?})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_action_and_keep_the_number() {
        let e = Error::Kernel {
            what: "create veth pswabc with peer eth0".into(),
            errno: Errno::EEXIST,
            detail: None,
        };
        assert_eq!(e.to_string(), "create veth pswabc with peer eth0: it exists already (EEXIST)");
        assert!(e.is_exists() && !e.is_not_found());

        let e = Error::Kernel {
            what: "add route".into(),
            errno: Errno::EINVAL,
            detail: Some("Nexthop has invalid gateway.".into()),
        };
        assert_eq!(e.to_string(), "add route: Nexthop has invalid gateway (EINVAL)");

        let e = Error::io("open namespace /x", io::Error::from_raw_os_error(libc::ENOENT));
        assert!(e.is_not_found());
        assert_eq!(e.errno(), Some(Errno::ENOENT));
    }
}
