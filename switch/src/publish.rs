//! Publication of snapshots: from the one control thread to every worker, in one step, without a
//! lock on the workers' side.
//!
//! Each worker has a mailbox: a cell that holds the newest snapshot it has not taken yet, and a
//! queue through which the snapshots it is done with go back. Taking is one load of a flag a batch,
//! and one swap when something new is there. A snapshot is freed by the publisher's thread, never
//! by a worker: the last reference is always the one that came back through the queue.
//!
//! The order that matters: the publisher puts the snapshot into the cell *before* it raises the
//! flag, and the worker lowers the flag *before* it empties the cell. The other way round on either
//! side, a snapshot could sit in the cell with the flag down, and never be seen.
//!
//! A sleeping worker holds one old snapshot until it is woken; whoever publishes wakes it (see
//! `fastpath`), so that nothing old stays in memory.

use crate::sync::{ArrayQueue, AtomicBool, AtomicCell, Ordering};
use crossbeam::utils::CachePadded;
use std::sync::Arc;

/// How many snapshots may be on their way back to the publisher.
const RETURNS: usize = 64;

struct Mailbox<T> {
    fresh: CachePadded<AtomicBool>,
    next: AtomicCell<Option<Arc<T>>>,
    done: ArrayQueue<Arc<T>>,
}

/// The publishing end, held by the control thread.
pub struct Publisher<T> {
    boxes: Vec<Arc<Mailbox<T>>>,
    current: Arc<T>,
}

/// The reading end, held by one worker.
pub struct Reader<T> {
    mailbox: Arc<Mailbox<T>>,
    current: Arc<T>,
}

/// A publisher of snapshots to `readers` readers, all of which start with `first`.
pub fn channel<T>(first: Arc<T>, readers: usize) -> (Publisher<T>, Vec<Reader<T>>) {
    let boxes: Vec<_> = (0..readers)
        .map(|_| {
            Arc::new(Mailbox {
                fresh: CachePadded::new(AtomicBool::new(false)),
                next: AtomicCell::new(None),
                done: ArrayQueue::new(RETURNS),
            })
        })
        .collect();
    let readers = boxes
        .iter()
        .map(|mailbox| Reader { mailbox: mailbox.clone(), current: first.clone() })
        .collect();
    (Publisher { boxes, current: first }, readers)
}

impl<T> Publisher<T> {
    /// Makes `next` what every reader sees from its next batch on, and frees what has come back.
    pub fn publish(&mut self, next: Arc<T>) {
        self.collect();
        self.current = next.clone();
        for mailbox in &self.boxes {
            // What the worker never took comes back here and is freed here.
            drop(mailbox.next.swap(Some(next.clone())));
            mailbox.fresh.store(true, Ordering::Release);
        }
    }

    /// The snapshot published last.
    pub fn current(&self) -> &Arc<T> {
        &self.current
    }

    /// Frees the snapshots that readers are done with.
    pub fn collect(&mut self) {
        for mailbox in &self.boxes {
            while let Some(done) = mailbox.done.pop() {
                drop(done);
            }
        }
    }

    /// Whether a reader has yet to take the snapshot published last, or gave one back that has not
    /// been collected. One that is just taking it, in between the two, does not show.
    pub fn is_pending(&self) -> bool {
        self.boxes.iter().any(|m| m.fresh.load(Ordering::Acquire) || !m.done.is_empty())
    }
}

impl<T> Reader<T> {
    /// The newest snapshot. Wait-free: called once a batch.
    #[inline]
    pub fn current(&mut self) -> &T {
        if self.mailbox.fresh.load(Ordering::Acquire) {
            self.take();
        }
        &self.current
    }

    /// Whether a snapshot waits to be taken: a worker looks once more before it sleeps.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.mailbox.fresh.load(Ordering::Acquire)
    }

    #[cold]
    fn take(&mut self) {
        // With the queue full the publisher is behind; the old snapshot stays in use for a batch
        // more, rather than being freed here.
        if self.mailbox.done.is_full() {
            return;
        }
        self.mailbox.fresh.store(false, Ordering::SeqCst);
        if let Some(next) = self.mailbox.next.swap(None) {
            let old = core::mem::replace(&mut self.current, next);
            // Cannot fail: this reader is the queue's only producer and has just seen room.
            let _ = self.mailbox.done.push(old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn readers_see_the_newest() {
        let (mut publisher, mut readers) = channel(Arc::new(1), 2);
        assert_eq!(*readers[0].current(), 1);
        publisher.publish(Arc::new(2));
        publisher.publish(Arc::new(3));
        assert_eq!(*readers[0].current(), 3);
        assert_eq!(*readers[1].current(), 3);
    }

    #[test]
    fn the_cell_is_lock_free() {
        assert!(AtomicCell::<Option<Arc<u8>>>::is_lock_free());
    }

    #[test]
    fn a_reader_that_took_the_newest_holds_nothing_old() {
        let first = Arc::new(1);
        let (mut publisher, mut readers) = channel(first.clone(), 1);
        publisher.publish(Arc::new(2));
        assert!(publisher.is_pending());
        readers[0].current();
        publisher.collect();
        assert!(!publisher.is_pending());
        assert_eq!(Arc::strong_count(&first), 1);
    }

    #[test]
    fn a_full_return_queue_delays_and_loses_nothing() {
        let (mut publisher, mut readers) = channel(Arc::new(0), 1);
        for n in 1..=RETURNS + 5 {
            // Publishes without collecting, as a publisher would that is behind.
            publisher.boxes[0].next.swap(Some(Arc::new(n)));
            publisher.boxes[0].fresh.store(true, Ordering::Release);
            assert_eq!(*readers[0].current(), n.min(RETURNS));
        }
        publisher.collect();
        assert_eq!(*readers[0].current(), RETURNS + 5);
    }

    /// Snapshots are freed by the publisher's thread only, each exactly once, and a reader never
    /// sees an older one after a newer one.
    #[test]
    fn frees_on_the_publishers_thread() {
        static FREED: AtomicUsize = AtomicUsize::new(0);
        struct Snapshot(usize, std::thread::ThreadId);
        impl Drop for Snapshot {
            fn drop(&mut self) {
                assert_eq!(std::thread::current().id(), self.1);
                FREED.fetch_add(1, Ordering::Relaxed);
            }
        }
        const LAST: usize = 20_000;
        let here = std::thread::current().id();
        let (mut publisher, readers) = channel(Arc::new(Snapshot(0, here)), 2);
        let readers: Vec<Reader<Snapshot>> = std::thread::scope(|s| {
            let threads: Vec<_> = readers
                .into_iter()
                .map(|mut r| {
                    s.spawn(move || {
                        let mut seen = 0;
                        while seen < LAST {
                            let now = r.current().0;
                            assert!(now >= seen);
                            seen = now;
                        }
                        r
                    })
                })
                .collect();
            for n in 1..=LAST {
                publisher.publish(Arc::new(Snapshot(n, here)));
            }
            // A reader with no room to give back what it had does not take what is new. Not until nothing is
            // pending: a reader may take the last snapshot before it is told of it, and end.
            while !threads.iter().all(|t| t.is_finished()) {
                publisher.collect();
            }
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        // What a reader gave back while it was not seen to be at it.
        publisher.collect();
        assert_eq!(FREED.load(Ordering::Relaxed), LAST);
        drop(readers);
        drop(publisher);
        assert_eq!(FREED.load(Ordering::Relaxed), LAST + 1);
    }
}
