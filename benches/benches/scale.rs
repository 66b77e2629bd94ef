//! Tables at scale: what an entry takes, what looking it up and changing it cost, and what a packet costs
//! while 100,000 routes a second change. `docs/performance.md` has the figures.
//!
//! `BENCH_QUICK` set makes it short.

use podswitch_benches::headers::Headers;
use podswitch_benches::heap::Counting;
use podswitch_benches::packets::Sequence;
use podswitch_benches::rig::{Rig, VECTOR};
use podswitch_benches::{churn, routes, scenario, tsc};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use switch::tables::{PathMtu, Rib, Tunnel};
use switch::{Fdb, Location, PortId, SegmentId, TunnelId};

#[global_allocator]
static HEAP: Counting = Counting::new();

/// Addresses that are looked up in turn.
const ADDRESSES: usize = 1 << 16;
/// Vectors that are forwarded before it is the turn of the other case.
const ROUND: u64 = 1000;

fn main() {
    let quick = std::env::var_os("BENCH_QUICK").is_some();
    println!(
        "{:<28} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "build", "MiB", "bytes", "clocks", "kchanges"
    );
    println!(
        "{:<28} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "table", "ms", "held", "an entry", "a lookup", "a second"
    );
    for n in [1, 10_000, 500_000, 1_000_000] {
        fib(&format!("IPv4, {n} routes"), &routes::mixture_v4(n));
    }
    fib("IPv6, 250000 routes", &routes::mixture_v6(250_000));
    macs(1_000_000);
    tunnels(10_000);
    println!();
    for n in [10_000, 1_000_000] {
        forwarding(n, if quick { 12 } else { 120 });
    }
}

/// Runs `make` and prints what it took, of time and memory.
fn held<T>(name: &str, n: usize, make: impl FnOnce() -> T) -> T {
    let (before, start) = (HEAP.held(), Instant::now());
    let made = make();
    let (took, held) = (start.elapsed(), HEAP.held() - before);
    let (ms, mib) = (took.as_secs_f64() * 1e3, held as f64 / 1048576.0);
    print!("{name:<28} {ms:>9.1} {mib:>9.1} {:>9.1}", held as f64 / n as f64);
    made
}

/// The fastest of a few runs over so many things, in clocks for each: what it costs when the core is
/// not taken away in the middle.
fn clocks(things: usize, mut run: impl FnMut()) -> f64 {
    let once = |()| {
        let start = tsc::now();
        run();
        tsc::now() - start
    };
    let fastest = [(); 15].map(once).into_iter().min().unwrap_or_default();
    fastest as f64 / things as f64
}

/// A table of routes: the sorted routes and the trie together.
fn fib(name: &str, prefixes: &[encap::Prefix]) {
    let sequence = &mut Sequence::new();
    let all = || prefixes.iter().copied().zip((0..scenario::NEXT_HOPS).cycle());
    let mut rib = held(name, prefixes.len(), || {
        let mut rib = Rib::from_routes(all());
        rib.snapshot();
        rib
    });
    let fib = rib.snapshot();
    let ips: Vec<_> = (0..ADDRESSES)
        .map(|_| prefixes[sequence.below(prefixes.len() as u32) as usize].addr())
        .collect();
    let lookup = clocks(ips.len(), || {
        assert_eq!(ips.iter().filter_map(|&ip| fib.lookup(black_box(ip))).count(), ips.len());
    });
    // As a worker would, who looks into what is changed.
    let mut held = fib;
    let mut churn = churn::Churn::new(prefixes.to_vec());
    let changes = 20_000;
    let per_change = clocks(changes, || {
        for _ in 0..changes / churn::BATCH {
            (0..churn::BATCH).for_each(|_| churn.change(&mut rib));
            held = rib.amend().unwrap_or(held.clone());
        }
    });
    println!(" {lookup:>9.1} {:>9.0}", tsc::per_nanosecond() * 1e6 / per_change);
}

/// Learned addresses.
fn macs(n: u32) {
    let mac = |i: u32| encap::Mac::from_u64(0x0200_0000_0000 | u64::from(i));
    let (segment, at) = (SegmentId(1), Location::Port(PortId(1)));
    let mut lost = 0;
    let fdb = held(&format!("{n} MAC addresses"), n as usize, || {
        let fdb = Fdb::new(n as usize);
        for i in 0..n {
            lost +=
                u32::from(fdb.learn(segment, mac(i), at, 0, 300) != switch::tables::Learned::New);
        }
        fdb
    });
    // An address whose two buckets are full is flooded: few are, as long as the capacity is enough.
    assert!(lost < n / 1000, "{lost} do not fit");
    let sequence = &mut Sequence::new();
    let order: Vec<_> = (0..ADDRESSES).map(|_| mac(sequence.below(n))).collect();
    let lookup = clocks(order.len(), || {
        let found = order.iter().filter(|&&m| fdb.lookup(segment, black_box(m), 1).is_some());
        assert!(found.count() > ADDRESSES / 1000 * 999);
    });
    let learn = clocks(order.len(), || {
        for &m in &order {
            black_box(fdb.learn(segment, m, at, 0, 300));
        }
    });
    println!(" {lookup:>9.1} {:>9.0}", tsc::per_nanosecond() * 1e6 / learn);
}

/// Tunnels by identifier, and how the underlay's packets find theirs.
fn tunnels(n: u32) {
    let tables = held(&format!("{n} VXLAN tunnels"), n as usize, || {
        let mut tables = scenario::vxlan_tunnels(n);
        // What the workers learn of each path is the peer's own, as in the daemon.
        let own = |t: &Tunnel| Arc::new(Tunnel { path: Arc::new(PathMtu::default()), ..t.clone() });
        tables.tunnels = tables.tunnels.iter().map(|t| t.as_deref().map(own)).collect();
        tables
    });
    let sequence = &mut Sequence::new();
    let order: Vec<_> = (0..ADDRESSES).map(|_| sequence.below(n)).collect();
    let lookup = clocks(order.len(), || {
        for &i in &order {
            let found =
                tables.underlay.vxlan_tunnel(4789, scenario::vni(), scenario::peer(i).into());
            assert_eq!(found, Ok(TunnelId(i as u16)));
        }
    });
    println!(" {lookup:>9.1} {:>9}", "-");
}

/// What a packet costs without changes and with 100,000 a second, in turn; how soon a change is seen; and
/// that memory does not grow. Rounds are short, and each is compared with its neighbour: a machine that
/// changes its speed every few seconds does so between rounds.
fn forwarding(n: usize, rounds: u32) {
    let prefixes = routes::mixture_v4(n);
    let all = || prefixes.iter().copied().zip((0..scenario::NEXT_HOPS).cycle());
    let rest = "0.0.0.0/0".parse().expect("a prefix");
    let mut rib = Rib::from_routes(all().chain([(rest, 0)]));
    let (mut sequence, among) = (Sequence::new(), prefixes.clone());
    let destination = move || {
        let prefix = &among[sequence.below(among.len() as u32) as usize];
        routes::inside_v4(prefix, &mut sequence)
    };
    let mut rig = Rig::new(scenario::route_by(rib.snapshot(), destination));
    let writer = churn::Writer::start(
        rib,
        rig.publisher().expect("the only one"),
        churn::Churn::new(prefixes),
    );
    let (mut quiet, mut changing, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let mut changes = (0, 0.0);
    for round in 0..rounds {
        for on in if round % 2 == 0 { [false, true] } else { [true, false] } {
            let before = (writer.changes(), Instant::now());
            writer.run(on);
            rig.forget();
            // All clocks, not a typical vector's: changes come in bursts.
            let clocks = rig.run(ROUND, VECTOR, &Headers::Warm);
            let each = clocks as f64 / (ROUND * VECTOR as u64) as f64;
            if on { &mut changing } else { &mut quiet }.push(each);
            writer.run(false);
            if on {
                changes.0 += writer.changes() - before.0;
                changes.1 += before.1.elapsed().as_secs_f64();
                memory.push(HEAP.held());
            }
        }
    }
    let ratios = quiet.iter().zip(&changing).map(|(quiet, changing)| changing / quiet).collect();
    let [quiet, changing, ratio] = [quiet, changing, ratios].map(|mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    println!(
        "forwarding by {n} routes, medians of {rounds} rounds in turn, {} packets, none lost",
        2 * u64::from(rounds) * ROUND * VECTOR as u64
    );
    println!("  undisturbed          {quiet:>8.1} clocks a packet");
    println!(
        "  while routes change  {changing:>8.1} clocks a packet, {:+.1} % (of the round beside it)",
        100.0 * (ratio - 1.0)
    );
    println!("  changes              {:>8.0} a second", changes.0 as f64 / changes.1);
    let more = |from: usize| (memory[memory.len() - 1] as f64 - memory[from] as f64) / 1048576.0;
    println!(
        "  memory               {:>8.2} MiB more after the last round than after the first, \
         {:.2} than after half of them",
        more(0),
        more(memory.len() / 2)
    );
    let [seen, undisturbed] = writer.latency(rig.reader(), 2000);
    let at = |part: f64| seen[((seen.len() - 1) as f64 * part) as usize];
    println!(
        "  one change, until a reader that looks all the time finds it: {:.1} µs median, {:.1} 99 %, \
         {:.1} at most of {}",
        at(0.5),
        at(0.99),
        at(1.0),
        seen.len()
    );
    println!(
        "  of the {} during which both had their cores: {:.1} µs at most\n",
        undisturbed.len(),
        undisturbed.last().copied().unwrap_or(f64::NAN)
    );
}
