//! Where the bytes of a frame are when it is forwarded.

use crate::cores;
use fastpath::Frame;
use std::hint::{black_box, spin_loop};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use switch::Frame as _;

/// Who wrote the frames last.
pub enum Headers {
    /// This core, as when the kernel copied them in our system call: they are in its caches.
    Warm,
    /// Another core, just before: they are in that one's caches.
    Cold(OtherCore),
}

/// A thread that writes to frames.
pub struct OtherCore {
    to: Sender<Vec<Frame>>,
    from: Receiver<Vec<Frame>>,
}

impl Headers {
    /// Headers that another core writes. The thread ends with the value.
    pub fn cold() -> Headers {
        let (to, frames) = channel::<Vec<Frame>>();
        let (back, from) = channel();
        cores::keep_to(0);
        thread::spawn(move || {
            cores::keep_to(1);
            while let Some(mut vector) = receive(&frames) {
                vector.iter_mut().for_each(touch);
                if let Err(unsent) = back.send(vector) {
                    // The frames' owner is gone, and their memory with it.
                    unsent.0.into_iter().for_each(std::mem::forget);
                }
            }
        });
        Headers::Cold(OtherCore { to, from })
    }

    /// Has every line of the frames written.
    pub(crate) fn write(&self, mut vector: Vec<Frame>) -> Vec<Frame> {
        match self {
            Headers::Warm => vector.iter_mut().for_each(touch),
            Headers::Cold(other) => {
                other.to.send(vector).expect("the other core's thread");
                vector = receive(&other.from).expect("the other core's thread");
            }
        }
        vector
    }
}

/// What comes next; none when nothing will. Without going to sleep, as a worker that has much to do: a core
/// that does nothing is given to others, and what was in its caches is gone.
fn receive<T>(from: &Receiver<T>) -> Option<T> {
    loop {
        match from.try_recv() {
            Ok(next) => return Some(next),
            Err(TryRecvError::Empty) => spin_loop(),
            Err(TryRecvError::Disconnected) => return None,
        }
    }
}

/// Writes to every cache line of a frame, what is there already.
fn touch(frame: &mut Frame) {
    for line in frame.bytes_mut().chunks_mut(64) {
        line[0] = black_box(line[0]);
    }
}
