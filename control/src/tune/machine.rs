//! The machine: CPUs, memory, limits, the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use podswitch_api::state::Switch;

use super::{Finding, Level, absent_cpu};

/// CAP_IPC_LOCK and CAP_SYS_RESOURCE of linux/capability.h: either lifts the limit on locked memory.
const CAPABILITIES: u64 = 1 << 14 | 1 << 24;
/// Ports that the limits should be enough for.
const PORTS: u64 = 250;
/// Bytes of a buffer.
const BUFFER: u64 = 4096;

/// What the machine has.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// CPUs that run.
    pub cpus: BTreeSet<usize>,
    /// CPUs that share a core with others.
    pub siblings: BTreeMap<usize, BTreeSet<usize>>,
    /// The NUMA node of each CPU.
    pub nodes: BTreeMap<usize, usize>,
    /// The frequency governors, where the kernel has a say.
    pub governors: BTreeSet<String>,
    /// net.core.bpf_jit_enable, where it is there to be read.
    pub jit: Option<u32>,
    /// The choice in /sys/kernel/mm/transparent_hugepage/enabled.
    pub huge_pages: Option<String>,
    /// Whether /sys/fs/bpf is a BPF file system.
    pub bpffs: bool,
    /// The limit on locked memory in bytes; absent when there is none, or it does not hold for us.
    pub memlock: Option<u64>,
    /// The most open files that may be asked for.
    pub files: u64,
    /// The kernel's version.
    pub kernel: (u32, u32),
}

impl Machine {
    /// Reads it. What cannot be read is absent.
    pub fn read() -> Machine {
        let cpus = super::online();
        let of_cpu = |file: &str| -> BTreeMap<usize, String> {
            let path = |cpu| format!("/sys/devices/system/cpu/cpu{cpu}/{file}");
            cpus.iter().map(|&cpu| (cpu, text(path(cpu)))).filter(|(_, t)| !t.is_empty()).collect()
        };
        let siblings = of_cpu("topology/thread_siblings_list");
        let privileged = capabilities() & CAPABILITIES != 0;
        let limit = |resource| getrlimit(resource).map_or(RLIM_INFINITY, |(_, hard)| hard);
        let memlock = Some(limit(Resource::RLIMIT_MEMLOCK));
        let huge = text("/sys/kernel/mm/transparent_hugepage/enabled");
        Machine {
            siblings: siblings.into_iter().map(|(cpu, text)| (cpu, list(&text))).collect(),
            nodes: nodes(),
            governors: of_cpu("cpufreq/scaling_governor").into_values().collect(),
            jit: text("/proc/sys/net/core/bpf_jit_enable").parse().ok(),
            huge_pages: chosen(&huge),
            bpffs: statfs("/sys/fs/bpf").is_ok_and(|s| s.filesystem_type() == BPF_FS_MAGIC),
            memlock: memlock.filter(|&m| m != RLIM_INFINITY && !privileged),
            files: limit(Resource::RLIMIT_NOFILE),
            kernel: version(&text("/proc/sys/kernel/osrelease")),
            cpus,
        }
    }
}

/// What of the machine is not ideal for a switch so configured.
pub fn check(switch: &Switch, machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![workers(switch, machine)];
    findings.extend(pinning(switch, machine));
    findings.extend(frequency(machine));
    findings.extend(jit(machine));
    findings.extend(huge_pages(machine));
    findings.push(bpffs(machine));
    findings.push(memlock(switch, machine));
    findings.push(files(switch, machine));
    findings.push(kernel(machine));
    findings
}

fn workers(switch: &Switch, machine: &Machine) -> Finding {
    let (workers, cpus) = (usize::from(switch.workers), machine.cpus.len());
    Finding::ok("workers", format!("{workers} workers, {cpus} CPUs")).unless(
        workers > cpus,
        Level::Warning,
        "workers take turns on a CPU, and each waits for the other",
        format!("set workers in [switch] to {cpus} at most"),
    )
}

fn pinning(switch: &Switch, machine: &Machine) -> Option<Finding> {
    if switch.cpus.is_empty() {
        let found = Finding::ok("pinning", "no worker is pinned to a CPU");
        let why = "the scheduler moves workers, which then find their data in another core's cache";
        return Some(found.unless(
            switch.workers > 1,
            Level::Advice,
            why,
            "set cpus in [switch], one for each worker",
        ));
    }
    let cpus: Vec<usize> = switch.cpus.iter().map(|&cpu| usize::from(cpu)).collect();
    let found = Finding::ok("pinning", format!("workers are pinned to CPUs {cpus:?}"));
    if let Some(cpu) = absent_cpu(switch, &machine.cpus) {
        let why = format!("there is no CPU {cpu}, or it is offline: podswitch does not start");
        return Some(found.but(Level::Warning, &why, "name CPUs that are online in cpus"));
    }
    let shares_core = |(i, cpu): (usize, &usize)| {
        let core = machine.siblings.get(cpu);
        cpus[..i].iter().any(|other| other == cpu || core.is_some_and(|c| c.contains(other)))
    };
    Some(found.unless(
        cpus.iter().enumerate().any(shares_core),
        Level::Advice,
        "two of them share a core, and have half of it each",
        "choose CPUs of different cores; thread_siblings_list in \
         /sys/devices/system/cpu/cpu*/topology tells which share one",
    ))
}

fn frequency(machine: &Machine) -> Option<Finding> {
    if machine.governors.is_empty() {
        return None;
    }
    let names: Vec<&str> = machine.governors.iter().map(String::as_str).collect();
    Some(Finding::ok("cpu-governor", names.join(", ")).unless(
        machine.governors.iter().any(|g| g != "performance"),
        Level::Advice,
        "a CPU that slept starts slowly, which the first packets wait for",
        "cpupower frequency-set -g performance",
    ))
}

fn jit(machine: &Machine) -> Option<Finding> {
    let jit = machine.jit?;
    Some(Finding::ok("bpf-jit", format!("net.core.bpf_jit_enable is {jit}")).unless(
        jit == 0,
        Level::Warning,
        "the XDP program is interpreted for every packet",
        "sysctl -w net.core.bpf_jit_enable=1",
    ))
}

fn huge_pages(machine: &Machine) -> Option<Finding> {
    let choice = machine.huge_pages.as_ref()?;
    Some(Finding::ok("huge-pages", format!("transparent huge pages: {choice}")).unless(
        choice == "never",
        Level::Advice,
        "packet buffers are on small pages, so that large working sets miss the TLB",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
    ))
}

fn bpffs(machine: &Machine) -> Finding {
    let found = if machine.bpffs { "is a BPF file system" } else { "is not a BPF file system" };
    Finding::ok("bpffs", format!("/sys/fs/bpf {found}")).unless(
        !machine.bpffs,
        Level::Warning,
        "links cannot be pinned: a restart takes the program off the interfaces for a moment",
        "mount -t bpf bpf /sys/fs/bpf",
    )
}

fn memlock(switch: &Switch, machine: &Machine) -> Finding {
    let Some(limit) = machine.memlock else {
        return Finding::ok("memlock", "locked memory is not limited");
    };
    // Each registration counts, though all of a worker's are of the same memory.
    let needed = PORTS * u64::from(switch.workers) * u64::from(switch.frames) * BUFFER;
    let mib = |bytes: u64| bytes >> 20;
    let cure = "grant CAP_IPC_LOCK, or set LimitMEMLOCK=infinity in the unit";
    Finding::ok("memlock", format!("locked memory is limited to {} MiB", mib(limit))).unless(
        limit < needed,
        Level::Warning,
        &format!("{PORTS} ports count as {} MiB, so that some are refused", mib(needed)),
        cure,
    )
}

fn files(switch: &Switch, machine: &Machine) -> Finding {
    // A socket for each queue of a port; links, maps and clients besides.
    let needed = PORTS * u64::from(switch.workers) * 2 + 256;
    let limit =
        if machine.files == RLIM_INFINITY { "no".into() } else { machine.files.to_string() };
    Finding::ok("open-files", format!("the limit on open files: {limit}")).unless(
        machine.files < needed,
        Level::Warning,
        &format!("{PORTS} ports need about {needed}"),
        format!("set LimitNOFILE={needed} or more in the unit"),
    )
}

fn kernel(machine: &Machine) -> Finding {
    let (major, minor) = machine.kernel;
    let found = Finding::ok("kernel", format!("Linux {major}.{minor}"));
    if machine.kernel < (6, 6) {
        let why =
            "no frame may be larger than one buffer, so that pods have an MTU of 3506 at most";
        return found.but(Level::Advice, why, "Linux 6.6 or later");
    }
    found.unless(
        machine.kernel < (6, 17),
        Level::Advice,
        "a system call sends 32 frames at most in copy mode: XDP_MAX_TX_SKB_BUDGET is not there",
        "Linux 6.17 or later",
    )
}

/// A file's text, without the newline at its end; empty if there is none.
pub fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default().trim_end().to_owned()
}

/// A list of CPUs as the kernel writes it: `0-3,8`.
pub fn list(text: &str) -> BTreeSet<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// The word in brackets: `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-', '+']).map_while(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn capabilities() -> u64 {
    let status = text("/proc/self/status");
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    line.and_then(|l| u64::from_str_radix(l.trim(), 16).ok()).unwrap_or(0)
}

fn nodes() -> BTreeMap<usize, usize> {
    let folder = "/sys/devices/system/node";
    let numbers = list(&text(format!("{folder}/online")));
    let cpus = |node: usize| {
        let cpus = list(&text(format!("{folder}/node{node}/cpulist")));
        cpus.into_iter().map(move |cpu| (cpu, node))
    };
    numbers.into_iter().flat_map(cpus).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ideal() -> Machine {
        Machine {
            cpus: (0..8).collect(),
            siblings: (0..8).map(|n| (n, BTreeSet::from([n % 4, n % 4 + 4]))).collect(),
            nodes: (0..8).map(|n| (n, 0)).collect(),
            governors: BTreeSet::from(["performance".to_owned()]),
            jit: Some(1),
            huge_pages: Some("madvise".to_owned()),
            bpffs: true,
            memlock: None,
            files: 65_536,
            kernel: (6, 17),
        }
    }

    fn bad(switch: &Switch, machine: &Machine) -> Vec<&'static str> {
        let findings = check(switch, machine);
        let all_said = |f: &&Finding| f.why.is_some() == (f.level != Level::Ok);
        assert!(findings.iter().all(|f| all_said(&f)), "{findings:?}");
        findings.iter().filter(|f| f.level != Level::Ok).map(|f| f.check).collect()
    }

    #[test]
    fn an_ideal_machine_has_nothing_to_be_told() {
        assert_eq!(bad(&Switch::default(), &ideal()), [""; 0]);
        let pinned = Switch { workers: 2, cpus: vec![1, 2], ..Switch::default() };
        assert_eq!(bad(&pinned, &ideal()), [""; 0]);
    }

    #[test]
    fn each_flaw_is_named() {
        let with = |change: fn(&mut Machine)| {
            let mut machine = ideal();
            change(&mut machine);
            bad(&Switch::default(), &machine)
        };
        assert_eq!(with(|m| m.jit = Some(0)), ["bpf-jit"]);
        assert_eq!(with(|m| m.huge_pages = Some("never".into())), ["huge-pages"]);
        assert_eq!(with(|m| m.bpffs = false), ["bpffs"]);
        assert_eq!(with(|m| m.memlock = Some(8 << 20)), ["memlock"]);
        assert_eq!(with(|m| m.files = 256), ["open-files"]);
        assert_eq!(with(|m| m.kernel = (6, 1)), ["kernel"]);
        assert_eq!(with(|m| m.kernel = (6, 16)), ["kernel"]);
        assert_eq!(with(|m| m.governors = ["powersave".into()].into()), ["cpu-governor"]);
        assert_eq!(with(|m| m.governors.clear()), [""; 0], "a virtual machine has none");
    }

    #[test]
    fn workers_want_cores_of_their_own() {
        let pinned = |cpus: &[u16]| {
            let workers = cpus.len() as u16;
            bad(&Switch { workers, cpus: cpus.to_vec(), ..Switch::default() }, &ideal())
        };
        assert_eq!(pinned(&[1, 5]), ["pinning"], "two threads of one core");
        assert_eq!(pinned(&[1, 1]), ["pinning"]);
        assert_eq!(pinned(&[1, 9]), ["pinning"], "there is none");
        assert_eq!(bad(&Switch { workers: 2, ..Switch::default() }, &ideal()), ["pinning"]);
        let many = Switch { workers: 9, ..Switch::default() };
        assert_eq!(bad(&many, &ideal()), ["workers", "pinning"]);
    }

    #[test]
    fn the_kernels_notations_are_read() {
        assert_eq!(list("0-2,8"), BTreeSet::from([0, 1, 2, 8]));
        assert_eq!(list(""), BTreeSet::new());
        assert_eq!(chosen("always [madvise] never"), Some("madvise".to_owned()));
        assert_eq!(version("6.18.44-generic"), (6, 18));
    }

    #[test]
    fn this_machine_is_read() {
        let machine = Machine::read();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        assert!(machine.cpus.len() >= cpus, "{machine:?}");
        assert!(machine.kernel >= (5, 0), "{machine:?}");
    }
}
