//! The XDP programs of bpf/pktgen.bpf.c: loading them, and BPF_PROG_TEST_RUN with live frames.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use aya::maps::{Array, PerCpuArray};
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, Pod, TestRun as _, TestRunAttrs, TestRunOptions};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::engine::Sent;
use crate::load::Load;
use crate::place;
use crate::stamp::MAGIC;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pktgen.bpf.o"));

/// Frames between two looks for work of the kernel's own, the most it takes (TEST_XDP_MAX_BATCH).
const BATCH: u32 = 256;
/// Frames a second that no core reaches.
const FASTEST: f64 = 1e7;

/// What the program `pktgen_count` counted on one CPU: `struct count`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Stamped frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames without a stamp.
    pub others: u64,
}

// SAFETY: three u64 without padding; every bit pattern is valid.
unsafe impl Pod for Count {}

/// The program that sends live frames, and the frame.
pub struct Sender {
    ebpf: Ebpf,
    frame: Vec<u8>,
}

impl Sender {
    /// Loads the program for a load of one size, to be sent on the interface with this index.
    pub fn load(ifindex: u32, load: &Load) -> anyhow::Result<Sender> {
        let fields = load.fields();
        let vnis = load.vxlan.map_or(1, |v| v.vnis);
        let [source_port, source_mac] = [fields.source_port, fields.source_mac].map(|n| n as u32);
        let [outer, vni] = [fields.outer_source_port, fields.vni].map(|n| n.unwrap_or(0) as u32);
        let sources = load.sources();
        let frame = load.frame(0)?;
        // Up to the UDP checksum, in words of four bytes: no more than is before the stamp.
        let length = fields.stamp / 4 * 4;
        let mut headers = [0u64; 12];
        for (word, bytes) in headers.iter_mut().zip(frame[..length].chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(padded);
        }
        let ebpf = program(
            "pktgen_send",
            Some(&headers),
            &[
                ("out_ifindex", ifindex),
                ("flows", load.flows),
                ("macs", load.macs),
                ("vnis", vnis),
                ("source_port_at", source_port),
                ("source_mac_at", source_mac),
                ("outer_source_port_at", outer),
                ("vni_at", vni),
                ("headers_len", length as u32),
                ("first_mac", sources.first),
                ("mac_gap", sources.gap),
                ("first_vni", load.vxlan.map_or(0, |v| v.vni & 0xffff)),
            ],
        )?;
        Ok(Sender { ebpf, frame })
    }

    /// Sends for so long, or so many frames, as fast as this core goes. The calling thread is in the
    /// namespace of the interface.
    ///
    /// All in one call: before each the kernel makes a pool of pages and after it waits until it is
    /// gone, which takes 20 ms in which nothing is sent.
    pub fn send(&mut self, time: Duration, frames: Option<u32>) -> anyhow::Result<Sent> {
        let before = self.sent()?;
        let program = xdp(&mut self.ebpf, "pktgen_send")?;
        let start = Instant::now();
        let alarm = Alarm::set(time)?;
        // Bounded by their number too, whatever becomes of the alarm.
        let most = (time.as_secs_f64() * FASTEST) as u32;
        let result = test_run(program, &self.frame, frames.map_or(most, |n| n.min(most)));
        let took = alarm.struck_after(start).unwrap_or_else(|| start.elapsed());
        drop(alarm);
        match result {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => bail!(
                "the kernel has no live frames (Linux 5.18 and later), or the frame is too large \
                 for them; use --engine xdp"
            ),
            result => result.context("BPF_PROG_TEST_RUN")?,
        }
        Ok(Sent { frames: self.sent()? - before, time: took })
    }

    fn sent(&self) -> anyhow::Result<u64> {
        let map = self.ebpf.map(".bss").context("the program's variables")?;
        let variables: Array<_, u64> = Array::try_from(map)?;
        Ok(variables.get(&0, 0)?)
    }
}

/// Interrupts the system call of the thread that set it, after a time, until it is dropped.
struct Alarm {
    off: Arc<AtomicBool>,
    /// When it did so first.
    struck: Arc<OnceLock<Instant>>,
    thread: Option<JoinHandle<()>>,
}

impl Alarm {
    fn set(time: Duration) -> anyhow::Result<Alarm> {
        extern "C" fn nothing(_: libc::c_int) {}
        let action =
            SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing, which is safe in a signal handler; nothing else here uses
        // this signal.
        unsafe { sigaction(Signal::SIGUSR2, &action) }.context("handling a signal")?;
        // SAFETY: this cannot fail and touches no memory of ours.
        let target = unsafe { libc::pthread_self() };
        let off = Arc::new(AtomicBool::new(false));
        let is_off = off.clone();
        let struck = Arc::new(OnceLock::new());
        let strike = struck.clone();
        let thread = std::thread::spawn(move || {
            // Not on the sender's CPU alone, where a sender of real-time priority lets nobody run.
            place::unpin();
            std::thread::park_timeout(time);
            // More than once: the first may come before the call has begun.
            while !is_off.load(Ordering::Acquire) {
                strike.get_or_init(Instant::now);
                // SAFETY: the thread joins this one before it ends, so that it is there.
                unsafe { libc::pthread_kill(target, libc::SIGUSR2) };
                std::thread::park_timeout(Duration::from_millis(2));
            }
        });
        Ok(Alarm { off, struck, thread: Some(thread) })
    }

    /// How long after `start` it struck, if it has. This is when sending ended, and not the time that it
    /// was set to: its thread may have to wait for a CPU, while frames go on.
    fn struck_after(&self, start: Instant) -> Option<Duration> {
        self.struck.get().map(|struck| struck.duration_since(start))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.off.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It does nothing that could panic.
            let _ = thread.join();
        }
    }
}

fn test_run(program: &Xdp, frame: &[u8], repeat: u32) -> io::Result<()> {
    let options = TestRunOptions {
        data_in: Some(frame),
        repeat,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
        ..TestRunOptions::new()
    };
    match program.test_run(options) {
        Ok(_) => Ok(()),
        Err(ProgramError::SyscallError(e)) => Err(e.io_error),
        Err(e) => Err(io::Error::other(e)),
    }
}

/// A receiving program on an interface; detached when dropped.
pub struct Receiver {
    ebpf: Ebpf,
}

impl Receiver {
    /// Attaches the program that counts to an interface of the calling thread's namespace.
    pub fn counting(dev: &str, stamp_at: usize) -> anyhow::Result<Receiver> {
        Receiver::attach("pktgen_count", dev, stamp_at)
    }

    /// Attaches the program that hands frames to a socket.
    pub fn to_socket(dev: &str, stamp_at: usize) -> anyhow::Result<Receiver> {
        Receiver::attach("pktgen_receive", dev, stamp_at)
    }

    fn attach(name: &str, dev: &str, stamp_at: usize) -> anyhow::Result<Receiver> {
        let mut ebpf = program(name, None, &[("stamp_at", stamp_at as u32)])?;
        let program = xdp(&mut ebpf, name)?;
        // The driver's mode where there is one.
        program
            .attach(dev, XdpMode::Driver)
            .or_else(|_| program.attach(dev, XdpMode::Skb))
            .with_context(|| format!("attaching an XDP program to {dev}"))?;
        Ok(Receiver { ebpf })
    }

    /// Directs the frames of a queue to a socket.
    pub fn direct(&mut self, queue: u32, socket: &impl AsRawFd) -> anyhow::Result<()> {
        let map = self.ebpf.map_mut("sockets").context("the map of sockets")?;
        let mut sockets = aya::maps::XskMap::try_from(map)?;
        sockets.set(queue, socket.as_raw_fd(), 0).context("directing frames to the socket")
    }

    /// What was counted, over all CPUs.
    pub fn counted(&self) -> anyhow::Result<Count> {
        let map = self.ebpf.map("counts").context("the map of counts")?;
        let counts: PerCpuArray<_, Count> = PerCpuArray::try_from(map)?;
        let mut sum = Count::default();
        for count in counts.get(&0, 0)?.iter() {
            sum.frames += count.frames;
            sum.bytes += count.bytes;
            sum.others += count.others;
        }
        Ok(sum)
    }
}

/// Loads one program, its constants set.
fn program(
    name: &str,
    headers: Option<&[u64; 12]>,
    constants: &[(&str, u32)],
) -> anyhow::Result<Ebpf> {
    let magic = u32::from_ne_bytes(MAGIC);
    let mut loader = EbpfLoader::new();
    loader.override_global("stamp_magic", &magic, true);
    if let Some(headers) = headers {
        loader.override_global("headers", headers, true);
    }
    for (name, value) in constants {
        loader.override_global(name, value, true);
    }
    let mut ebpf = loader.load(OBJECT).context("loading the XDP programs (this needs root)")?;
    xdp(&mut ebpf, name)?.load().with_context(|| format!("loading {name}"))?;
    Ok(ebpf)
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("{name} is in the object"))?;
    Ok(program.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_tells_when_it_struck_first() {
        let (start, time) = (Instant::now(), Duration::from_millis(50));
        let alarm = Alarm::set(time).unwrap();
        assert!(alarm.struck_after(start).is_none_or(|after| after >= time));
        let first = loop {
            std::thread::sleep(Duration::from_millis(1));
            if let Some(after) = alarm.struck_after(start) {
                break after;
            }
            assert!(start.elapsed() < Duration::from_secs(60));
        };
        assert!(first >= time && first <= start.elapsed());
        std::thread::sleep(Duration::from_millis(10));
        assert_eq!(alarm.struck_after(start), Some(first), "it strikes again until it is dropped");
    }
}
