//! Network namespaces, and the smallest pipeline there is.
#![allow(dead_code, reason = "each test uses a part")]

use fastpath::config::{AttachSpec, Preference, Role};
use fastpath::{Attached, Counters, Engine, EngineConfig, Error, Pipeline};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use switch::{Io, Millis, PortId, WorkerCounters};

/// Whether the tests can run; says why when not.
pub fn can_run() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    eprintln!("SKIPPED: needs root, for network namespaces and AF_XDP");
    false
}

/// Waits until something holds.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(5), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command line; its output.
pub fn try_sh(line: &str) -> Output {
    Command::new("sh").args(["-c", line]).output().unwrap()
}

/// Runs a command line that must succeed; what it printed.
pub fn sh(line: &str) -> String {
    let output = try_sh(line);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}\n{text}{errors}");
    text
}

/// Makes a namespace that of the calling thread.
pub fn enter(netns: &str) {
    let namespace = File::open(format!("/run/netns/{netns}")).unwrap();
    setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
}

/// A switch's namespace and hosts around it, removed when dropped.
pub struct Lab {
    prefix: String,
    hosts: usize,
}

impl Lab {
    /// A namespace for the switch, which the calling thread enters, and `hosts` hosts, each joined
    /// to it by a veth pair: `p0`, `p1`, … here, `eth0` with 10.0.0.1, 10.0.0.2, … there.
    pub fn new(hosts: usize, mtu: u32, queues: u32) -> Lab {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut lab = Lab { prefix: format!("fastpath{}x{n}", std::process::id()), hosts: 0 };
        sh(&format!("ip netns add {}", lab.switch()));
        lab.enter();
        sh("ip link set lo up");
        for n in 0..hosts {
            lab.add_host(n, mtu, queues);
        }
        lab
    }

    /// Makes the switch's namespace that of the calling thread.
    pub fn enter(&self) {
        enter(&self.switch());
    }

    /// One more host.
    pub fn add_host(&mut self, n: usize, mtu: u32, queues: u32) {
        sh(&format!("ip netns add {}", self.host(n)));
        self.hosts += 1;
        self.join(n, mtu, queues);
    }

    /// Joins a host to the switch.
    pub fn join(&self, n: usize, mtu: u32, queues: u32) {
        let host = self.host(n);
        sh(&format!(
            "ip link add p{n} mtu {mtu} numrxqueues {queues} numtxqueues {queues} type veth \
             peer name eth0 mtu {mtu} numrxqueues {queues} numtxqueues {queues} netns {host} && \
             sysctl -qw net.ipv6.conf.p{n}.disable_ipv6=1 && ip link set p{n} up"
        ));
        self.at(
            n,
            &format!(
                "sysctl -qw net.ipv6.conf.all.disable_ipv6=1; ip link set lo up; \
                 ip link set eth0 up; ip addr add 10.0.0.{}/24 dev eth0; \
                 ethtool -K eth0 tx off >/dev/null",
                n + 1
            ),
        );
    }

    fn switch(&self) -> String {
        format!("{}s", self.prefix)
    }

    /// The name of a host's namespace.
    pub fn host(&self, n: usize) -> String {
        format!("{}h{n}", self.prefix)
    }

    /// Runs a command line on a host.
    pub fn at(&self, host: usize, line: &str) -> String {
        sh(&format!("ip netns exec {} sh -c '{line}'", self.host(host)))
    }

    /// Runs a command line on a host that may fail.
    pub fn try_at(&self, host: usize, line: &str) -> Output {
        try_sh(&format!("ip netns exec {} sh -c '{line}'", self.host(host)))
    }

    /// A TCP stream from host 0 to host 1 for `seconds`; Gbit/s.
    pub fn iperf(&self, seconds: u32, options: &str) -> f64 {
        self.iperf_between(0, 1, seconds, options)
    }

    /// A TCP stream from one host to another for `seconds`; Gbit/s.
    pub fn iperf_between(&self, from: usize, to: usize, seconds: u32, options: &str) -> f64 {
        self.at(to, "iperf3 -s -1 -D");
        std::thread::sleep(std::time::Duration::from_millis(300));
        let to = to + 1;
        let json = self.at(from, &format!("iperf3 -c 10.0.0.{to} -t {seconds} -J {options}"));
        let line = json.rsplit("\"sum_received\"").next().unwrap();
        let rate = line.split("\"bits_per_second\":").nth(1).unwrap();
        rate.split(',').next().unwrap().trim().parse::<f64>().unwrap() / 1e9
    }

    /// Where links may be pinned.
    pub fn pins(&self) -> std::path::PathBuf {
        format!("/sys/fs/bpf/{}", self.prefix).into()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for n in 0..self.hosts {
            try_sh(&format!("ip netns pids {0} | xargs -r kill; ip netns del {0}", self.host(n)));
        }
        try_sh(&format!("ip netns del {}", self.switch()));
        try_sh(&format!("rm -f {0}/*; rmdir {0}", self.pins().display()));
    }
}

/// Every frame of an even port leaves on the next one, and the other way round.
pub struct Patch(Arc<WorkerCounters>);

impl Pipeline for Patch {
    fn process<I: Io>(
        &mut self,
        ingress: PortId,
        _: Millis,
        batch: &mut Vec<I::Frame>,
        io: &mut I,
    ) {
        use switch::Frame;
        let counters = self.0.port(ingress);
        counters.rx_frames.add(batch.len() as u64);
        counters.rx_bytes.add(batch.iter().map(|f| f.len() as u64).sum());
        for frame in batch.drain(..) {
            io.send(PortId(ingress.0 ^ 1), frame);
        }
    }
}

/// An engine that patches ports through in pairs.
pub fn patch_panel(config: EngineConfig) -> Engine {
    Engine::start_with(config, |_, counters| Some(Patch(counters))).unwrap()
}

/// Attaches `p<n>` as port n.
pub fn attach(engine: &Engine, n: u16, mode: Preference) -> Result<Attached, Error> {
    engine.attach(PortId(n), &AttachSpec { mode, ..spec(&format!("p{n}")) })
}

/// How an interface is attached as a bridge port with all of its queues.
pub fn spec(ifname: &str) -> AttachSpec {
    let ifindex = nix::net::if_::if_nametoindex(ifname).unwrap();
    let (role, mode) = (Role::Port, Preference::Auto);
    AttachSpec { ifname: ifname.to_owned(), ifindex, role, queues: None, mode }
}

/// Asserts that every frame received was sent or dropped by name.
pub fn assert_conserved(counters: &Counters) {
    let (mut came, mut went) = (0, 0);
    for (id, p) in &counters.ports {
        came += p.rx_frames + p.originated;
        went += p.tx_frames + p.coalesced + p.dropped() + p.in_flight;
        eprintln!(
            "port {id}: rx {} tx {} dropped {} in flight {} kernel {:?}",
            p.rx_frames,
            p.tx_frames,
            p.dropped(),
            p.in_flight,
            p.kernel
        );
    }
    assert_eq!(came, went, "{counters:#?}");
}
