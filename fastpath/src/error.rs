//! What can go wrong on the way to a working port, each with its cure.

use std::io;
use thiserror::Error;

/// Why a port could not be attached, or the engine not be started.
#[derive(Debug, Error)]
pub enum Error {
    /// A system call about an interface failed.
    #[error("{ifname}: {operation}: {source}{}", cure(source))]
    Interface {
        /// The interface.
        ifname: String,
        /// What was being done.
        operation: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A system call that is about no interface failed.
    #[error("{operation}: {source}{}", cure(source))]
    System {
        /// What was being done.
        operation: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The XDP program could not be loaded, or a map of it not be written.
    #[error("{operation}: {message}{}", cure_of(*errno))]
    Bpf {
        /// What was being done, with the interface's name where there is one.
        operation: String,
        /// What the loader or the kernel answered.
        message: String,
        /// The error number below it, if there was one.
        errno: Option<i32>,
    },
    /// The interface already runs an XDP program that is not ours.
    #[error(
        "{ifname}: another XDP program (id {program}) is attached; detach it first: \
         `ip link set dev {ifname} xdp off`, or stop the program that owns it"
    )]
    ForeignProgram {
        /// The interface.
        ifname: String,
        /// The kernel's identifier of the program (`bpftool prog show id`).
        program: u32,
    },
    /// The requested attach mode is not available on the interface.
    #[error("{ifname}: {wanted} is not available: {reason}; use mode \"auto\"")]
    Mode {
        /// The interface.
        ifname: String,
        /// The mode that was asked for.
        wanted: &'static str,
        /// Why it cannot be had.
        reason: String,
    },
    /// A named queue does not exist.
    #[error(
        "{ifname}: there is no receive queue {queue}: the interface has {available}; \
         name fewer, or add queues with `ethtool -L {ifname} combined N`"
    )]
    Queue {
        /// The interface.
        ifname: String,
        /// The queue that was named.
        queue: u32,
        /// How many there are, numbered from 0.
        available: u32,
    },
    /// The port identifier is in use.
    #[error("port {0} is already attached")]
    PortInUse(switch::PortId),
    /// There is no such port.
    #[error("port {0} is not attached")]
    PortUnknown(switch::PortId),
    /// A table of the XDP program is full.
    #[error("{table} is full: it holds at most {capacity} entries")]
    Full {
        /// The table.
        table: &'static str,
        /// Its capacity.
        capacity: u32,
    },
    /// A configuration value is out of range.
    #[error("{field}: {value} is out of range: expected {expected}")]
    Config {
        /// The field of [`crate::EngineConfig`].
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// A worker thread did not answer: it has ended.
    #[error("worker {0} has ended; see the log for why, and restart the daemon")]
    WorkerGone(usize),
}

impl Error {
    pub(crate) fn system(operation: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::System { operation, source }
    }

    pub(crate) fn interface(
        ifname: &str,
        operation: &'static str,
    ) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Interface { ifname: ifname.to_owned(), operation, source }
    }

    /// The error number that the kernel answered, if it was the kernel.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Interface { source, .. } | Error::System { source, .. } => source.raw_os_error(),
            Error::Bpf { errno, .. } => *errno,
            _ => None,
        }
    }
}

fn cure(e: &io::Error) -> &'static str {
    cure_of(e.raw_os_error())
}

/// What to do about an error number, in the context of AF_XDP.
fn cure_of(errno: Option<i32>) -> &'static str {
    match errno {
        Some(libc::EPERM | libc::EACCES) => {
            "; run as root, or with the capabilities CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and \
             CAP_IPC_LOCK"
        }
        Some(libc::ENOBUFS) => {
            "; the locked-memory limit is too low: raise it (`ulimit -l unlimited`, \
             LimitMEMLOCK=infinity) or grant CAP_IPC_LOCK"
        }
        Some(libc::ENOMEM) => "; the machine is out of memory: lower `frames`",
        Some(libc::EBUSY) => {
            "; another AF_XDP socket or XDP program has the queue: stop the program that owns it"
        }
        Some(libc::EAFNOSUPPORT) => "; the kernel was built without CONFIG_XDP_SOCKETS",
        Some(libc::EOPNOTSUPP) => "; the kernel or the interface's driver does not support it",
        Some(libc::ENODEV | libc::ENXIO) => "; the interface is gone",
        Some(libc::ENETDOWN) => "; the interface is down: `ip link set dev NAME up`",
        Some(libc::ERANGE) => "; the interface's MTU is too large for XDP on this driver: lower it",
        Some(libc::ENOSPC) => {
            "; the peer has more transmit queues than this interface has receive queues: create \
             both ends with the same number of queues"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(errno: i32) -> String {
        Error::interface("eth1", "open an AF_XDP socket")(io::Error::from_raw_os_error(errno))
            .to_string()
    }

    #[test]
    fn errors_name_the_interface_and_the_cure() {
        for (errno, cure) in [
            (libc::EPERM, "CAP_NET_ADMIN"),
            (libc::ENOBUFS, "LimitMEMLOCK=infinity"),
            (libc::EBUSY, "another AF_XDP socket"),
            (libc::EAFNOSUPPORT, "CONFIG_XDP_SOCKETS"),
            (libc::ERANGE, "MTU"),
            (libc::ENOSPC, "same number of queues"),
        ] {
            let text = interface(errno);
            assert!(text.starts_with("eth1: open an AF_XDP socket: "), "{text}");
            assert!(text.contains(cure) && !text.contains('\n'), "{text}");
        }
        let error = Error::Queue { ifname: "eth1".into(), queue: 4, available: 2 }.to_string();
        assert!(error.contains("queue 4") && error.contains("has 2"), "{error}");
    }
}
