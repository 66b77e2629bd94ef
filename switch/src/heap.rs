//! Frames on the heap: the engine without an interface, for tests, replay and fuzzing.

use crate::frame::{Frame, Io, NoHeadroom};
use crate::ids::PortId;
use crate::waiting::Waiting;
use std::collections::VecDeque;

/// Room before a received frame, the same as AF_XDP leaves.
pub const HEADROOM: usize = 256;

/// The largest first segment, the same as AF_XDP's chunk of 4096 bytes holds.
pub const SEGMENT: usize = 4096 - HEADROOM;

/// A frame on the heap.
#[derive(Clone, Debug)]
pub struct HeapFrame {
    buffer: Vec<u8>,
    head: usize,
    more: Vec<Vec<u8>>,
    gso_size: u16,
    /// How many frames it was made of.
    parts: u64,
}

impl HeapFrame {
    /// A frame of these bytes, in as many segments as AF_XDP would make of it.
    pub fn new(bytes: &[u8]) -> HeapFrame {
        let (first, rest) = bytes.split_at(bytes.len().min(SEGMENT));
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(first);
        let more = rest.chunks(SEGMENT).map(Vec::from).collect();
        HeapFrame { buffer, head: HEADROOM, more, gso_size: 0, parts: 1 }
    }

    /// A superpacket of these bytes: see [`Frame::gso_size`].
    pub fn superpacket(bytes: &[u8], gso_size: u16) -> HeapFrame {
        HeapFrame { gso_size, ..HeapFrame::new(bytes) }
    }

    /// All bytes of the frame, segments joined.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = self.bytes().to_vec();
        out.extend(self.more.iter().flatten());
        out
    }
}

impl Frame for HeapFrame {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.head..]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.head..]
    }

    fn len(&self) -> usize {
        self.bytes().len() + self.more.iter().map(Vec::len).sum::<usize>()
    }

    fn for_each_segment(&self, mut f: impl FnMut(&[u8])) {
        f(self.bytes());
        self.more.iter().for_each(|s| f(s));
    }

    fn headroom(&self) -> usize {
        self.head
    }

    fn push(&mut self, n: usize) -> Result<(), NoHeadroom> {
        self.head = self.head.checked_sub(n).ok_or(NoHeadroom)?;
        Ok(())
    }

    fn pull(&mut self, n: usize) {
        self.head = (self.head + n).min(self.buffer.len());
    }

    fn truncate(&mut self, len: usize) {
        let first = self.bytes().len();
        self.buffer.truncate(self.head + len);
        let mut left = len.saturating_sub(first);
        for segment in &mut self.more {
            segment.truncate(left);
            left -= segment.len();
        }
        self.more.retain(|s| !s.is_empty());
    }

    fn resize(&mut self, len: usize) -> Result<(), NoHeadroom> {
        if !self.more.is_empty() || self.head + len > HEADROOM + SEGMENT {
            return Err(NoHeadroom);
        }
        self.buffer.resize(self.head + len, 0);
        Ok(())
    }

    fn gso_size(&self) -> u16 {
        self.gso_size
    }

    fn set_gso_size(&mut self, size: u16) {
        self.gso_size = size;
    }

    fn append(&mut self, next: HeapFrame) {
        self.parts += next.parts;
        self.more.push(next.bytes().to_vec());
        self.more.extend(next.more);
    }
}

/// A world of heap frames: what was sent, and how many frames were dropped.
#[derive(Debug)]
pub struct HeapIo {
    /// What the engine sent, in order.
    pub sent: Vec<(PortId, Vec<u8>)>,
    /// [`Frame::gso_size`] of each of them.
    pub gso_sizes: Vec<u16>,
    /// Of how many frames those were made that it sent or gave back.
    pub parts: u64,
    /// How many frames it gave back as dropped.
    pub discarded: u64,
    /// How many more frames may be allocated or copied.
    pub budget: usize,
    /// What it answers in turn when it is asked to take superpackets at times; then always yes.
    pub answers: VecDeque<bool>,
    /// Frames that wait.
    pub waiting: Waiting<HeapFrame>,
}

impl Default for HeapIo {
    fn default() -> HeapIo {
        let waiting = Waiting::new(1024);
        let (sent, gso_sizes) = (Vec::new(), Vec::new());
        let answers = VecDeque::new();
        HeapIo { sent, gso_sizes, parts: 0, discarded: 0, budget: usize::MAX, answers, waiting }
    }
}

impl Io for HeapIo {
    type Frame = HeapFrame;

    fn send(&mut self, port: PortId, frame: HeapFrame) {
        self.parts += frame.parts;
        self.sent.push((port, frame.to_vec()));
        self.gso_sizes.push(frame.gso_size);
    }

    fn takes_superpackets(&mut self, _port: PortId) -> bool {
        self.answers.pop_front().unwrap_or(true)
    }

    fn send_superpacket(&mut self, port: PortId, frame: HeapFrame) -> Result<(), HeapFrame> {
        if !self.takes_superpackets(port) {
            return Err(frame);
        }
        self.send(port, frame);
        Ok(())
    }

    fn discard(&mut self, frame: HeapFrame) {
        self.parts += frame.parts;
        self.discarded += 1;
    }

    fn alloc(&mut self) -> Option<HeapFrame> {
        self.budget = self.budget.checked_sub(1)?;
        Some(HeapFrame::new(&[]))
    }

    fn duplicate(&mut self, frame: &HeapFrame) -> Option<HeapFrame> {
        self.budget = self.budget.checked_sub(1)?;
        Some(HeapFrame { parts: 1, ..frame.clone() })
    }

    fn waiting(&mut self) -> &mut Waiting<HeapFrame> {
        &mut self.waiting
    }
}
