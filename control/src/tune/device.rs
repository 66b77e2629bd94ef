//! One interface: queues, rings, interrupts, offloads, where it is plugged in.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use host::{Ethtool, Handle};
use podswitch_api::state::Switch;

use super::machine::{list, text};
use super::{Finding, Level, Machine};

/// Frames that a receive ring should hold: two milliseconds at a million a second.
const RING: u32 = 2048;

/// What an interface has.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// The driver, or the kind of a virtual device.
    pub driver: Option<String>,
    /// Receive queues in use.
    pub queues: u32,
    /// Receive queues there could be.
    pub queues_max: u32,
    /// Descriptors of a receive ring, and how many there could be; absent for virtual devices.
    pub ring: Option<(u32, u32)>,
    /// Whether the device or its driver merges received packets, which XDP cannot have.
    pub merges: bool,
    /// The NUMA node that it is plugged into.
    pub node: Option<usize>,
    /// The CPUs that each of its interrupts may go to.
    pub interrupts: Vec<BTreeSet<usize>>,
}

impl Device {
    /// Reads an interface of this network namespace.
    pub fn read(name: &str) -> host::Result<Device> {
        let missing = || host::Error::NotFound { what: format!("the interface {name}") };
        let link = Handle::current()?.link_by_name(name)?.ok_or_else(missing)?;
        let ethtool = Ethtool::current()?;
        let channels = ethtool.channels(link.index)?;
        let features = ethtool.features(link.index)?;
        let rings = ethtool.rings(link.index)?;
        // Not under /sys/class/net, which shows the namespace that /sys was mounted in.
        let parent = link.parent.as_ref();
        let folder =
            parent.map(|(bus, dev)| PathBuf::from(format!("/sys/bus/{bus}/devices/{dev}")));
        let node = folder.as_ref().and_then(|f| text(f.join("numa_node")).parse().ok());
        let queues = channels.map_or(1, |c| c.rx.max(1));
        Ok(Device {
            name: name.to_owned(),
            driver: link.driver(),
            queues,
            queues_max: channels.map_or(queues, |c| c.rx_max.max(queues)),
            ring: rings.map(|r| (r.rx, r.rx_max)).filter(|(_, most)| *most > 0),
            merges: features.has("rx-lro") || features.has("rx-gro-hw"),
            node,
            interrupts: folder.map(|f| interrupts(&f.join("msi_irqs"))).unwrap_or_default(),
        })
    }
}

fn interrupts(folder: &std::path::Path) -> Vec<BTreeSet<usize>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let number = |e: std::io::Result<fs::DirEntry>| e.ok()?.file_name().into_string().ok();
    let cpus = |irq: String| list(&text(format!("/proc/irq/{irq}/effective_affinity_list")));
    entries.filter_map(number).map(cpus).filter(|c| !c.is_empty()).collect()
}

/// What of an interface is not ideal for a switch so configured.
pub fn check(switch: &Switch, machine: &Machine, device: &Device) -> Vec<Finding> {
    let mut findings = vec![queues(switch, device), merging(device)];
    findings.extend(ring(device));
    findings.extend(spread(device));
    findings.extend(node(switch, machine, device));
    findings.into_iter().map(|f| f.of(&device.name)).collect()
}

fn queues(switch: &Switch, device: &Device) -> Finding {
    let (queues, workers) = (device.queues, u32::from(switch.workers));
    let found = Finding::ok("queues", format!("{queues} receive queues, {workers} workers"));
    if queues < workers {
        let cure = if device.queues_max > queues {
            let wanted = workers.min(device.queues_max);
            format!("ethtool -L {} combined {wanted}", device.name)
        } else {
            format!("set workers in [switch] to {queues}")
        };
        let why = "a worker without a queue hands its frames to one that has, which copies them";
        return found.but(Level::Advice, why, cure);
    }
    found.unless(
        !queues.is_multiple_of(workers.max(1)),
        Level::Advice,
        "queues go to workers in turn, so that some have more to do than others",
        format!("ethtool -L {} combined {workers}", device.name),
    )
}

fn merging(device: &Device) -> Finding {
    let found = if device.merges { "merges received packets" } else { "does not merge packets" };
    Finding::ok("offloads", format!("the device {found}")).unless(
        device.merges,
        Level::Warning,
        "drivers refuse an XDP program meanwhile, or hide packets from it",
        format!("ethtool -K {0} lro off; ethtool -K {0} rx-gro-hw off", device.name),
    )
}

fn ring(device: &Device) -> Option<Finding> {
    let (now, most) = device.ring?;
    let wanted = RING.min(most);
    Some(Finding::ok("rx-ring", format!("receive rings of {now} (at most {most})")).unless(
        now < wanted,
        Level::Advice,
        "a burst that comes while the worker is not running does not fit, and is lost in the device",
        format!("ethtool -G {} rx {wanted}", device.name),
    ))
}

fn spread(device: &Device) -> Option<Finding> {
    let all: BTreeSet<usize> = device.interrupts.iter().flatten().copied().collect();
    if device.interrupts.is_empty() {
        return None;
    }
    let found = Finding::ok("irq-affinity", format!("interrupts go to CPUs {all:?}"));
    Some(found.unless(
        device.queues > 1 && all.len() < 2,
        Level::Advice,
        "one CPU does the driver's work for all queues",
        "write a CPU of its own into /proc/irq/N/smp_affinity_list for each queue's interrupt, best \
         the core beside its worker's, and keep irqbalance from undoing it",
    ))
}

fn node(switch: &Switch, machine: &Machine, device: &Device) -> Option<Finding> {
    let node = device.node?;
    let far = |cpu: &&u16| machine.nodes.get(&usize::from(**cpu)).is_some_and(|n| *n != node);
    let cpus: Vec<_> = machine.nodes.iter().filter(|(_, n)| **n == node).map(|(c, _)| c).collect();
    Some(Finding::ok("numa", format!("the device is at NUMA node {node}")).unless(
        switch.cpus.iter().any(|cpu| far(&cpu)),
        Level::Advice,
        "a worker runs on another node, so that each packet crosses between the two",
        format!("choose cpus in [switch] from {cpus:?}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ideal() -> Device {
        Device {
            name: "nic".to_owned(),
            driver: Some("ice".to_owned()),
            queues: 2,
            queues_max: 8,
            ring: Some((2048, 8160)),
            merges: false,
            node: Some(0),
            interrupts: vec![BTreeSet::from([0]), BTreeSet::from([1])],
        }
    }

    fn bad(workers: u16, device: &Device) -> Vec<(&'static str, Option<String>)> {
        let switch = Switch { workers, cpus: vec![0], ..Switch::default() };
        let nodes = [(0, 0), (1, 0), (2, 1)].into();
        let machine = Machine { cpus: (0..3).collect(), nodes, ..Machine::default() };
        let found = check(&switch, &machine, device).into_iter();
        found.filter(|f| f.level != Level::Ok).map(|f| (f.check, f.cure)).collect()
    }

    #[test]
    fn each_flaw_is_named_with_its_cure() {
        assert_eq!(bad(2, &ideal()), []);
        let cure = |device: Device, workers| {
            let mut found = bad(workers, &device);
            assert_eq!(found.len(), 1, "{found:?}");
            let (check, cure) = found.remove(0);
            (check, cure.expect("a cure"))
        };
        let queues = |n: &str| ("queues", format!("ethtool -L nic combined {n}"));
        assert_eq!(cure(Device { queues: 1, ..ideal() }, 4), queues("4"));
        assert_eq!(cure(Device { queues: 3, ..ideal() }, 2), queues("2"));
        let (check, text) = cure(Device { queues: 1, queues_max: 1, ..ideal() }, 2);
        assert_eq!((check, text.contains("workers")), ("queues", true));
        let ring = ("rx-ring", "ethtool -G nic rx 1024".to_owned());
        assert_eq!(cure(Device { ring: Some((512, 1024)), ..ideal() }, 2), ring);
        assert_eq!(cure(Device { merges: true, ..ideal() }, 2).0, "offloads");
        assert_eq!(cure(Device { node: Some(1), ..ideal() }, 2).0, "numa");
        let same = vec![BTreeSet::from([1]); 2];
        assert_eq!(cure(Device { interrupts: same, ..ideal() }, 2).0, "irq-affinity");
    }
}
