//! Attaching the program to an interface, pinning the link, and taking a pinned link over.
//!
//! A link keeps the program attached as long as someone holds it: this process, or a file in a BPF
//! file system (the pin). After a crash the pin is what is left; the next process replaces the
//! program in place (`bpf_link_update`), so that the interface never goes without one.

use super::{chain, errno_in, program_error};
use crate::config::Preference;
use crate::error::Error;
use crate::{netdev, sys};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{Xdp, XdpMode, xdp::XdpLink};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::io;
use std::path::{Path, PathBuf};

/// Where a BPF file system is mounted by custom.
const BPFFS: &str = "/sys/fs/bpf";

/// A program attached to an interface; detached when dropped, its pin removed.
#[derive(Debug)]
pub struct Link {
    pin: Option<PathBuf>,
    /// Whether the kernel's stack runs the program rather than the driver.
    pub generic: bool,
    /// Whether the link was there before.
    pub taken_over: bool,
    /// The kernel's identifier of our program.
    program: u32,
    link: FdLink,
}

impl Link {
    fn new(link: FdLink, pin: Option<PathBuf>, generic: bool, taken_over: bool) -> Link {
        let program = link.info().map_or(0, |info| info.program_id());
        Link { pin, generic, taken_over, program, link }
    }

    /// Whether the link is pinned.
    pub fn is_pinned(&self) -> bool {
        self.pin.is_some()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(pin) = &self.pin
            && let Err(e) = std::fs::remove_file(pin)
        {
            tracing::warn!("{}: remove the pin: {e}", pin.display());
        }
        // The program goes with the last descriptor of the link, of which a process that is about to execute
        // another program has a copy until it does: so it is not left to that. It may be another process's by
        // now, and what fails here is done by closing ours.
        if let Ok(info) = self.link.info()
            && info.program_id() == self.program
            && let Err(e) = sys::detach_link(info.id())
        {
            tracing::debug!("detach link {}: {e}", info.id());
        }
    }
}

pub(super) fn attach(
    program: &mut Xdp,
    ifname: &str,
    ifindex: u32,
    preference: Preference,
    pin: Option<PathBuf>,
) -> Result<Link, Error> {
    let running = netdev::running_program(ifname, ifindex)?;
    if let Some(path) = &pin
        && let Some(link) = pinned_link(path)
    {
        let id = link.info().map_or(0, |info| info.program_id());
        match running {
            Some(r) if r.program == id && suits(r.generic, preference) => {
                match take_over(program, link) {
                    Ok(link) => {
                        let generic = r.generic;
                        return Ok(Link::new(link, pin, generic, true));
                    }
                    Err(e) => tracing::warn!("{ifname}: the pinned link is of no use: {e}"),
                }
            }
            // The interface the link belonged to is gone, and another has its name; or the
            // configuration now asks for the other mode.
            _ => drop(link),
        }
        std::fs::remove_file(path).map_err(Error::interface(ifname, "remove a stale pin"))?;
    } else if let Some(r) = running {
        return Err(Error::ForeignProgram { ifname: ifname.to_owned(), program: r.program });
    }

    let (link, generic) = attach_new(program, ifname, ifindex, preference)?;
    let (link, pin) = match pin {
        None => (link, None),
        Some(path) => match link.pin(&path) {
            Ok(pinned) => (FdLink::from(pinned), Some(path)),
            Err(e) => {
                let operation = format!("{ifname}: pin the link at {}", path.display());
                return Err(Error::Bpf { operation, errno: errno_in(&e), message: chain(&e) });
            }
        },
    };
    Ok(Link::new(link, pin, generic, false))
}

/// Whether a program that runs already does so in a mode that was asked for.
fn suits(generic: bool, preference: Preference) -> bool {
    match preference {
        Preference::Auto => true,
        Preference::Generic => generic,
        Preference::Native | Preference::ZeroCopy => !generic,
    }
}

fn pinned_link(path: &Path) -> Option<FdLink> {
    path.exists().then(|| PinnedLink::from_pin(path).ok().map(FdLink::from)).flatten()
}

fn take_over(program: &mut Xdp, link: FdLink) -> Result<FdLink, Error> {
    let replace = || -> Result<FdLink, Box<dyn std::error::Error>> {
        let id = program.attach_to_link(XdpLink::try_from(link)?)?;
        Ok(FdLink::try_from(program.take_link(id)?)?)
    };
    replace().map_err(|e| program_error("replace the program of the pinned link", &*e))
}

fn attach_new(
    program: &mut Xdp,
    ifname: &str,
    ifindex: u32,
    preference: Preference,
) -> Result<(FdLink, bool), Error> {
    let mut try_mode = |mode| {
        let id = program.attach_to_if_index(ifindex, mode)?;
        let link = program.take_link(id)?;
        Ok::<FdLink, Box<dyn std::error::Error>>(FdLink::try_from(link)?)
    };
    let failed = |e: Box<dyn std::error::Error>| {
        program_error(&format!("{ifname}: attach the XDP program"), &*e)
    };
    if preference == Preference::Generic {
        return try_mode(XdpMode::Skb).map(|link| (link, true)).map_err(failed);
    }
    let error = match try_mode(XdpMode::Driver) {
        Ok(link) => return Ok((link, false)),
        Err(e) => e,
    };
    let errno = errno_in(&*error);
    if preference != Preference::Auto {
        let wanted = match preference {
            Preference::ZeroCopy => "zero-copy mode",
            _ => "native mode",
        };
        let (ifname, reason) = (ifname.to_owned(), chain(&*error));
        return Err(Error::Mode { ifname, wanted, reason });
    }
    // Only for want of support: an interface that is busy or gone stays so in generic mode, and an
    // MTU too large or too few queues are for the operator to know about.
    if !matches!(errno, Some(libc::EOPNOTSUPP | libc::EINVAL)) {
        return Err(failed(error));
    }
    tracing::warn!(
        "{ifname}: the driver runs no XDP program ({}); falling back to generic mode, which is \
         slower",
        chain(&*error)
    );
    try_mode(XdpMode::Skb).map(|link| (link, true)).map_err(failed)
}

/// Makes sure that `dir` is a directory on a BPF file system, mounting one at [`BPFFS`] if that is
/// where `dir` is and none is there.
pub(super) fn prepare_pin_dir(dir: &Path) -> io::Result<()> {
    if dir.starts_with(BPFFS) && !is_bpffs(Path::new(BPFFS)) {
        let none: Option<&str> = None;
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none).map_err(|e| {
            io::Error::new(io::Error::from(e).kind(), format!("mount a BPF file system: {e}"))
        })?;
    }
    std::fs::create_dir_all(dir)?;
    if !is_bpffs(dir) {
        return Err(io::Error::other("not on a BPF file system"));
    }
    Ok(())
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type() == BPF_FS_MAGIC)
}

pub(super) fn remove_other_pins(dir: &Path, attached: &[&str]) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut removed = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !attached.contains(&name.as_str()) && std::fs::remove_file(entry.path()).is_ok() {
            removed.push(name);
        }
    }
    removed
}
