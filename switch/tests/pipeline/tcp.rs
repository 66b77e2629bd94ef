//! Two TCP/IP stacks that share no code with the switch talk through two switches: a megabyte each
//! way, over every kind of underlay, on wires good and bad. The clock is simulated, so that runs are
//! short and always the same.

use crate::kit::{Faults, Lab, Node, Pod, Via, Wire, gateway_mac};
use encap::Mac;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use std::collections::VecDeque;
use std::net::IpAddr;

/// Bytes that each side sends.
const AMOUNT: usize = 1 << 20;
const PORT: u16 = 5201;

/// The end of a pod's wire.
#[derive(Default)]
struct Link {
    mtu: usize,
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Sender<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Link {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sender<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sender(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        Some(Sender(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}

/// A pod with a TCP socket, which sends a stream of its own and expects the other's.
struct Stack {
    link: Link,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    seed: u32,
    sent: usize,
    expected: u32,
    received: usize,
}

/// The byte at `i` of the stream `seed`.
fn byte(seed: u32, i: usize) -> u8 {
    ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8
}

fn address(ip: IpAddr) -> IpAddress {
    ip.into()
}

impl Stack {
    fn new(pod: &Pod, node: u8, mtu: usize, (seed, expected): (u32, u32)) -> Stack {
        let mut link = Link { mtu, ..Link::default() };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(pod.mac.0)));
        config.random_seed = u64::from(seed);
        let mut interface = Interface::new(config, &mut link, Instant::from_millis(0));
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(address(pod.v4), 24)).unwrap();
            addresses.push(IpCidr::new(address(pod.v6), 64)).unwrap();
        });
        let routes = interface.routes_mut();
        routes.add_default_ipv4_route([10, 244, node, 1].into()).unwrap();
        let gateway = format!("fd00:10:244:{node}::1").parse().unwrap();
        routes.add_default_ipv6_route(gateway).unwrap();
        let buffer = || tcp::SocketBuffer::new(vec![0; 65_535]);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Stack { link, interface, sockets, socket, seed, sent: 0, expected, received: 0 }
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn connect(&mut self, to: IpAddr) {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.socket);
        socket.connect(self.interface.context(), (address(to), PORT), 49_500).unwrap();
    }

    /// One step of the stack and of what runs on it.
    fn step(&mut self, now: u64) {
        let at = Instant::from_millis(now as i64);
        self.interface.poll(at, &mut self.link, &mut self.sockets);
        let (seed, sent) = (self.seed, self.sent);
        let socket = self.sockets.get_mut::<tcp::Socket>(self.socket);
        if socket.can_send() && sent < AMOUNT {
            let wrote = socket
                .send(|room| {
                    let n = room.len().min(AMOUNT - sent);
                    room[..n].iter_mut().enumerate().for_each(|(i, b)| *b = byte(seed, sent + i));
                    (n, n)
                })
                .unwrap();
            self.sent += wrote;
        }
        let (expected, received) = (self.expected, self.received);
        while socket.can_recv() {
            let n = socket
                .recv(|data| {
                    for (i, &b) in data.iter().enumerate() {
                        let at = self.received + i;
                        assert_eq!(b, byte(expected, at), "byte {at} of the stream");
                    }
                    (data.len(), data.len())
                })
                .unwrap();
            self.received += n;
        }
        if self.received > received || self.sent > sent {
            // What was just read or written may open a window.
            self.interface.poll(at, &mut self.link, &mut self.sockets);
        }
    }

    fn is_done(&mut self) -> bool {
        self.received == AMOUNT && self.sent == AMOUNT && self.socket().send_queue() == 0
    }
}

/// A node, the pod on it, and the wire that leads away from it.
struct Side {
    node: Node,
    lab: Lab,
    stack: Stack,
    out: Wire,
    /// Frames that were sent to ports where nobody is, such as the other pod's.
    elsewhere: usize,
}

impl Side {
    fn new(n: u8, via: Via, mtu: usize, faults: Faults, seed: u32) -> Side {
        let node = Node::new(n, via);
        let lab = Lab::new(node.tables.clone());
        let (mine, peers) = (seed ^ u32::from(n), seed ^ u32::from(3 - n));
        let stack = Stack::new(&node.a, n, mtu, (mine, peers));
        let out = Wire::new(faults, u64::from(mine));
        Side { node, lab, stack, out, elsewhere: 0 }
    }

    fn forward(&mut self, port: switch::PortId, frame: &[u8], now: u64) {
        for (to, bytes) in self.lab.send(port, frame) {
            if to == self.node.uplink {
                self.out.send(now, bytes);
            } else if to == self.node.a.port {
                self.stack.link.received.push_back(bytes);
            } else {
                self.elsewhere += 1;
            }
        }
    }

    fn step(&mut self, now: u64, from: &mut Wire) {
        self.lab.now = switch::Millis(now);
        while let Some(frame) = from.receive(now) {
            self.forward(self.node.uplink, &frame, now);
        }
        self.stack.step(now);
        for frame in std::mem::take(&mut self.stack.link.sent) {
            self.forward(self.node.a.port, &frame, now);
        }
    }
}

/// Runs a transfer each way; what the wires did to it, and how long it took in milliseconds. Panics
/// when a byte is wrong, when a switch drops a frame, and when it takes too long.
fn transfer(via: Via, v6: bool, mtu: usize, faults: Faults, seed: u32) -> (u64, [u64; 3]) {
    let mut a = Side::new(1, via, mtu, faults, seed);
    let mut b = Side::new(2, via, mtu, faults, seed);
    b.stack.socket().listen(PORT).unwrap();
    a.stack.connect(if v6 { b.node.a.v6 } else { b.node.a.v4 });
    for now in 1..600_000 {
        a.step(now, &mut b.out);
        b.step(now, &mut a.out);
        if a.stack.is_done() && b.stack.is_done() {
            assert_eq!(a.elsewhere + b.elsewhere, 0, "frames went to the wrong port");
            let sum = |f: fn(&Wire) -> u64| f(&a.out) + f(&b.out);
            return (now, [sum(|w| w.lost), sum(|w| w.duplicated), sum(|w| w.delayed)]);
        }
    }
    let progress = [&a, &b].map(|s| (s.stack.sent, s.stack.received));
    panic!("{via:?}, v6 {v6}, {faults:?}: not done after ten minutes: {progress:?}");
}

const BAD: Faults = Faults { loss: 60, duplication: 50, delay: 20 };

#[test]
fn on_a_good_wire() {
    for via in Via::ALL {
        for v6 in [false, true] {
            for mtu in [1430, 8900] {
                let (took, faults) = transfer(via, v6, mtu, Faults::default(), 7);
                assert_eq!(faults, [0; 3]);
                assert!(took < 5_000, "{via:?}, MTU {mtu}: {took} ms");
            }
        }
    }
}

fn on_a_bad_wire(via: Via) {
    for v6 in [false, true] {
        let (took, [lost, duplicated, delayed]) = transfer(via, v6, 1430, BAD, 42);
        assert!(lost > 10 && duplicated > 10 && delayed > 10, "{lost} {duplicated} {delayed}");
        assert!(took < 300_000, "{via:?}: {took} ms");
    }
}

#[test]
fn over_vxlan_on_a_bad_wire() {
    on_a_bad_wire(Via::Vxlan4);
}

#[test]
fn over_vxlan_and_ipv6_on_a_bad_wire() {
    on_a_bad_wire(Via::Vxlan6);
}

#[test]
fn over_ipip_on_a_bad_wire() {
    on_a_bad_wire(Via::Ipip4);
}

#[test]
fn over_ipip_and_ipv6_on_a_bad_wire() {
    on_a_bad_wire(Via::Ipip6);
}

#[test]
fn natively_on_a_bad_wire() {
    on_a_bad_wire(Via::Native);
}

/// The engine is a function of tables, frames and clock: the same run again is the same run.
#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || transfer(Via::Vxlan4, false, 1430, BAD, 5);
    assert_eq!(run(), run());
    assert_ne!(run(), transfer(Via::Vxlan4, false, 1430, BAD, 6));
}

/// The stacks find their gateway by asking; nobody told them.
#[test]
fn the_gateway_is_what_they_asked() {
    let mut side = Side::new(1, Via::Vxlan4, 1430, Faults::default(), 1);
    side.stack.connect("10.244.2.10".parse().unwrap());
    let nobody = &mut Wire::new(Faults::default(), 0);
    (1..10).for_each(|now| side.step(now, nobody));
    let frame = side.out.receive(10).expect("a SYN on the wire");
    assert_ne!(frame[..6], gateway_mac(1).0);
    assert_eq!(frame[50..56], Mac([0x0a, 0x58, 192, 0, 2, 2]).0, "the inner frame, to the VTEP");
}
