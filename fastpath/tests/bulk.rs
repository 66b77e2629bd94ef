//! Frames sent in bulk, past the TX rings: what arrives, in which order and by which queue, and what is counted.
//!
//! Needs root. The pipeline answers one frame with many, so that it is known what is sent together.

mod common;

use common::{Lab, assert_conserved, can_run, enter, patch_panel, sh, spec, wait_for};
use fastpath::config::{AttachSpec, Preference, Role};
use fastpath::{Engine, EngineConfig, Pipeline, PortSnapshot};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use switch::{DropReason, Io, Millis, PortId, WorkerCounters};

/// An EtherType for experiments (IEEE 802).
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
/// Where a frame's number is, in network byte order.
const NUMBER: std::ops::Range<usize> = 14..16;
/// Where an order is: how many frames of each length for each port, how many ports from port 1 on, and its kind.
const ORDER: std::ops::Range<usize> = 16..19;
/// The kinds: frames of [`LEN`]; of [`LENGTHS`]; of `LEN`, and the ports are asked whether superpackets are worth
/// making, before.
const PLAIN: u8 = 0;
const OF_ALL_LENGTHS: u8 = 1;
const ASKED: u8 = 2;
/// In bytes.
const LEN: usize = 100;
/// The longest that may go in bulk among them, and longer ones that may not, in one buffer and in several.
const LENGTHS: [usize; 12] = [16, 17, 60, 61, 64, 65, 1514, 3583, 3584, 3585, 3840, 9000];

/// Answers an order from port 0 with copies of it for other ports.
struct Volley(Arc<WorkerCounters>);

impl Pipeline for Volley {
    fn process<I: Io>(&mut self, from: PortId, _: Millis, batch: &mut Vec<I::Frame>, io: &mut I) {
        use switch::Frame;
        let counters = self.0.port(from);
        counters.rx_frames.add(batch.len() as u64);
        for order in batch.drain(..) {
            if order.bytes()[12..14] == ETHERTYPE && from == PortId(0) {
                let &[count, ports, kind] = &order.bytes()[ORDER] else { unreachable!() };
                let lengths: &[usize] = if kind == OF_ALL_LENGTHS { &LENGTHS } else { &[LEN] };
                for port in 1..=u16::from(ports) {
                    let _ = kind == ASKED && io.takes_superpackets(PortId(port));
                }
                let lengths = lengths.iter().cycle().take(lengths.len() * usize::from(count));
                for (n, &len) in lengths.enumerate() {
                    for port in 1..=u16::from(ports) {
                        let mut copy = io.duplicate(&order).expect("enough buffers");
                        copy.truncate(len);
                        copy.bytes_mut()[NUMBER].copy_from_slice(&(n as u16).to_be_bytes());
                        counters.originated.add(1);
                        io.send(PortId(port), copy);
                    }
                }
            }
            counters.drop(DropReason::Consumed);
            io.discard(order);
        }
    }
}

fn engine(config: EngineConfig) -> Engine {
    Engine::start_with(config, |_, counters| Some(Volley(counters))).unwrap()
}

fn attach(engine: &Engine, n: u16, role: Role, queues: Option<Vec<u32>>) {
    let spec = AttachSpec { role, queues, ..spec(&format!("p{n}")) };
    engine.attach(PortId(n), &spec).unwrap();
}

/// Has host 0 send an order.
fn order(lab: &Lab, count: u8, ports: u8, kind: u8) {
    let head = format!("ffffffffffff02000000000188b50000{count:02x}{ports:02x}{kind:02x}");
    let len = if kind == OF_ALL_LENGTHS { 9000 } else { LEN };
    lab.at(
        0,
        &format!(
            "python3 -c \"import socket; s = socket.socket(17, 3, 0); s.bind((\\\"eth0\\\", 0)); \
             head = bytes.fromhex(\\\"{head}\\\"); \
             s.send(head + bytes(i * 7 % 256 for i in range(len(head), {len})))\""
        ),
    );
}

/// What arrives at a host.
struct Target(OwnedFd);

impl Target {
    fn new(lab: &Lab, host: usize) -> Target {
        enter(&lab.host(host));
        let flags = SockFlag::SOCK_NONBLOCK;
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
        setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).unwrap();
        lab.enter();
        Target(socket)
    }

    /// The lengths of the frames of a volley that have come, which are numbered without a gap and have the bytes of
    /// the order.
    fn lengths(&self) -> Vec<usize> {
        let mut bytes = vec![0; 16384];
        let mut lengths = Vec::new();
        while let Ok(len) = recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            let frame = &bytes[..len];
            if frame[12..14] != ETHERTYPE {
                continue;
            }
            let number = u16::from_be_bytes(frame[NUMBER].try_into().unwrap());
            assert_eq!(usize::from(number), lengths.len(), "after {lengths:?}");
            for (i, byte) in frame.iter().enumerate().skip(ORDER.end) {
                assert_eq!(*byte, (i * 7) as u8, "byte {i} of a frame of {len}");
            }
            lengths.push(len);
        }
        lengths
    }
}

/// A volley for so many hosts, until all frames were sent or dropped: what arrived at each, and what was counted for
/// each meanwhile.
fn volley(
    lab: &Lab,
    engine: &Engine,
    hosts: u8,
    count: u8,
    kind: u8,
) -> Vec<(Vec<usize>, PortSnapshot)> {
    let targets: Vec<Target> = (1..=hosts.into()).map(|host| Target::new(lab, host)).collect();
    let before = engine.counters();
    order(lab, count, hosts, kind);
    let is_over = || {
        let now = engine.counters();
        let made = |c: &fastpath::Counters| c.ports[0].1.originated;
        made(&now) > made(&before) && now.ports.iter().all(|(_, p)| p.in_flight == 0)
    };
    wait_for("the volley", is_over);
    let after = engine.counters();
    assert_conserved(&after);
    let counted = (1..=hosts).map(|n| {
        let of = |c: &fastpath::Counters| {
            c.ports.iter().find(|(id, _)| *id == PortId(n.into())).unwrap().1.clone()
        };
        of(&after).since(&of(&before))
    });
    targets.iter().map(Target::lengths).zip(counted).collect()
}

/// Frames of all lengths for three ports in turn, more than one batch takes: all arrive, whole and in their order, though
/// some of them go by the rings.
#[test]
fn a_volley_arrives_whole_and_in_order() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(4, 9000, 1);
    let engine = engine(EngineConfig::default());
    (0..4).for_each(|n| attach(&engine, n, Role::Port, None));
    for (lengths, counted) in volley(&lab, &engine, 3, 20, OF_ALL_LENGTHS) {
        assert_eq!(lengths, LENGTHS.repeat(20));
        assert_eq!(counted.tx_frames, 240);
        assert!((1..240).contains(&counted.tx_bulk), "{counted:?}");
        assert_eq!(counted.tx_bytes, lengths.iter().sum::<usize>() as u64);
    }
    // Several times as many frames as there are buffers.
    for _ in 0..20 {
        for (lengths, counted) in volley(&lab, &engine, 3, 200, PLAIN) {
            assert_eq!(lengths, [LEN; 200]);
            assert_eq!((counted.tx_frames, counted.tx_bulk), (200, 200));
        }
    }
}

#[test]
fn few_frames_go_by_the_ring_and_all_do_where_bulk_is_off() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(4, 1500, 1);
    for (bulk, count, in_bulk) in [(true, 5, 0), (true, 6, 6), (false, 200, 0)] {
        let engine = engine(EngineConfig { bulk, ..EngineConfig::default() });
        (0..4).for_each(|n| attach(&engine, n, Role::Port, None));
        for (lengths, counted) in volley(&lab, &engine, 3, count, PLAIN) {
            assert_eq!(lengths.len(), usize::from(count));
            assert_eq!(counted.tx_bulk, in_bulk, "{count} for each of three ports");
        }
    }
}

/// What is for an interface that is down or gone is dropped by name; the others' frames arrive.
#[test]
fn an_interface_that_is_down_or_gone_costs_the_others_nothing() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(3, 1500, 1);
    let engine = engine(EngineConfig::default());
    (0..3).for_each(|n| attach(&engine, n, Role::Port, None));
    let expect = |arrive: usize| {
        let [(first, one), (second, two)] = volley(&lab, &engine, 2, 50, PLAIN).try_into().unwrap();
        assert_eq!((first.len(), second.len()), (arrive, 50));
        assert_eq!((two.tx_frames, two.tx_bulk), (50, 50));
        assert_eq!(one.tx_frames, arrive as u64);
        assert_eq!(one.dropped_as(DropReason::PortDown), 50 - arrive as u64);
    };
    expect(50);
    sh("ip link set p1 down");
    expect(0);
    sh("ip link set p1 up");
    wait_for("the second look at the interface", || {
        volley(&lab, &engine, 2, 50, PLAIN)[0].1.tx_frames == 50
    });
    expect(50);
    sh("ip link del p1");
    expect(0);
}

/// A queueing discipline is for all frames or for none: AF_XDP's pass it by.
#[test]
fn where_there_is_a_queueing_discipline_nothing_goes_in_bulk() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(4, 1500, 1);
    let engine = engine(EngineConfig::default());
    sh("tc qdisc add dev p1 root pfifo");
    (0..4).for_each(|n| attach(&engine, n, Role::Port, None));
    let in_bulk = || {
        let volley = volley(&lab, &engine, 3, 50, PLAIN);
        volley
            .into_iter()
            .map(|(lengths, counted)| {
                assert_eq!((lengths.len(), counted.tx_frames), (50, 50));
                counted.tx_bulk
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(in_bulk(), [0, 50, 50]);
    sh("tc qdisc del dev p1 root && tc qdisc add dev p2 root pfifo");
    (1..4).for_each(|n| engine.discipline_changed(PortId(n)));
    assert_eq!(in_bulk(), [50, 0, 50]);
    // Nobody says so: it is seen within a second.
    sh("tc qdisc del dev p2 root");
    engine.collect();
    assert_eq!(in_bulk(), [50, 50, 50]);
}

/// Of several queues of an interface, frames leave by the one that they would leave by from the ring.
#[test]
fn frames_leave_by_the_sockets_queue() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(2, 1500, 4);
    // So that the far end has queues of its own, which it counts by.
    sh("ethtool -K p1 tso off");
    lab.at(1, "ethtool -K eth0 gro on");
    let engine = engine(EngineConfig::default());
    attach(&engine, 0, Role::Port, None);
    attach(&engine, 1, Role::Port, Some(vec![2]));
    let arrived = || {
        let counters = lab.at(1, "ethtool -S eth0");
        let line = counters.lines().find_map(|l| l.trim().strip_prefix("rx_queue_2_xdp_packets:"));
        line.expect("a counter").trim().parse::<u64>().unwrap()
    };
    let before = arrived();
    let volley = volley(&lab, &engine, 1, 100, PLAIN);
    assert_eq!((volley[0].1.tx_bulk, volley[0].0.len()), (100, 100));
    assert_eq!(arrived() - before, 100);
}

/// The second worker has a batch of its own.
#[test]
fn by_way_of_another_worker() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(3, 1500, 2);
    let engine = engine(EngineConfig { workers: 2, ..EngineConfig::default() });
    attach(&engine, 0, Role::Port, Some(vec![0]));
    (1..3).for_each(|n| attach(&engine, n, Role::Port, Some(vec![1])));
    for (lengths, counted) in volley(&lab, &engine, 2, 100, PLAIN) {
        assert_eq!((lengths.len(), counted.tx_frames), (100, 100));
        // It may find what is handed over to it in several pieces.
        assert!(counted.tx_bulk > 0);
    }
}

/// Frames that went in bulk are followed by one of the ring before a superpacket, which the kernel says the arrival of.
#[test]
fn superpackets_wait_for_frames_in_bulk() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(2, 1500, 1);
    sh("ethtool -K p1 tx on tso on");
    let engine = engine(EngineConfig::default());
    attach(&engine, 0, Role::Port, None);
    attach(&engine, 1, Role::End, None);
    let in_bulk = |kind| {
        let volley = volley(&lab, &engine, 1, 100, kind);
        assert_eq!(volley[0].0.len(), 100);
        volley[0].1.tx_bulk
    };
    assert_eq!(
        [ASKED, PLAIN, ASKED, PLAIN, ASKED, ASKED].map(in_bulk),
        [100, 100, 99, 100, 99, 100]
    );
}

/// A switch in generic mode on a host's interface.
fn generic_engine_at(lab: &Lab, host: usize) -> Engine {
    enter(&lab.host(host));
    let engine = patch_panel(EngineConfig::default());
    let spec = AttachSpec { mode: Preference::Generic, ..spec("eth0") };
    engine.attach(PortId(0), &spec).unwrap();
    lab.enter();
    engine
}

/// An XDP program in generic mode is shown no packet that another program has redirected.
#[test]
fn not_to_a_far_end_with_xdp_in_generic_mode() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(3, 1500, 1);
    let engine = engine(EngineConfig::default());
    (0..3).for_each(|n| attach(&engine, n, Role::Port, None));
    let in_bulk =
        || volley(&lab, &engine, 2, 50, PLAIN).iter().map(|(_, p)| p.tx_bulk).collect::<Vec<_>>();
    assert_eq!(in_bulk(), [50, 50]);
    let far = generic_engine_at(&lab, 1);
    engine.collect();
    assert_eq!(in_bulk(), [0, 50]);
    drop(far);
    engine.collect();
    assert_eq!(in_bulk(), [50, 50]);
}

/// An interface that has never been up has no queueing discipline yet, and gets none.
#[test]
fn an_interface_that_was_attached_before_it_was_up() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(2, 1500, 1);
    sh("ip link del p1");
    sh(&format!("ip link add p1 type veth peer name eth0 netns {}", lab.host(1)));
    let engine = engine(EngineConfig::default());
    (0..2).for_each(|n| attach(&engine, n, Role::Port, None));
    sh("ip link set p1 up");
    lab.at(1, "ip link set eth0 up");
    assert_eq!(volley(&lab, &engine, 1, 50, PLAIN)[0].1.tx_bulk, 50);
}

/// An interface whose far end is down takes nothing, and neither does one whose queueing discipline is being set. It is up
/// all the same: it is not left alone until the next second.
#[test]
fn a_far_end_that_is_down_is_no_interface_that_is_down() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(3, 1500, 1);
    let engine = engine(EngineConfig::default());
    (0..3).for_each(|n| attach(&engine, n, Role::Port, None));
    for _ in 0..3 {
        lab.at(1, "ip link set eth0 down");
        wait_for("no carrier", || sh("ip link show p1").contains("NO-CARRIER"));
        let down = volley(&lab, &engine, 2, 50, PLAIN);
        assert_eq!((down[0].0.len(), down[1].0.len()), (0, 50));
        assert_eq!(down[0].1.dropped_as(DropReason::PortDown), 50);
        lab.at(1, "ip link set eth0 up");
        wait_for("the carrier", || sh("ip link show p1").contains("qdisc noqueue state UP"));
        assert_eq!(volley(&lab, &engine, 2, 50, PLAIN)[0].1.tx_bulk, 50);
    }
}

/// Whatever an interface answers meanwhile.
#[test]
fn disciplines_come_and_go_under_load() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(3, 1500, 1);
    let engine = engine(EngineConfig::default());
    (0..3).for_each(|n| attach(&engine, n, Role::Port, None));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            lab.enter();
            while !is_over.load(Ordering::Relaxed) {
                sh("tc qdisc add dev p1 root pfifo limit 1000 && tc qdisc del dev p1 root");
            }
        });
        (0..20).for_each(|_| order(&lab, 100, 2, PLAIN));
        is_over.store(true, Ordering::Relaxed);
    });
    let counters = engine.counters();
    assert_conserved(&counters);
    let [_, (_, one), (_, two)] = &counters.ports[..] else { unreachable!() };
    let lost = two.tx_frames - one.tx_frames;
    assert_eq!(lost, one.dropped());
    assert!(lost < two.tx_frames, "{lost} lost");
}
