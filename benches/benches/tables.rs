//! The tables against what a library would offer: the measurements behind `docs/decisions/0002-lpm.md`
//! and `0003-publication.md`.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ip_network_table_deps_treebitmap::IpLookupTable;
use podswitch_benches::scenario::NEXT_HOPS;
use prefix_trie::PrefixMap;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use switch::tables::fib::Routes;
use switch::{Fdb, Location, PortId, SegmentId, publish};

/// A fixed pseudo-random sequence (splitmix64).
fn random(seed: u64) -> impl Iterator<Item = u64> {
    (1u64..).map(move |i| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    })
}

/// `n` random /24 prefixes.
fn prefixes(n: usize) -> Vec<u32> {
    random(1).take(n).map(|r| (r as u32) & !0xff).collect()
}

/// Addresses in those prefixes, in random order.
fn addresses(prefixes: &[u32]) -> Vec<u32> {
    random(2)
        .take(1 << 16)
        .map(|r| prefixes[r as usize % prefixes.len()] | (r >> 40) as u32 & 0xff)
        .collect()
}

fn lpm(c: &mut Criterion) {
    for n in [1, 10_000, 500_000] {
        let prefixes = prefixes(n);
        let addresses = addresses(&prefixes);
        // Routes share a few next hops.
        let routes = || prefixes.iter().zip((0..NEXT_HOPS).cycle()).map(|(&p, v)| (p, 24, v));
        let mut group = c.benchmark_group(format!("lpm/{n}"));
        group.throughput(Throughput::Elements(addresses.len() as u64));

        let ours = Routes::<u32>::from_routes(routes()).snapshot();
        eprintln!("lpm/{n}: {} KiB", ours.memory() / 1024);
        group.bench_function("podswitch", |b| {
            b.iter(|| addresses.iter().filter_map(|&a| ours.lookup(black_box(a))).count())
        });

        let mut treebitmap = IpLookupTable::new();
        for (p, len, v) in routes() {
            treebitmap.insert(Ipv4Addr::from(p), u32::from(len), v);
        }
        group.bench_function("treebitmap", |b| {
            let found = |a: u32| treebitmap.longest_match(Ipv4Addr::from(a));
            b.iter(|| addresses.iter().filter_map(|&a| found(black_box(a))).count())
        });

        let mut trie: PrefixMap<(u32, u8), u32> = PrefixMap::new();
        for (p, len, v) in routes() {
            trie.insert((p, len), v);
        }
        group.bench_function("prefix-trie", |b| {
            b.iter(|| addresses.iter().filter_map(|&a| trie.get_lpm(&(black_box(a), 32))).count())
        });
        group.finish();

        c.bench_function(&format!("lpm-build/{n}"), |b| {
            let build = |routes| Routes::<u32>::from_routes(routes).snapshot();
            b.iter_batched(routes, build, BatchSize::LargeInput)
        });
    }
}

fn publication(c: &mut Criterion) {
    let mut group = c.benchmark_group("snapshot-read");
    let (_publisher, mut readers) = publish::channel(Arc::new(1u64), 1);
    group.bench_function("podswitch", |b| b.iter(|| *black_box(&mut readers[0]).current()));

    let swap = arc_swap::ArcSwap::from_pointee(1u64);
    group.bench_function("arc-swap", |b| b.iter(|| **black_box(&swap).load()));

    let atomic = crossbeam::epoch::Atomic::new(1u64);
    group.bench_function("crossbeam-epoch", |b| {
        b.iter(|| {
            let guard = crossbeam::epoch::pin();
            // The bench owns the value and never replaces it.
            let shared = black_box(&atomic).load(std::sync::atomic::Ordering::Acquire, &guard);
            shared.as_raw() as usize
        })
    });
    group.finish();
}

fn fdb(c: &mut Criterion) {
    let mut group = c.benchmark_group("fdb");
    for n in [1u64, 10_000, 1_000_000] {
        let fdb = Fdb::new(n as usize);
        let mac = |i: u64| encap::Mac::from_u64(0x0200_0000_0000 | i);
        let (segment, at) = (SegmentId(1), Location::Port(PortId(1)));
        for i in 0..n {
            fdb.learn(segment, mac(i), at, 0, 300);
        }
        let order: Vec<_> = random(3).take(1 << 16).map(|r| mac(r % n)).collect();
        group.throughput(Throughput::Elements(order.len() as u64));
        group.bench_function(format!("lookup/{n}"), |b| {
            b.iter(|| order.iter().filter_map(|&m| fdb.lookup(segment, black_box(m), 1)).count())
        });
        group.bench_function(format!("learn/{n}"), |b| {
            b.iter(|| {
                for &m in &order {
                    black_box(fdb.learn(segment, m, at, 0, 300));
                }
            })
        });
    }
    group.finish();
}

fn config() -> Criterion {
    let (warm_up, measurement) = podswitch_benches::times();
    Criterion::default().sample_size(20).warm_up_time(warm_up).measurement_time(measurement)
}

criterion_group! {
    name = tables;
    config = config();
    targets = lpm, publication, fdb
}
criterion_main!(tables);
