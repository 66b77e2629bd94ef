//! The system calls of an AF_XDP socket, each behind a safe signature.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A C structure or integer for which every bit pattern is legal.
///
/// # Safety
///
/// The type must be `repr(C)` (or an integer) without padding and without illegal values.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for c_int {}
// SAFETY: six integers, without padding between or behind them.
unsafe impl Plain for libc::xdp_umem_reg {}
// SAFETY: sixteen integers of one size.
unsafe impl Plain for libc::xdp_mmap_offsets {}
// SAFETY: six integers of one size.
unsafe impl Plain for libc::xdp_statistics {}
// SAFETY: one integer.
unsafe impl Plain for libc::xdp_options {}

/// A new AF_XDP socket.
pub(crate) fn xdp_socket() -> io::Result<OwnedFd> {
    socket(libc::AF_XDP, libc::SOCK_RAW)
}

/// A new packet socket that receives nothing and never waits.
pub(crate) fn packet_socket() -> io::Result<OwnedFd> {
    socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK)
}

/// Binds a packet socket to an interface.
pub(crate) fn bind_packet(fd: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    // SAFETY: integers and an array of them, for which zero is legal.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = ifindex as c_int;
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes from `address`, which has as many.
    let r = unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Bytes that were sent through a packet socket and that the kernel still has (SIOCOUTQ).
pub(crate) fn unsent(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut n: c_int = 0;
    // SAFETY: TIOCOUTQ, which is SIOCOUTQ, writes an int.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &mut n) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(n as u32) }
}

/// A socket to ask the kernel about interfaces with.
pub(crate) fn control_socket() -> io::Result<OwnedFd> {
    socket(libc::AF_UNIX, libc::SOCK_DGRAM)
}

fn socket(family: c_int, kind: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets a socket option.
pub(crate) fn set_option<T: Plain>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes from `value`, which has as many.
    let r = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len)
    };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads a socket option; what an older kernel does not fill in is zero.
pub(crate) fn get_option<T: Plain>(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, which has as many.
    let r = unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &mut len)
    };
    if r < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed at first, and any bit pattern is a legal `T`.
    Ok(unsafe { value.assume_init() })
}

/// Waits until nothing in the kernel is under way any more that began before: an RCU grace period, some
/// milliseconds to tens of them. Fails where the kernel does not offer that (`nohz_full`).
pub(crate) fn wait_for_grace_period() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: c_int = 1;
    // SAFETY: no pointers are passed.
    let r = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes the program of a link off its interface, whoever else holds the link (bpf(2)).
pub(crate) fn detach_link(id: u32) -> io::Result<()> {
    const LINK_GET_FD_BY_ID: c_int = 30;
    const LINK_DETACH: c_int = 34;
    let call = |command: c_int, argument: u32| {
        // The kernel takes what is not given of `union bpf_attr` for zero.
        let attributes = [argument, 0, 0, 0];
        let len = size_of_val(&attributes);
        // SAFETY: the kernel reads `len` bytes from `attributes`, which has as many.
        let r = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), len) };
        if r < 0 { Err(io::Error::last_os_error()) } else { Ok(r as c_int) }
    };
    let fd = call(LINK_GET_FD_BY_ID, id)?;
    // SAFETY: the kernel has just given it to us.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    call(LINK_DETACH, link.as_raw_fd() as u32).map(drop)
}

/// Binds an AF_XDP socket to a queue of an interface.
pub(crate) fn bind_xdp(fd: BorrowedFd<'_>, ifindex: u32, queue: u32, flags: u16) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes from `address`, which has as many.
    let r = unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the kernel transmit what is in the TX ring.
#[inline]
pub(crate) fn kick_tx(fd: BorrowedFd<'_>) -> io::Result<()> {
    let null = std::ptr::null();
    // SAFETY: an empty message: no byte is read through either pointer.
    let r = unsafe { libc::sendto(fd.as_raw_fd(), null, 0, libc::MSG_DONTWAIT, null.cast(), 0) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the driver look at the fill ring.
#[inline]
pub(crate) fn kick_rx(fd: BorrowedFd<'_>) {
    let null = std::ptr::null_mut();
    // SAFETY: an empty buffer and no address: no byte is written through a pointer.
    unsafe {
        libc::recvfrom(fd.as_raw_fd(), null, 0, libc::MSG_DONTWAIT, null.cast(), null.cast());
    }
}

/// A request about an interface, by name. The kernel reads and writes `data` through the pointer
/// in the request for ETHTOOL commands, and the request's own union for the others.
fn interface_request(ifname: &str) -> io::Result<libc::ifreq> {
    // SAFETY: integers, arrays of them, and pointers, for all of which zero is legal.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if ifname.is_empty() || ifname.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(ifname.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

/// An interface's MTU in bytes.
pub(crate) fn mtu(ifname: &str) -> io::Result<u32> {
    let socket = control_socket()?;
    let mut request = interface_request(ifname)?;
    // SAFETY: SIOCGIFMTU reads the name in `request` and writes its `ifru_mtu`.
    let r = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU as _, &mut request) };
    if r < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so that this is the member of the union that was written.
    Ok(unsafe { request.ifr_ifru.ifru_mtu } as u32)
}

/// `struct ethtool_channels` (linux/ethtool.h).
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// How many receive queues an interface has; 1 when its driver does not say.
pub(crate) fn rx_queues(ifname: &str) -> io::Result<u32> {
    const ETHTOOL_GCHANNELS: u32 = 0x3c;
    let socket = control_socket()?;
    let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
    let mut request = interface_request(ifname)?;
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut channels).cast();
    // SAFETY: SIOCETHTOOL follows `ifru_data`; ETHTOOL_GCHANNELS reads and writes a `struct
    // ethtool_channels` there, which `channels` is and which outlives the call.
    let r = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) };
    if r < 0 {
        let e = io::Error::last_os_error();
        return match e.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Ok(1),
            _ => Err(e),
        };
    }
    Ok((channels.rx + channels.combined).max(1))
}

/// Whether an interface promises to complete checksums of what it sends.
pub(crate) fn offloads_checksums(ifname: &str) -> io::Result<bool> {
    const ETHTOOL_GTXCSUM: u32 = 0x16;
    ethtool_value(ifname, ETHTOOL_GTXCSUM).map(|value| value != 0)
}

/// Whether an interface promises to cut TCP superpackets up, of one version of IP at least.
pub(crate) fn offloads_segmentation(ifname: &str) -> io::Result<bool> {
    const ETHTOOL_GTSO: u32 = 0x1e;
    ethtool_value(ifname, ETHTOOL_GTSO).map(|value| value != 0)
}

/// What an interface answers to a command that asks for a `struct ethtool_value` (linux/ethtool.h).
fn ethtool_value(ifname: &str, command: u32) -> io::Result<u32> {
    let socket = control_socket()?;
    let mut value = [command, 0];
    let mut request = interface_request(ifname)?;
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut value).cast();
    // SAFETY: SIOCETHTOOL follows `ifru_data`; such a command reads and writes a `struct ethtool_value` there, two
    // integers, which `value` is and which outlives the call.
    let r = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(value[1]) }
}

/// Sets the nice value of the calling thread, and no other's, unless it is 0.
pub(crate) fn set_nice(nice: i8) -> io::Result<()> {
    if nice == 0 {
        return Ok(());
    }
    // SAFETY: no pointers are passed. In Linux, 0 names the calling thread, not its process.
    let r = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice.into()) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The device is to be new: IFF_TUN_EXCL.
pub(crate) const TAP_NEW: c_int = libc::IFF_TUN_EXCL;
/// The device has several queues.
pub(crate) const TAP_MANY: c_int = libc::IFF_MULTI_QUEUE;
/// Incomplete checksums, and TCP packets to be cut up, whatever their ECN bits.
pub(crate) const TAP_OFFLOAD_TCP: u32 =
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
/// UDP datagrams to be cut up (UDP_SEGMENT), Linux 6.2.
pub(crate) const TAP_OFFLOAD_UDP: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// Makes `fd`, of `/dev/net/tun`, a queue of a TAP device that has a header before every packet.
pub(crate) fn tap_attach(fd: BorrowedFd<'_>, name: &str, flags: c_int) -> io::Result<()> {
    let mut request = interface_request(name)?;
    let flags = flags | libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes the `struct ifreq` that `request` is.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as _, &mut request) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets how many bytes of header are before every packet of a TAP device, its numbers little-endian.
pub(crate) fn tap_set_header(fd: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    let (len, little_endian) = (len as c_int, 1);
    for (request, value) in [(libc::TUNSETVNETHDRSZ, &len), (libc::TUNSETVNETLE, &little_endian)] {
        // SAFETY: both requests read an int.
        let r = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, value) };
        if r < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Sets what the reader of a TAP device finishes in the kernel's place (TUN_F_*).
pub(crate) fn tap_set_offload(fd: BorrowedFd<'_>, offload: u32) -> io::Result<()> {
    let offload = libc::c_ulong::from(offload);
    // SAFETY: TUNSETOFFLOAD takes a number.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD as _, offload) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets whether a TAP device outlives its descriptors.
pub(crate) fn tap_set_persistent(fd: BorrowedFd<'_>, persistent: bool) -> io::Result<()> {
    let persistent = libc::c_ulong::from(persistent);
    // SAFETY: TUNSETPERSIST takes a number.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETPERSIST as _, persistent) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The version of the running kernel, major and minor.
pub(crate) fn linux_version() -> Option<(u32, u32)> {
    let name = nix::sys::utsname::uname().ok()?;
    let mut numbers = name.release().to_str()?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
