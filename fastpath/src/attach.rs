//! Attaching an interface to the engine, and detaching it, step by step.

use crate::command::Command;
use crate::config::{AttachMode, AttachSpec, Attached, Preference, Role, TapSpec};
use crate::engine::{Engine, State, WorkerHandle};
use crate::error::Error;
use crate::frame::RX_CAPACITY;
use crate::netdev;
use crate::port::Endpoint;
use crate::program::Link;
use crate::stats::SocketStatistics;
use crate::xsk::{self, Binding, Options, Socket, Superpackets};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use switch::PortId;

/// How long a worker may take to answer: it looks at its commands once a round.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// An Ethernet header with two VLAN tags.
const L2_OVERHEAD: u32 = 22;

/// An attached interface.
pub(crate) struct Port {
    pub ifname: String,
    /// Those that have a queue of it.
    workers: Vec<usize>,
    max_frame: usize,
    /// Whether frames may go in bulk, as its workers have been told.
    in_bulk: bool,
    /// Frames that had been sent when that was last looked at.
    pub looked_at: u64,
    /// None of a TAP device.
    xdp: Option<Xdp>,
}

/// What there is of an interface that runs our XDP program.
struct Xdp {
    ifindex: u32,
    base: u32,
    slots: u32,
    /// By queue. Kept to read statistics; the workers have the sockets.
    sockets: BTreeMap<u32, Arc<OwnedFd>>,
    /// What the kernel counted on sockets of this port that were closed since.
    closed: SocketStatistics,
    /// Detaches the program when dropped.
    link: Option<Link>,
}

impl Port {
    /// Whether it runs our XDP program.
    pub fn has_program(&self) -> bool {
        self.xdp.is_some()
    }

    /// What the kernel counted on the port's sockets.
    pub fn kernel_statistics(&self) -> SocketStatistics {
        let Some(xdp) = &self.xdp else { return SocketStatistics::default() };
        let mut sum = xdp.closed;
        for fd in xdp.sockets.values() {
            sum += xsk::statistics(fd.as_fd()).unwrap_or_default();
        }
        sum
    }
}

pub(crate) fn attach(engine: &Engine, id: PortId, spec: &AttachSpec) -> Result<Attached, Error> {
    let mut state = engine.lock_state();
    if state.ports.contains_key(&id) {
        return Err(Error::PortInUse(id));
    }
    let available = netdev::rx_queues(&spec.ifname)?;
    let queues = match &spec.queues {
        Some(queues) => queues.clone(),
        None => (0..available).collect(),
    };
    if let Some(&queue) = queues.iter().find(|&&queue| queue >= available) {
        return Err(Error::Queue { ifname: spec.ifname.clone(), queue, available });
    }
    let mtu = netdev::mtu(&spec.ifname)?;

    // Where a program runs already it is a dead daemon's or a live one's. Only the sockets tell, and
    // so come first: the link of a live daemon must not be taken over.
    let running = netdev::running_program(&spec.ifname, spec.ifindex)?;
    let open = |generic| open_all(engine, spec, &queues, mtu, generic);
    let before = running.map(|r| open(r.generic).map_err(|e| busy(e, spec, r.program)));
    let before = before.transpose()?;
    // From here on frames pass to the kernel, as they did before: no socket gets any yet.
    let link = state.program.attach(&spec.ifname, spec.ifindex, spec.role, spec.mode)?;
    let generic = link.generic;
    let (pinned, taken_over) = (link.is_pinned(), link.taken_over);
    let opened = match before {
        Some(opened) => opened,
        None => open(generic)?,
    };
    let binding = opened[0].1.binding();
    let base = state.program.reserve(available)?;
    let xdp = Xdp {
        ifindex: spec.ifindex,
        base,
        slots: available,
        sockets: BTreeMap::new(),
        closed: SocketStatistics::default(),
        link: Some(link),
    };
    let mut port = Port {
        ifname: spec.ifname.clone(),
        workers: Vec::new(),
        max_frame: (mtu + L2_OVERHEAD) as usize,
        in_bulk: false,
        looked_at: 0,
        xdp: Some(xdp),
    };
    let coalesces = spec.role != Role::Uplink && opened.iter().all(|(_, s)| s.packet.is_some());
    let opened = opened.into_iter().map(|(queue, s)| (queue, Endpoint::Xsk(Box::new(s))));
    let served = serve(engine, id, &mut port, opened).and_then(|()| direct(&mut state, &port));
    match served {
        Ok(()) => {
            let mode = match (binding.zero_copy, generic) {
                (true, _) => AttachMode::ZeroCopy,
                (false, false) => AttachMode::Native,
                (false, true) => AttachMode::Generic,
            };
            look_at_bulk(engine, id, &mut port);
            state.ports.insert(id, port);
            let frags = binding.frags;
            Ok(Attached { mode, queues, frags, coalesces, mtu, pinned, taken_over })
        }
        Err(e) => {
            withdraw(engine, &mut state, id, port);
            Err(e)
        }
    }
}

pub(crate) fn attach_tap(engine: &Engine, id: PortId, spec: TapSpec) -> Result<Attached, Error> {
    let mut state = engine.lock_state();
    if state.ports.contains_key(&id) {
        return Err(Error::PortInUse(id));
    }
    let queues: Vec<u32> = (0u32..).zip(&spec.queues).map(|(n, _)| n).collect();
    let mut port = Port {
        ifname: spec.ifname,
        workers: Vec::new(),
        max_frame: (spec.mtu + L2_OVERHEAD) as usize,
        in_bulk: false,
        looked_at: 0,
        xdp: None,
    };
    let opened = queues.iter().copied().zip(spec.queues.into_iter().map(Endpoint::Tap));
    match serve(engine, id, &mut port, opened) {
        Ok(()) => {
            state.ports.insert(id, port);
            let (mode, mtu) = (AttachMode::Tap, spec.mtu);
            Ok(Attached {
                mode,
                queues,
                frags: true,
                coalesces: true,
                mtu,
                pinned: false,
                taken_over: false,
            })
        }
        Err(e) => {
            withdraw(engine, &mut state, id, port);
            Err(e)
        }
    }
}

pub(crate) fn detach(engine: &Engine, id: PortId) -> Result<(), Error> {
    let mut state = engine.lock_state();
    let port = state.ports.remove(&id).ok_or(Error::PortUnknown(id))?;
    withdraw(engine, &mut state, id, port);
    Ok(())
}

/// Hands the sockets to their workers.
fn serve(
    engine: &Engine,
    id: PortId,
    port: &mut Port,
    opened: impl Iterator<Item = (u32, Endpoint)>,
) -> Result<(), Error> {
    for (queue, endpoint) in opened {
        let index = queue as usize % engine.workers.len();
        if !port.workers.contains(&index) {
            port.workers.push(index);
        }
        engine.make_room(&engine.workers[index]);
        adopt(&engine.workers[index], index, id, port, endpoint)?;
    }
    for (index, worker) in engine.workers.iter().enumerate() {
        if !port.workers.contains(&index) {
            let through = port.workers[index % port.workers.len()];
            worker.mailbox.push(Command::Reach { port: id, through });
        }
    }
    Ok(())
}

/// Directs the frames of an interface to the sockets.
fn direct(state: &mut State, port: &Port) -> Result<(), Error> {
    let Some(xdp) = &port.xdp else { return Ok(()) };
    for (queue, fd) in &xdp.sockets {
        state.program.set_socket(xdp.base + queue, &**fd)?;
    }
    state.program.enable(xdp.ifindex, xdp.base, xdp.slots)
}

/// Hands a socket to its worker and waits until it can receive.
fn adopt(
    worker: &WorkerHandle,
    index: usize,
    id: PortId,
    port: &mut Port,
    endpoint: Endpoint,
) -> Result<(), Error> {
    let (reply, answer) = sync_channel(1);
    if let (Some(xdp), Endpoint::Xsk(socket)) = (&mut port.xdp, &endpoint) {
        xdp.sockets.insert(socket.options().queue, socket.shared_fd());
    }
    let max_frame = port.max_frame;
    worker.mailbox.push(Command::Adopt { port: id, endpoint, max_frame, reply });
    wait(&answer, index)?.map_err(Error::interface(&port.ifname, "watch the socket"))
}

/// Takes the sockets of a port from a worker and closes them; what they were opened on.
fn release(
    worker: &WorkerHandle,
    index: usize,
    id: PortId,
    port: &mut Port,
) -> Result<Vec<(Options, Binding)>, Error> {
    let (reply, answer) = sync_channel(1);
    worker.mailbox.push(Command::Release { port: id, reply });
    let mut released = Vec::new();
    for (id, endpoint) in wait(&answer, index)? {
        if let (Some(xdp), Endpoint::Xsk(socket)) = (&mut port.xdp, &endpoint) {
            released.push((*socket.options(), socket.binding()));
            xdp.closed += xsk::statistics(socket.as_fd()).unwrap_or_default();
            xdp.sockets.remove(&socket.options().queue);
        }
        drop(endpoint);
        worker.mailbox.push(Command::Closed { socket: id });
    }
    Ok(released)
}

/// Closes a port's sockets of one worker and opens them again, which gives their buffers back.
pub(crate) fn reopen(engine: &Engine, id: PortId, index: usize) -> Result<(), Error> {
    let state = &mut *engine.lock_state();
    let Some(port) = state.ports.get_mut(&id) else { return Ok(()) };
    let worker = &engine.workers[index];
    for (options, binding) in release(worker, index, id, port)? {
        let socket = Socket::open(&worker.memory, options, &[binding])
            .map_err(Error::interface(&port.ifname, "open an AF_XDP socket anew"))?;
        let fd = socket.shared_fd();
        adopt(worker, index, id, port, Endpoint::Xsk(Box::new(socket)))?;
        if let Some(xdp) = &port.xdp {
            state.program.set_socket(xdp.base + options.queue, &*fd)?;
        }
    }
    // The new sockets know nothing of it.
    tell_of_bulk(engine, id, port);
    Ok(())
}

/// Looks whether a port's frames may go in bulk, and tells its workers if that is news.
pub(crate) fn look_at_bulk(engine: &Engine, id: PortId, port: &mut Port) {
    let Some(xdp) = port.xdp.as_ref().filter(|_| engine.config.bulk) else { return };
    // If it cannot be told, they go by the ring.
    let in_bulk = netdev::takes_bulk(&port.ifname, xdp.ifindex).unwrap_or_else(|e| {
        tracing::debug!("{}: {e}", port.ifname);
        false
    });
    if core::mem::replace(&mut port.in_bulk, in_bulk) != in_bulk {
        tell_of_bulk(engine, id, port);
    }
}

/// Tells a port's workers whether its frames may go in bulk.
fn tell_of_bulk(engine: &Engine, id: PortId, port: &Port) {
    for &index in &port.workers {
        let in_bulk = port.in_bulk;
        engine.workers[index].mailbox.push(Command::SetInBulk { port: id, in_bulk });
    }
}

/// Undoes everything in the reverse order.
fn withdraw(engine: &Engine, state: &mut State, id: PortId, mut port: Port) {
    if let Some(xdp) = &mut port.xdp {
        state.program.disable(xdp.ifindex);
        for slot in xdp.base..xdp.base + xdp.slots {
            state.program.clear_socket(slot);
        }
        drop(xdp.link.take());
        xdp.sockets.clear();
    }
    for (index, worker) in engine.workers.iter().enumerate() {
        if !port.workers.contains(&index) {
            worker.mailbox.push(Command::Reach { port: id, through: usize::MAX });
            continue;
        }
        if let Err(e) = release(worker, index, id, &mut port) {
            tracing::error!("{}: {e}", port.ifname);
        }
    }
    if let Some(xdp) = &port.xdp {
        state.program.release(xdp.base, xdp.slots);
    }
}

fn wait<T>(answer: &Receiver<T>, worker: usize) -> Result<T, Error> {
    answer.recv_timeout(ANSWER_TIMEOUT).map_err(|_| Error::WorkerGone(worker))
}

/// A queue that is busy under a program that runs is that program's.
fn busy(e: Error, spec: &AttachSpec, program: u32) -> Error {
    match e.errno() {
        Some(libc::EBUSY) => Error::ForeignProgram { ifname: spec.ifname.clone(), program },
        _ => e,
    }
}

/// A socket on each queue, in the memory of the queue's worker, all in the best mode that the first
/// one can have.
fn open_all(
    engine: &Engine,
    spec: &AttachSpec,
    queues: &[u32],
    mtu: u32,
    generic: bool,
) -> Result<Vec<(u32, Socket)>, Error> {
    let finishes = || netdev::finishes_packets(&spec.ifname, spec.ifindex);
    let takes_segments = || netdev::takes_segments(&spec.ifname);
    let superpackets = match spec.role {
        _ if !engine.config.superpackets => None,
        Role::Uplink => finishes()?.then_some(Superpackets::Tunnels),
        Role::Port => (finishes()? && takes_segments()?).then_some(Superpackets::Segments),
        Role::End => takes_segments()?.then_some(Superpackets::Segments),
    };
    let open = |queue: u32, ways: &[Binding]| {
        let options = Options {
            ifindex: spec.ifindex,
            queue,
            ring_size: engine.config.ring_size,
            busy_poll: engine.config.busy_poll,
            superpackets,
        };
        Socket::open(&worker_of(engine, queue).memory, options, ways).map_err(|e| {
            if spec.mode == Preference::ZeroCopy && e.raw_os_error() == Some(libc::EOPNOTSUPP) {
                let reason = "the driver does not support it, or not with these queues".to_owned();
                let ifname = spec.ifname.clone();
                return Error::Mode { ifname, wanted: "zero-copy mode", reason };
            }
            Error::interface(&spec.ifname, "open an AF_XDP socket")(e)
        })
    };
    let Some((&first, rest)) = queues.split_first() else {
        let (ifname, queue) = (spec.ifname.clone(), 0);
        return Err(Error::Queue { ifname, queue, available: 0 });
    };
    let socket = open(first, &ways(spec.mode, mtu, generic))?;
    let binding = socket.binding();
    let mut opened = vec![(first, socket)];
    for &queue in rest {
        opened.push((queue, open(queue, &[binding])?));
    }
    Ok(opened)
}

/// The ways to bind a socket, from the best to the least.
fn ways(preference: Preference, mtu: u32, generic: bool) -> Vec<Binding> {
    let mut ways = Vec::new();
    if !generic && matches!(preference, Preference::Auto | Preference::ZeroCopy) {
        // Fewer drivers do zero-copy for frames of several buffers than for small ones.
        let frags = mtu + L2_OVERHEAD > RX_CAPACITY as u32;
        ways.push(Binding { zero_copy: true, frags });
    }
    if preference != Preference::ZeroCopy {
        ways.push(Binding { zero_copy: false, frags: true });
        // Before Linux 6.6.
        ways.push(Binding { zero_copy: false, frags: false });
    }
    ways
}

fn worker_of(engine: &Engine, queue: u32) -> &WorkerHandle {
    &engine.workers[queue as usize % engine.workers.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_follow_the_preference() {
        let way = |zero_copy, frags| Binding { zero_copy, frags };
        let copy = [way(false, true), way(false, false)];
        let after = |first| [&[first][..], &copy].concat();
        assert_eq!(ways(Preference::Auto, 1500, false), after(way(true, false)));
        assert_eq!(ways(Preference::Auto, 9000, false), after(way(true, true)));
        assert_eq!(ways(Preference::Auto, 1500, true), copy);
        assert_eq!(ways(Preference::Native, 1500, false), copy);
        assert_eq!(ways(Preference::Generic, 1500, true), copy);
        assert_eq!(ways(Preference::ZeroCopy, 1500, false), [way(true, false)]);
    }
}
