//! Where the bytes of a frame are when it is forwarded.

use fastpath::Frame;
use std::hint::black_box;
use std::sync::mpsc::{Receiver, Sender, channel};
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
        thread::spawn(move || {
            while let Ok(mut vector) = frames.recv() {
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
                vector = other.from.recv().expect("the other core's thread");
            }
        }
        vector
    }
}

/// Writes to every cache line of a frame, what is there already.
fn touch(frame: &mut Frame) {
    for line in frame.bytes_mut().chunks_mut(64) {
        line[0] = black_box(line[0]);
    }
}
