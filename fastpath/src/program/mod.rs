//! The XDP programs, loaded once and attached to many interfaces.

mod filter;
mod link;
mod slots;

use crate::config::{Role, UplinkFilter};
use crate::error::Error;
use aya::maps::{HashMap, MapData, MapError, XskMap};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use filter::Filter;
pub use link::Link;
use slots::Slots;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Slots in the socket map: `sockets` in podswitch.bpf.c.
const MAX_SOCKETS: u32 = 16384;
/// Interfaces: `interfaces` in podswitch.bpf.c.
const MAX_INTERFACES: u32 = 4096;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/podswitch.bpf.o"));

/// The loaded programs and their maps.
pub struct Program {
    ebpf: Ebpf,
    sockets: XskMap<MapData>,
    interfaces: HashMap<MapData, u32, [u32; 2]>,
    filter: Filter,
    slots: Slots,
    pin_dir: Option<PathBuf>,
}

impl Program {
    /// Loads both programs. Links are pinned in `pin_dir` if that is, or can be made, a directory
    /// on a BPF file system; else they are not, which is logged.
    pub fn load(pin_dir: Option<&Path>) -> Result<Program, Error> {
        let mut ebpf = EbpfLoader::new().load(OBJECT).map_err(|e| {
            let errno = errno_in(&e);
            Error::Bpf { operation: "load the XDP programs".into(), message: chain(&e), errno }
        })?;
        for role in [Role::Port, Role::Uplink] {
            xdp(&mut ebpf, role)?.load().map_err(|e| program_error("load the XDP program", &e))?;
        }
        let sockets = XskMap::try_from(take(&mut ebpf, "sockets")?).map_err(map_error)?;
        let interfaces = HashMap::try_from(take(&mut ebpf, "interfaces")?).map_err(map_error)?;
        let filter = Filter::new(&mut ebpf)?;
        let pin_dir = pin_dir.and_then(|dir| match link::prepare_pin_dir(dir) {
            Ok(()) => Some(dir.to_owned()),
            Err(e) => {
                tracing::warn!(
                    "{}: {e}; running without pinned links: traffic is interrupted when this \
                     process ends",
                    dir.display()
                );
                None
            }
        });
        Ok(Program { ebpf, sockets, interfaces, filter, slots: Slots::new(MAX_SOCKETS), pin_dir })
    }

    /// Attaches the program of `role` to an interface, or takes a pinned link over.
    pub fn attach(
        &mut self,
        ifname: &str,
        ifindex: u32,
        role: Role,
        preference: crate::config::Preference,
    ) -> Result<Link, Error> {
        let pin = self.pin_dir.as_ref().map(|dir| dir.join(ifname));
        link::attach(xdp(&mut self.ebpf, role)?, ifname, ifindex, preference, pin)
    }

    /// Reserves a run of slots in the socket map for the queues of an interface.
    pub fn reserve(&mut self, queues: u32) -> Result<u32, Error> {
        let full = Error::Full { table: "the XDP socket map", capacity: MAX_SOCKETS };
        self.slots.take(queues).ok_or(full)
    }

    /// Gives a run of slots back.
    pub fn release(&mut self, base: u32, queues: u32) {
        self.slots.give(base, queues);
    }

    /// Directs a slot to a socket.
    pub fn set_socket(&mut self, slot: u32, socket: &impl AsRawFd) -> Result<(), Error> {
        self.sockets.set(slot, socket.as_raw_fd(), 0).map_err(map_error)
    }

    /// Directs the frames of an interface to a run of slots: from here on its frames are ours.
    pub fn enable(&mut self, ifindex: u32, base: u32, queues: u32) -> Result<(), Error> {
        self.interfaces.insert(ifindex, [base, queues], 0).map_err(|e| match errno_in(&e) {
            Some(libc::E2BIG) => {
                Error::Full { table: "the XDP interface map", capacity: MAX_INTERFACES }
            }
            _ => map_error(e),
        })
    }

    /// Leaves the frames of an interface to the kernel again.
    pub fn disable(&mut self, ifindex: u32) {
        // It fails only when the interface was not enabled.
        let _ = self.interfaces.remove(&ifindex);
    }

    /// Clears a slot; closing the socket does so too.
    pub fn clear_socket(&mut self, slot: u32) {
        let _ = self.sockets.unset(slot);
    }

    /// Replaces what is taken from uplinks, entry by entry: what is in both the old and the new
    /// filter is taken throughout.
    pub fn set_filter(&mut self, filter: &UplinkFilter) -> Result<(), Error> {
        self.filter.set(filter)
    }

    /// Removes the pins of interfaces that are not among `attached`, which detaches a program that
    /// an earlier process left there; their names.
    pub fn remove_other_pins(&self, attached: &[&str]) -> Vec<String> {
        self.pin_dir.as_ref().map_or_else(Vec::new, |dir| link::remove_other_pins(dir, attached))
    }

    /// Removes the pin directory if nothing is pinned in it.
    pub fn remove_pin_dir(&self) {
        if let Some(dir) = &self.pin_dir {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

fn xdp(ebpf: &mut Ebpf, role: Role) -> Result<&mut Xdp, Error> {
    let name = match role {
        Role::Port | Role::End => "podswitch_port",
        Role::Uplink => "podswitch_uplink",
    };
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    program.try_into().map_err(|e| program_error("find the XDP program", &e))
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, Error> {
    ebpf.take_map(name).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Error {
    Error::Bpf {
        operation: format!("find {name} in the compiled XDP object"),
        message: "it is not there".into(),
        errno: None,
    }
}

fn map_error(e: MapError) -> Error {
    let errno = errno_in(&e);
    Error::Bpf { operation: "change a map of the XDP program".into(), message: chain(&e), errno }
}

fn program_error(operation: &str, e: &(dyn std::error::Error + 'static)) -> Error {
    Error::Bpf { operation: operation.into(), message: chain(e), errno: errno_in(e) }
}

/// An error and its causes in one line.
pub(crate) fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(e) = source {
        let cause = e.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = e.source();
    }
    // The verifier's log is many lines long; its last one says what is wrong.
    text.lines().next().unwrap_or_default().to_owned()
}

/// The error number at the root of an error, if a system call is there.
pub(crate) fn errno_in(e: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut e = Some(e);
    while let Some(cause) = e {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return io.raw_os_error();
        }
        e = cause.source();
    }
    None
}
