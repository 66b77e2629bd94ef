//! What the engine and its ports are told, and what they answer.

use crate::tap::Tap;
use encap::Prefix;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How the engine is set up. Nothing in it changes while it runs.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Worker threads, each with a queue of every port.
    pub workers: usize,
    /// The CPU each worker is pinned to, by worker; not pinned when absent.
    pub cpus: Option<Vec<usize>>,
    /// The workers' nice value, -20 to 19; 0, the default, leaves them the process's. Below, a worker
    /// waits less behind other processes, and interrupts the pods' more: see docs/performance.md.
    pub nice: i8,
    /// Buffers of a worker, 4096 bytes each. The kernel keeps 120 bytes per buffer and port, in a piece
    /// of memory of a power of two, so this decides what a port costs: 4369 are the most for 512 KiB.
    pub frames_per_worker: u32,
    /// Where links of the XDP program are pinned, one file per interface, so that coming back
    /// after a crash never detaches the program from an interface. Not pinned when absent.
    pub pin_dir: Option<PathBuf>,
    /// How long a worker looks for more work before it sleeps. Zero by default: where workers share
    /// their cores with the pods they serve, looking takes time from the pods, and a worker that
    /// slept finds larger batches. Measured so (TCP, MTU 1500, 0 against 20 µs): 2.3 against 1.5
    /// Gbit/s. A worker with a core to itself gains latency by a few tens of microseconds here.
    pub spin: Duration,
    /// Microseconds that a system call on a socket may poll the driver (SO_BUSY_POLL); off when
    /// absent.
    pub busy_poll: Option<u32>,
    /// Descriptors in each ring of a socket: a power of two.
    pub ring_size: u32,
    /// Whether, in copy mode, an uplink may send runs of tunnel packets of one flow as UDP superpackets, and other
    /// ports merged TCP segments as TCP ones.
    pub superpackets: bool,
    /// Whether what goes to several veths, or many frames to one, may be sent in bulk, past the TX rings.
    pub bulk: bool,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            workers: 1,
            cpus: None,
            nice: 0,
            frames_per_worker: 4096,
            pin_dir: None,
            spin: Duration::ZERO,
            busy_poll: None,
            ring_size: 2048,
            superpackets: true,
            bulk: true,
        }
    }
}

/// Which frames the XDP program takes from an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// All of them: a bridge port, beyond which anybody may be.
    Port,
    /// All of them: a pod's port, the host port. What is sent there ends in the kernel at its far end.
    End,
    /// Those that [`UplinkFilter`] names; the rest goes to the kernel.
    Uplink,
}

/// How frames should cross between the driver and the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Preference {
    /// The best that works: zero-copy, else native, else generic.
    #[default]
    Auto,
    /// Zero-copy, or fail.
    ZeroCopy,
    /// The driver runs the XDP program, frames are copied; or fail.
    Native,
    /// The kernel's stack runs the XDP program, frames are copied. Works everywhere, slowly.
    Generic,
}

/// How frames do cross between the driver and the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// The driver writes into our buffers.
    ZeroCopy,
    /// The driver runs the XDP program; the kernel copies.
    Native,
    /// The kernel's stack runs the XDP program and copies.
    Generic,
    /// A TAP device: the kernel copies, a system call a packet.
    Tap,
}

impl AttachMode {
    /// The name used in the CLI and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            AttachMode::ZeroCopy => "zero-copy",
            AttachMode::Native => "native",
            AttachMode::Generic => "generic",
            AttachMode::Tap => "tap",
        }
    }
}

/// An interface to attach as a port.
#[derive(Clone, Debug)]
pub struct AttachSpec {
    /// The interface's name, in the network namespace of the process.
    pub ifname: String,
    /// The interface's index.
    pub ifindex: u32,
    /// Which frames are taken.
    pub role: Role,
    /// The receive queues to take; all when absent.
    pub queues: Option<Vec<u32>>,
    /// How to attach.
    pub mode: Preference,
}

/// A TAP device to attach as a port.
#[derive(Debug)]
pub struct TapSpec {
    /// The interface's name, for messages: it may be in another network namespace.
    pub ifname: String,
    /// Its queues, at most one for each worker.
    pub queues: Vec<Tap>,
    /// The interface's MTU in bytes.
    pub mtu: u32,
}

/// What attaching an interface came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// How frames cross.
    pub mode: AttachMode,
    /// The receive queues taken.
    pub queues: Vec<u32>,
    /// Whether frames larger than one buffer (3840 bytes) pass.
    pub frags: bool,
    /// Whether TCP segments that were merged may be sent to it.
    pub coalesces: bool,
    /// The interface's MTU in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Whether the XDP program's link is pinned.
    pub pinned: bool,
    /// Whether a program left attached by an earlier process was replaced in place.
    pub taken_over: bool,
}

/// What is ours on the uplinks. All else goes to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UplinkFilter {
    /// Local underlay addresses and UDP ports of VXLAN.
    pub vxlan: Vec<(IpAddr, u16)>,
    /// Peers and local underlay addresses of IPIP tunnels: (peer, local).
    pub ipip: Vec<(IpAddr, IpAddr)>,
    /// Destinations that arrive unencapsulated: the pod CIDRs of this node, with native routing.
    pub prefixes: Vec<Prefix>,
    /// The VLAN (IEEE 802.1Q) whose frames these are; absent: those without a tag.
    pub vlan: Option<u16>,
}
