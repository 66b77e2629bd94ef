//! Commands of bpf(2) that the loader has no function for.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Takes the program of a link off its interface, whoever else holds the link (bpf(2)).
pub(crate) fn detach_link(id: u32) -> io::Result<()> {
    const LINK_GET_FD_BY_ID: c_int = 30;
    const LINK_DETACH: c_int = 34;
    let call = |command: c_int, argument: u32| {
        // The kernel takes what is not given of `union bpf_attr` for zero.
        let attributes = [argument, 0, 0, 0];
        let len = size_of_val(&attributes);
        // SAFETY: the kernel reads `len` bytes from `attributes`, which has as many.
        let r = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), len) };
        if r < 0 { Err(io::Error::last_os_error()) } else { Ok(r as c_int) }
    };
    let fd = call(LINK_GET_FD_BY_ID, id)?;
    // SAFETY: the kernel has just given it to us.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    call(LINK_DETACH, link.as_raw_fd() as u32).map(drop)
}

/// Runs a program for packets once, on one of `len` zeros (4096 at most), with two numbers in its control
/// buffer (BPF_PROG_TEST_RUN, linux/bpf.h).
#[inline]
pub(crate) fn run_program(
    program: BorrowedFd<'_>,
    len: usize,
    numbers: [u32; 2],
) -> io::Result<()> {
    const PROG_TEST_RUN: c_int = 10;
    /// `struct __sk_buff`, of which the fields before and behind `cb` stay zero.
    #[repr(C)]
    struct Context {
        before: [u32; 12],
        cb: [u32; 5],
        behind: [u32; 31],
    }
    /// `union bpf_attr` for this command.
    #[repr(C)]
    #[derive(Default)]
    struct TestRun {
        prog_fd: u32,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: u64,
        ctx_out: u64,
        flags: u32,
        cpu: u32,
        batch_size: u32,
        padding: u32,
    }
    static PACKET: [u8; 4096] = [0; 4096];
    let context =
        Context { before: [0; 12], cb: [numbers[0], numbers[1], 0, 0, 0], behind: [0; 31] };
    let mut attributes = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: PACKET[..len].len() as u32,
        data_in: PACKET.as_ptr().expose_provenance() as u64,
        repeat: 1,
        ctx_size_in: size_of_val(&context) as u32,
        ctx_in: (&raw const context).expose_provenance() as u64,
        ..TestRun::default()
    };
    let len = size_of_val(&attributes);
    // SAFETY: the kernel reads and writes `len` bytes of `attributes`, which has as many, and reads what its pointers
    // and their sizes name: `PACKET` and `context`, which outlive the call.
    let r = unsafe { libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, &raw mut attributes, len) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
