//! What a port costs: kernel memory, time to attach, and CPU when nothing happens.
//!
//! Run as root, in a network namespace of its own:
//! `unshare -n cargo run --release -p fastpath --example port_cost -- PORTS FRAMES`

use fastpath::config::{AttachSpec, Preference, Role};
use fastpath::{Engine, EngineConfig, Pipeline};
use std::process::Command;
use std::time::{Duration, Instant};
use switch::{Io, Millis, PortId};

/// Drops everything.
struct Sink;

impl Pipeline for Sink {
    fn process<I: Io>(&mut self, _: PortId, _: Millis, batch: &mut Vec<I::Frame>, io: &mut I) {
        batch.drain(..).for_each(|frame| io.discard(frame));
    }
}

/// A line of /proc/meminfo, KiB.
fn meminfo(name: &str) -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Clock ticks that this process has used, 100 a second.
fn cpu_ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    fields.iter().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u32>());
    let ports = args.next().transpose()?.unwrap_or(100);
    let frames = args.next().transpose()?.unwrap_or(8192);
    for n in 0..ports {
        let up = format!(
            "ip link add p{n} type veth peer name q{n} && \
             sysctl -qw net.ipv6.conf.p{n}.disable_ipv6=1 net.ipv6.conf.q{n}.disable_ipv6=1 && \
             ip link set p{n} up && ip link set q{n} up"
        );
        if !Command::new("sh").args(["-c", &up]).status()?.success() {
            return Err("cannot make a veth pair; run as root with `unshare -n`".into());
        }
    }
    let config = EngineConfig { frames_per_worker: frames, ..EngineConfig::default() };
    let engine = Engine::start_with(config, |_, _| Some(Sink))?;
    std::thread::sleep(Duration::from_secs(1));
    let before = (meminfo("VmallocUsed"), meminfo("Slab"), meminfo("MemFree"));
    let (ticks, start) = (cpu_ticks(), Instant::now());
    for n in 0..ports {
        let ifname = format!("p{n}");
        let ifindex = nix::net::if_::if_nametoindex(ifname.as_str())?;
        let mode = Preference::Auto;
        let spec = AttachSpec { ifname, ifindex, role: Role::Port, queues: None, mode };
        engine.attach(PortId(n as u16), &spec)?;
    }
    let took = start.elapsed();
    let cpu = (cpu_ticks() - ticks) as f64 * 10.0 / f64::from(ports);
    std::thread::sleep(Duration::from_secs(1));
    let per = |name, before| (meminfo(name) - before) as f64 / f64::from(ports);
    println!("{ports} ports, {frames} buffers");
    println!("attach            {:8.2} ms a port", took.as_secs_f64() * 1e3 / f64::from(ports));
    println!("of which CPU      {cpu:8.2} ms a port");
    println!("vmalloc           {:8.0} KiB a port", per("VmallocUsed", before.0));
    println!("slab              {:8.0} KiB a port", per("Slab", before.1));
    println!("all kernel memory {:8.0} KiB a port", -per("MemFree", before.2));
    println!("free buffers      {:8}", engine.counters().buffers[0].1);
    let (ticks, start) = (cpu_ticks(), Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    let used = (cpu_ticks() - ticks) as f64 / start.elapsed().as_secs_f64();
    println!("idle              {used:8.2} % of a core");
    let start = Instant::now();
    engine.stop();
    println!(
        "detach            {:8.2} ms a port",
        start.elapsed().as_secs_f64() * 1e3 / f64::from(ports)
    );
    Ok(())
}
