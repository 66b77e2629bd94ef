//! Memory that the kernel and we share: the buffers of a worker, and the rings of a socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// A mapping of memory, unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is plain memory that no thread has a special claim on; whoever reads or writes
// through `base` answers for the absence of races.
unsafe impl Send for Mapping {}
// SAFETY: as above; the methods of a shared reference only hand out the address.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed memory of `len` bytes, aligned to a page; on huge pages where the kernel has some
    /// to spare, since a worker touches all of its buffers in turn.
    pub fn anonymous(len: usize) -> io::Result<Mapping> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let mapping = Mapping::map(len, flags, None, 0)?;
        #[cfg(not(miri))]
        // SAFETY: the range is the mapping just made. The advice changes no content, and that it
        // may be refused does not matter.
        unsafe {
            libc::madvise(mapping.base.as_ptr().cast(), len, libc::MADV_HUGEPAGE);
        }
        Ok(mapping)
    }

    /// `len` bytes of what `fd` offers at `offset`, shared with the kernel and present from the
    /// start.
    pub fn of(fd: BorrowedFd<'_>, len: usize, offset: i64) -> io::Result<Mapping> {
        Mapping::map(len, libc::MAP_SHARED | libc::MAP_POPULATE, Some(fd), offset)
    }

    fn map(len: usize, flags: i32, fd: Option<BorrowedFd<'_>>, at: i64) -> io::Result<Mapping> {
        let fd = fd.map_or(-1, |fd| fd.as_raw_fd());
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: without an address and without MAP_FIXED the kernel picks a free range, so that
        // no memory in use is replaced.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, fd, at) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(12))?;
        Ok(Mapping { base, len })
    }

    /// The first byte.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map`, belongs to this value alone, and everything that
        // points into it is gone: rings own their mapping, and the pool keeps its mapping for
        // good when frames are still out (see `Pool::drop`).
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), self.len);
        }
    }
}
