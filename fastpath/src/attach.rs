//! Attaching an interface to the engine, and detaching it, step by step.

use crate::command::Command;
use crate::config::{AttachMode, AttachSpec, Attached, Preference};
use crate::engine::{Engine, State, WorkerHandle};
use crate::error::Error;
use crate::frame::RX_CAPACITY;
use crate::netdev;
use crate::program::Link;
use crate::xsk::{Binding, Options, Socket};
use std::os::fd::OwnedFd;
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
    ifindex: u32,
    base: u32,
    slots: u32,
    workers: Vec<usize>,
    /// Kept to read statistics; the workers have the sockets.
    pub sockets: Vec<Arc<OwnedFd>>,
    /// Detaches the program when dropped.
    link: Option<Link>,
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

    // From here on frames pass to the kernel, as they did before: there is no socket yet.
    let link = state.program.attach(&spec.ifname, spec.ifindex, spec.role, spec.mode)?;
    let generic = link.generic;
    let (pinned, taken_over) = (link.is_pinned(), link.taken_over);
    let opened = open_all(engine, spec, &queues, mtu, generic)?;
    let binding = opened[0].1.binding();
    let base = state.program.reserve(available)?;
    let mut port = Port {
        ifname: spec.ifname.clone(),
        ifindex: spec.ifindex,
        base,
        slots: available,
        workers: Vec::new(),
        sockets: Vec::new(),
        link: Some(link),
    };
    match serve(engine, &mut state, id, &mut port, opened, mtu) {
        Ok(()) => {
            let mode = match (binding.zero_copy, generic) {
                (true, _) => AttachMode::ZeroCopy,
                (false, false) => AttachMode::Native,
                (false, true) => AttachMode::Generic,
            };
            state.ports.insert(id, port);
            let frags = binding.frags;
            Ok(Attached { mode, queues, frags, mtu, pinned, taken_over })
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

/// Hands the sockets to their workers, then directs the frames to them.
fn serve(
    engine: &Engine,
    state: &mut State,
    id: PortId,
    port: &mut Port,
    opened: Vec<(u32, Socket)>,
    mtu: u32,
) -> Result<(), Error> {
    let workers = engine.workers.len();
    let max_frame = (mtu + L2_OVERHEAD) as usize;
    let mut directed = Vec::new();
    for (queue, socket) in opened {
        let index = queue as usize % workers;
        if !port.workers.contains(&index) {
            port.workers.push(index);
        }
        let fd = socket.shared_fd();
        port.sockets.push(fd.clone());
        let (reply, answer) = sync_channel(1);
        let socket = Box::new(socket);
        let command = Command::Adopt { port: id, socket, max_frame, reply };
        engine.workers[index].mailbox.push(command);
        wait(&answer, index)?.map_err(Error::interface(&port.ifname, "watch the socket"))?;
        directed.push((queue, fd));
    }
    for (index, worker) in engine.workers.iter().enumerate() {
        if !port.workers.contains(&index) {
            let through = port.workers[index % port.workers.len()];
            worker.mailbox.push(Command::Reach { port: id, through });
        }
    }
    for (queue, fd) in directed {
        state.program.set_socket(port.base + queue, &*fd)?;
    }
    state.program.enable(port.ifindex, port.base, port.slots)
}

/// Undoes everything in the reverse order.
fn withdraw(engine: &Engine, state: &mut State, id: PortId, mut port: Port) {
    state.program.disable(port.ifindex);
    for slot in port.base..port.base + port.slots {
        state.program.clear_socket(slot);
    }
    drop(port.link.take());
    port.sockets.clear();
    for (index, worker) in engine.workers.iter().enumerate() {
        if !port.workers.contains(&index) {
            worker.mailbox.push(Command::Reach { port: id, through: usize::MAX });
            continue;
        }
        let (reply, answer) = sync_channel(1);
        worker.mailbox.push(Command::Release { port: id, reply });
        match wait(&answer, index) {
            Ok(released) => {
                for (socket, closed) in released {
                    drop(closed);
                    worker.mailbox.push(Command::Closed { socket });
                }
            }
            Err(e) => tracing::error!("{}: {e}", port.ifname),
        }
    }
    state.program.release(port.base, port.slots);
}

fn wait<T>(answer: &Receiver<T>, worker: usize) -> Result<T, Error> {
    answer.recv_timeout(ANSWER_TIMEOUT).map_err(|_| Error::WorkerGone(worker))
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
    let open = |queue: u32, ways: &[Binding]| {
        let options = Options {
            ifindex: spec.ifindex,
            queue,
            ring_size: engine.config.ring_size,
            busy_poll: engine.config.busy_poll,
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
