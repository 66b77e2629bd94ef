//! Where an interface is: its network namespace, its index, and whether a machine hangs on it.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::unistd::Pid;

/// An interface, in a network namespace of its own or in this process's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The namespace's file, such as `/run/netns/blue`. This process's when absent.
    pub netns: Option<PathBuf>,
    /// The interface's name.
    pub dev: String,
}

/// A default route goes over the interface.
#[derive(Debug)]
pub struct Refused(Place);

impl std::error::Error for Refused {}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} has a default route: a load would go to the network that this machine is reached \
             by; --force sends it all the same",
            self.0
        )
    }
}

impl FromStr for Place {
    type Err = String;

    /// `DEV`, `NETNS:DEV` with a name that `ip netns` knows, or `/path/to/netns:DEV`.
    fn from_str(text: &str) -> Result<Place, String> {
        let (netns, dev) = match text.rsplit_once(':') {
            Some((netns, dev)) if netns.starts_with('/') => (Some(PathBuf::from(netns)), dev),
            Some((netns, dev)) => (Some(PathBuf::from("/run/netns").join(netns)), dev),
            None => (None, text),
        };
        if dev.is_empty() || dev.len() > 15 || dev.contains(['/', ' ']) {
            return Err(format!("not an interface: {text:?}; expected DEV or NETNS:DEV"));
        }
        Ok(Place { netns, dev: dev.to_owned() })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.netns {
            Some(netns) => write!(f, "{}:{}", netns.display(), self.dev),
            None => f.write_str(&self.dev),
        }
    }
}

impl Place {
    /// Whether it is the same interface, whatever its namespace is called.
    pub fn is(&self, other: &Place) -> bool {
        self.dev == other.dev && (self.netns == other.netns || self.inode() == other.inode())
    }

    /// What names the namespace: its file's numbers, or where there is no file, its path.
    fn inode(&self) -> Result<(u64, u64), PathBuf> {
        let path = self.netns.clone().unwrap_or_else(|| "/proc/thread-self/ns/net".into());
        fs::metadata(&path).map(|meta| (meta.dev(), meta.ino())).map_err(|_| path)
    }

    /// Moves the calling thread into the namespace. Sockets that it opens from here on belong there.
    pub fn enter(&self) -> anyhow::Result<()> {
        let Some(path) = &self.netns else { return Ok(()) };
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("entering {}", path.display()))
    }

    /// The interface's index. The calling thread is in the namespace.
    pub fn ifindex(&self) -> anyhow::Result<u32> {
        nix::net::if_::if_nametoindex(self.dev.as_str())
            .with_context(|| format!("there is no interface {self}"))
    }

    /// Fails when a default route goes over the interface: a load on it would reach, and cut off, the
    /// machine. The calling thread is in the namespace.
    pub fn refuse_default_route(&self) -> anyhow::Result<()> {
        let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        let routes = (read("route").unwrap_or_default(), read("ipv6_route").unwrap_or_default());
        if has_default_route(&routes.0, &routes.1, &self.dev) {
            return Err(Refused(self.clone()).into());
        }
        Ok(())
    }
}

/// Whether one of the kernel's routing tables (/proc/net/route, /proc/net/ipv6_route) has a default
/// route over `dev`.
fn has_default_route(ipv4: &str, ipv6: &str, dev: &str) -> bool {
    // Iface Destination Gateway Flags RefCnt Use Metric Mask …
    let four = ipv4
        .lines()
        .skip(1)
        .map(|l| l.split_whitespace().collect::<Vec<_>>())
        .any(|w| w.len() > 7 && w[0] == dev && w[1] == "00000000" && w[7] == "00000000");
    // destination prefix-length source prefix-length next-hop metric refcnt use flags dev
    let six = ipv6
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>())
        .any(|w| w.len() > 9 && w[9] == dev && w[1] == "00" && w[0].bytes().all(|b| b == b'0'));
    four || six
}

/// Keeps the calling thread on one CPU.
pub fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("there is no CPU {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("running on CPU {cpu}"))
}

/// Lets the calling thread run on every CPU again.
pub fn unpin() {
    let mut set = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        // Every number below the count is a CPU of the set.
        let _ = set.set(cpu);
    }
    // Where it fails the thread stays where it is, which is slower at most.
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

/// Runs `work` on a thread of its own, in the place's namespace, on one CPU if given.
pub fn thread<T: Send + 'static>(
    place: &Place,
    cpu: Option<usize>,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> std::thread::JoinHandle<anyhow::Result<T>> {
    let place = place.clone();
    std::thread::spawn(move || {
        if let Some(cpu) = cpu {
            pin(cpu)?;
        }
        place.enter()?;
        work()
    })
}

/// What a thread of [`thread`] came to.
pub fn join<T>(thread: std::thread::JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(_) => bail!("a thread of the generator panicked"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let place = |text: &str| text.parse::<Place>();
        assert_eq!(place("eth0").unwrap(), Place { netns: None, dev: "eth0".into() });
        assert_eq!(place("blue:eth0").unwrap().netns, Some("/run/netns/blue".into()));
        assert_eq!(place("/proc/7/ns/net:eth0").unwrap().netns, Some("/proc/7/ns/net".into()));
        assert!(place("blue:").is_err());
        assert!(place("an-interface-too-long").is_err());
    }

    #[test]
    fn a_place_is_the_same_by_another_name() {
        let place = |text: &str| text.parse::<Place>().unwrap();
        assert!(place("lo").is(&place("lo")) && place("no-such:x").is(&place("no-such:x")));
        assert!(place("lo").is(&place("/proc/self/ns/net:lo")));
        assert!(!place("lo").is(&place("eth0")) && !place("no-such:x").is(&place("other:x")));
    }

    #[test]
    fn default_routes_are_seen_and_others_are_not() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n";
        let default = format!("{head}eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
        let subnet = format!("{head}eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n");
        assert!(has_default_route(&default, "", "eth0"));
        assert!(!has_default_route(&default, "", "eth1"));
        assert!(!has_default_route(&subnet, "", "eth0"));
        let zero = "0".repeat(32);
        let six = format!("{zero} 00 {zero} 00 fe80 00000400 00000001 00000000 00000003 eth0\n");
        assert!(has_default_route("", &six, "eth0"));
        assert!(!has_default_route("", &six.replacen(" 00 ", " 40 ", 1), "eth0"));
    }
}
