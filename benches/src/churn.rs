//! Routes that change while packets are forwarded.

use crate::packets::Sequence;
use crate::{cores, scenario, tsc};
use encap::Prefix;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use switch::Tables;
use switch::publish::{Publisher, Reader};
use switch::tables::Rib;

/// Changes that are made at once.
pub const BATCH: usize = 50;
/// Time between them: 100,000 changes a second.
const PERIOD: Duration = Duration::from_micros(500);
/// Routes that are withdrawn at a time.
const WITHDRAWN: usize = 500;

/// An endless sequence of changes: of four, two give a route another next hop, one withdraws a route,
/// and one announces a route again that was withdrawn.
pub struct Churn {
    prefixes: Vec<Prefix>,
    withdrawn: VecDeque<Prefix>,
    sequence: Sequence,
    step: u32,
}

impl Churn {
    /// Changes of these routes.
    pub fn new(prefixes: Vec<Prefix>) -> Churn {
        Churn { prefixes, withdrawn: VecDeque::new(), sequence: Sequence::new(), step: 0 }
    }

    /// Makes the next change.
    pub fn change(&mut self, rib: &mut Rib) {
        self.step += 1;
        let prefix = self.prefixes[self.sequence.below(self.prefixes.len() as u32) as usize];
        let value = self.step % scenario::NEXT_HOPS;
        if self.step.is_multiple_of(4)
            && self.withdrawn.len() > WITHDRAWN.min(self.prefixes.len() / 2)
        {
            let again = self.withdrawn.pop_front().expect("more than none");
            rib.insert(again, value);
        } else if self.step % 4 == 2 && rib.remove(prefix).is_some() {
            self.withdrawn.push_back(prefix);
        } else {
            rib.insert(prefix, value);
        }
    }
}

/// What the writer is told to do.
enum Order {
    /// To change routes until the next order.
    Change,
    /// To change nothing.
    Rest,
    /// To change one route so many times, each time when the reader has seen the last one.
    One(u64),
}

/// A thread that changes the routes of a switch.
pub struct Writer {
    orders: Option<Sender<Order>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    changes: AtomicU64,
    /// When the change that is under way began, and how many the reader has seen.
    began: AtomicU64,
    seen: AtomicU64,
    /// How many the writer is done with, and how often it had been taken off its core by then.
    done: AtomicU64,
    switches: AtomicU64,
}

/// How often this thread was taken off its core so far.
fn switches() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let count = |line: &str| line.split_once("ctxt_switches:")?.1.trim().parse::<u64>().ok();
    status.lines().filter_map(count).sum()
}

/// The address by whose route [`Order::One`] is measured.
const WATCHED: [u8; 4] = [100, 64, 0, 1];

impl Writer {
    /// A thread on the second core that changes `rib`, at rest. The caller's is kept to the first one.
    pub fn start(rib: Rib, publisher: Publisher<Tables>, churn: Churn) -> Writer {
        let (orders, received) = channel();
        let shared = Arc::<Shared>::default();
        let for_thread = shared.clone();
        let mut changer = Changer { rib, publisher, churn, shared: for_thread };
        // It begins on its core: with real-time priority it would never get off the caller's.
        cores::keep_to(1);
        let thread = thread::spawn(move || changer.obey(&received));
        cores::keep_to(0);
        Writer { orders: Some(orders), shared, thread: Some(thread) }
    }

    /// Changes made so far.
    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::Relaxed)
    }

    /// Begins to change routes, or ends.
    pub fn run(&self, on: bool) {
        self.tell(if on { Order::Change } else { Order::Rest });
    }

    /// How many microseconds it took from when a change begins until a reader that looks all the time
    /// finds it; sorted. And so for those changes during which both threads had their cores.
    pub fn latency(&self, reader: &mut Reader<Tables>, times: u64) -> [Vec<f64>; 2] {
        self.tell(Order::One(times));
        let (mut all, mut undisturbed) = (Vec::new(), Vec::new());
        let mut here = switches();
        let mut there = self.shared.switches.load(Ordering::Acquire);
        for n in 0..times {
            let (mut looked, mut longest) = (tsc::now(), 0);
            while reader.current().fib.lookup(WATCHED.into()) != Some(watched(n)) {
                let now = tsc::now();
                longest = longest.max(now - looked);
                looked = now;
            }
            let took = tsc::now() - self.shared.began.load(Ordering::Acquire);
            // The writer says so once it is done with publishing, too.
            while self.shared.done.load(Ordering::Acquire) != n + 1 {
                std::hint::spin_loop();
            }
            let [to_us, slow] = [1e-3 / tsc::per_nanosecond(), 20.0];
            let before = (here, there);
            (here, there) = (switches(), self.shared.switches.load(Ordering::Acquire));
            all.push(took as f64 * to_us);
            // Neither was another thread in between, nor, as the clock tells, the hypervisor.
            if before == (here, there) && longest as f64 * to_us < slow {
                undisturbed.push(took as f64 * to_us);
            }
            self.shared.seen.store(n + 1, Ordering::Release);
        }
        [all, undisturbed].map(|mut of| {
            of.sort_by(f64::total_cmp);
            of
        })
    }

    fn tell(&self, order: Order) {
        self.orders
            .as_ref()
            .expect("until it is dropped")
            .send(order)
            .expect("the writer's thread");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the writer's thread");
        }
    }
}

/// The value of the watched route after so many changes of it: one that no other route has.
fn watched(n: u64) -> u32 {
    scenario::NEXT_HOPS + (n % 2) as u32
}

struct Changer {
    rib: Rib,
    publisher: Publisher<Tables>,
    churn: Churn,
    shared: Arc<Shared>,
}

impl Changer {
    /// Waits for orders awake: it is the changes that are to make a difference, not whether a second core
    /// of this machine is in use. With one core there is nothing to compare.
    fn obey(&mut self, orders: &Receiver<Order>) {
        loop {
            match orders.try_recv() {
                Ok(Order::Change) => self.change_until_told(orders),
                Ok(Order::One(times)) => (0..times).for_each(|n| self.change_one(n)),
                Ok(Order::Rest) | Err(TryRecvError::Empty) => std::hint::spin_loop(),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    fn change_until_told(&mut self, orders: &Receiver<Order>) {
        let mut due = Instant::now();
        // Whatever comes is an order to rest, and so is that nobody is there any more.
        while matches!(orders.try_recv(), Err(TryRecvError::Empty)) {
            (0..BATCH).for_each(|_| self.churn.change(&mut self.rib));
            self.publish();
            self.shared.changes.fetch_add(BATCH as u64, Ordering::Relaxed);
            due += PERIOD;
            while Instant::now() < due {
                std::hint::spin_loop();
            }
        }
    }

    fn change_one(&mut self, n: u64) {
        while self.shared.seen.load(Ordering::Acquire) != n {
            std::hint::spin_loop();
        }
        let prefix = Prefix::host(IpAddr::from(WATCHED));
        self.shared.began.store(tsc::now(), Ordering::Release);
        self.rib.insert(prefix, watched(n));
        self.publish();
        self.shared.switches.store(switches(), Ordering::Release);
        self.shared.done.store(n + 1, Ordering::Release);
    }

    /// As the daemon does it for announced routes (`control/src/node/announce.rs`).
    fn publish(&mut self) {
        if let Some(fib) = self.rib.amend() {
            let tables = Tables { fib, ..(**self.publisher.current()).clone() };
            self.publisher.publish(Arc::new(tables));
        }
    }
}
