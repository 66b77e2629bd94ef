//! The engine on a lead: reads cases on stdin, one JSON object a line, runs each through the tables'
//! compiler and a [`Worker`] on the heap, and writes what came out, one JSON object a line.
//!
//! `tests/oracle` drives it, and says in `replay.py` what a case and an answer look like.

use encap::{Mac, Prefix};
use podswitch::node::{Facts, NextHopFacts, PortFacts, TableIds, UplinkFacts, compile};
use podswitch_api::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::net::IpAddr;
use std::sync::Arc;
use switch::heap::{HeapFrame, HeapIo};
use switch::tables::Offload;
use switch::{DropReason, Fdb, Millis, PortCounters, PortId, Tables, Worker, WorkerCounters};

/// More than any case has ports.
const PORTS: usize = 64;

/// One case: what happens to a switch that starts empty.
#[derive(Deserialize)]
struct Case {
    fdb_capacity: usize,
    events: Vec<Event>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Event {
    /// A frame in hexadecimal is received by a port at a time in milliseconds.
    Frame(u16, u64, String),
    /// The tables are replaced.
    Tables { state: Box<State>, facts: World },
}

/// [`Facts`] as JSON.
#[derive(Deserialize)]
struct World {
    ports: BTreeMap<String, PortWorld>,
    host: Option<PortWorld>,
    uplink: Option<UplinkWorld>,
    next_hops: BTreeMap<IpAddr, NextHopWorld>,
}

#[derive(Deserialize)]
struct PortWorld {
    id: u16,
    mtu: u32,
    mac: Mac,
}

#[derive(Deserialize)]
struct UplinkWorld {
    id: u16,
    mtu: u32,
    mac: Mac,
    addresses: Vec<IpAddr>,
    #[serde(default)]
    subnets: Vec<Prefix>,
    vlan: Option<u16>,
}

#[derive(Deserialize)]
struct NextHopWorld {
    mac: Option<Mac>,
    mtu: Option<u32>,
}

/// What became of a frame: what was sent, as (port, hexadecimal), and what was dropped, as (port,
/// reason).
type Fate = (Vec<(u16, String)>, Vec<(u16, &'static str)>);

/// What became of one case.
#[derive(Serialize)]
struct Answer {
    /// Of each frame in turn.
    frames: Vec<Fate>,
    /// For each port received frames, received bytes, originated frames, and frames whose source was
    /// not learned.
    counters: BTreeMap<u16, [u64; 4]>,
    /// Empty, or why the engine contradicts itself.
    complaint: String,
}

impl PortWorld {
    fn facts(&self) -> PortFacts {
        PortFacts { id: PortId(self.id), mtu: self.mtu, offload: Offload::None, mac: self.mac }
    }
}

impl World {
    fn facts(&self, state: &State) -> Facts {
        let dev = state.uplink.as_ref().map_or("", |u| u.dev.as_str());
        Facts {
            ports: self.ports.iter().map(|(name, p)| (name.clone(), p.facts())).collect(),
            host: self.host.as_ref().map(PortWorld::facts),
            uplink: self.uplink.as_ref().map(|u| UplinkFacts {
                name: dev.to_owned(),
                id: PortId(u.id),
                mtu: u.mtu,
                mac: u.mac,
                addresses: u.addresses.clone(),
                subnets: u.subnets.clone(),
                vlan: u.vlan,
            }),
            next_hops: self
                .next_hops
                .iter()
                .map(|(&ip, h)| (ip, NextHopFacts { ip, src: None, mac: h.mac, mtu: h.mtu }))
                .collect(),
        }
    }
}

/// A switch that starts with empty tables.
struct Lab {
    worker: Worker,
    counters: Arc<WorkerCounters>,
    tables: Tables,
    ids: TableIds,
    io: HeapIo,
}

impl Lab {
    fn new(fdb_capacity: usize) -> Lab {
        let counters = Arc::new(WorkerCounters::new(PORTS));
        let worker = Worker::new(counters.clone(), Arc::new(Fdb::new(fdb_capacity)));
        Lab {
            worker,
            counters,
            tables: Tables::default(),
            ids: TableIds::default(),
            io: HeapIo::default(),
        }
    }

    fn replace_tables(&mut self, state: &State, world: &World) -> Result<(), String> {
        state.validate().map_err(|errors| format!("the state is refused: {}", errors[0]))?;
        self.tables = compile(state, &world.facts(state), &mut self.ids);
        Ok(())
    }

    fn receive(&mut self, port: u16, time: u64, frames: &[Vec<u8>]) -> Vec<(PortId, Vec<u8>)> {
        let mut batch: Vec<HeapFrame> = frames.iter().map(|f| HeapFrame::new(f)).collect();
        self.worker.process(&self.tables, PortId(port), Millis(time), &mut batch, &mut self.io);
        std::mem::take(&mut self.io.sent)
    }

    fn drops(&self) -> BTreeMap<(u16, &'static str), u64> {
        let ports = self.counters.ports().iter().zip(0..);
        let all = ports.flat_map(|(counters, port)| {
            DropReason::ALL.iter().map(move |&r| ((port, r.name()), counters.drops(r)))
        });
        all.filter(|&(_, count)| count > 0).collect()
    }

    fn totals(&self) -> BTreeMap<u16, [u64; 4]> {
        let count = |c: &PortCounters| {
            [&c.rx_frames, &c.rx_bytes, &c.originated, &c.not_learned].map(|count| count.get())
        };
        let all = (0..).zip(self.counters.ports()).map(|(port, c)| (port, count(c)));
        all.filter(|(_, counts)| counts.iter().any(|&n| n > 0)).collect()
    }

    /// Received and originated frames, less those that became part of another one, were dropped or wait.
    fn balance(&self) -> u64 {
        let ports = self.counters.ports();
        let all = |count: fn(&PortCounters) -> u64| ports.iter().map(count).sum::<u64>();
        let came = all(|p| p.rx_frames.get() + p.originated.get());
        came - all(|p| p.coalesced.get()) - all(PortCounters::dropped) - all(|p| p.held.get())
    }
}

fn bytes(hex: &str) -> Result<Vec<u8>, String> {
    let digits = hex.as_bytes().chunks(2).map(|d| std::str::from_utf8(d).unwrap_or(""));
    digits.map(|d| u8::from_str_radix(d, 16)).collect::<Result<_, _>>().map_err(|e| e.to_string())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

/// Frames without the identification of IPv4 headers that allow fragmentation. The switch counts outer
/// ones in the order in which it encapsulates, which a batch may change: RFC 6864 asks that they
/// differ, not for an order.
fn without_identification(sent: &[(PortId, Vec<u8>)]) -> Vec<(PortId, Vec<u8>)> {
    let mut sent = sent.to_vec();
    for (_, frame) in &mut sent {
        let start = if frame.get(12..14) == Some(&[0x81, 0x00]) { 18 } else { 14 };
        if frame.get(start - 2..start) == Some(&[0x08, 0x00])
            && let Some(header) = frame.get_mut(start..start + 12)
            && header[6] & 0x40 == 0
        {
            header[4..6].fill(0);
            header[10..12].fill(0);
        }
    }
    sent
}

/// Runs the case twice: frame by frame, which the answer tells of, and in batches as large as the
/// case allows, which must make no difference.
fn run(case: &Case) -> Result<Answer, String> {
    let (mut one, mut many) = (Lab::new(case.fdb_capacity), Lab::new(case.fdb_capacity));
    let mut answer =
        Answer { frames: Vec::new(), counters: BTreeMap::new(), complaint: String::new() };
    let mut drops = BTreeMap::new();
    let (mut sent, mut sent_in_batches) = (Vec::new(), Vec::new());
    let mut batch: Vec<Vec<u8>> = Vec::new();
    // Questions are asked at the end of a batch: then its size does make a difference.
    let mut resolves = false;
    for (i, event) in case.events.iter().enumerate() {
        let (port, time, frame) = match event {
            Event::Tables { state, facts } => {
                one.replace_tables(state, facts)?;
                many.replace_tables(state, facts)?;
                resolves |= one.tables.neighbors.is_some();
                continue;
            }
            Event::Frame(port, time, frame) => (*port, *time, bytes(frame)?),
        };
        let out = one.receive(port, time, std::slice::from_ref(&frame));
        let after = one.drops();
        let dropped = after.iter().flat_map(|(&key, &count)| {
            let before = drops.get(&key).copied().unwrap_or(0);
            std::iter::repeat_n(key, (count - before) as usize)
        });
        let dropped = dropped.collect();
        drops = after;
        let out_hex = out.iter().map(|(port, frame)| (port.0, hex(frame))).collect();
        answer.frames.push((out_hex, dropped));
        sent.extend(out);

        batch.push(frame);
        let more = matches!(case.events.get(i + 1),
            Some(Event::Frame(p, t, _)) if (*p, *t) == (port, time));
        if !more {
            sent_in_batches.extend(many.receive(port, time, &batch));
            batch.clear();
        }
    }
    answer.counters = one.totals();
    let same = without_identification(&sent) == without_identification(&sent_in_batches)
        && drops == many.drops()
        && answer.counters == many.totals();
    if !same && !resolves {
        answer.complaint = "a batch is not forwarded as its frames one by one".to_owned();
    } else if one.balance() != sent.len() as u64 {
        answer.complaint = "received + originated is not sent + dropped by name + held".to_owned();
    }
    Ok(answer)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let case: Case = serde_json::from_str(&line?)?;
        serde_json::to_writer(&mut out, &run(&case)?)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}
