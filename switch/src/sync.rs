//! What the lock-free tables are made of: the processor's atomics, or loom's models of them, with
//! which `tests/loom.rs` tries every order that the memory model allows (`make loom`).

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(not(loom))]
pub(crate) use crossbeam::{atomic::AtomicCell, queue::ArrayQueue};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(loom)]
pub(crate) use model::{ArrayQueue, AtomicCell};

/// Crossbeam's types as their documentation has them: each operation is one step.
#[cfg(loom)]
mod model {
    use loom::sync::Mutex;
    use std::collections::VecDeque;

    pub(crate) struct AtomicCell<T>(Mutex<Option<T>>);

    impl<T> AtomicCell<Option<T>> {
        pub(crate) fn new(value: Option<T>) -> Self {
            AtomicCell(Mutex::new(Some(value)))
        }

        pub(crate) fn swap(&self, value: Option<T>) -> Option<T> {
            self.0.lock().unwrap().replace(value).flatten()
        }
    }

    pub(crate) struct ArrayQueue<T> {
        items: Mutex<VecDeque<T>>,
        capacity: usize,
    }

    impl<T> ArrayQueue<T> {
        pub(crate) fn new(capacity: usize) -> Self {
            ArrayQueue { items: Mutex::new(VecDeque::new()), capacity }
        }

        pub(crate) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().unwrap();
            if items.len() == self.capacity {
                return Err(item);
            }
            items.push_back(item);
            Ok(())
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.items.lock().unwrap().pop_front()
        }

        pub(crate) fn is_full(&self) -> bool {
            self.items.lock().unwrap().len() == self.capacity
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.items.lock().unwrap().is_empty()
        }
    }
}
