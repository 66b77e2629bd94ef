//! Capture files, to feed memory ports from and to keep what they sent
//! (draft-ietf-opsawg-pcap: the classic format, Ethernet).

use std::io::{self, Read, Write};
use std::time::Duration;

/// Magic number of a file whose fractions of a second are microseconds, and nanoseconds.
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;
/// The largest frame that a file may hold: a broken length must not allocate more.
const MAX_FRAME: u32 = 1 << 18;

/// Writes a capture file.
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Begins a file, with nanoseconds.
    pub fn new(mut out: W) -> io::Result<Writer<W>> {
        out.write_all(&NANOSECONDS.to_ne_bytes())?;
        // Version 2.4, then two fields that are always zero.
        out.write_all(&2u16.to_ne_bytes())?;
        out.write_all(&4u16.to_ne_bytes())?;
        out.write_all(&[0; 8])?;
        out.write_all(&MAX_FRAME.to_ne_bytes())?;
        out.write_all(&ETHERNET.to_ne_bytes())?;
        Ok(Writer { out })
    }

    /// Adds a frame, seen at `time` since the Unix epoch.
    pub fn write(&mut self, time: Duration, frame: &[u8]) -> io::Result<()> {
        let len = u32::try_from(frame.len()).map_err(io::Error::other)?;
        for field in [time.as_secs() as u32, time.subsec_nanos(), len, len] {
            self.out.write_all(&field.to_ne_bytes())?;
        }
        self.out.write_all(frame)
    }

    /// Ends the file; what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads a capture file: an iterator over the time and the bytes of each frame.
pub struct Reader<R> {
    input: R,
    swapped: bool,
    nanoseconds: bool,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the head of a file, written on a machine of either byte order. Fails when it is no
    /// capture of Ethernet frames.
    pub fn new(mut input: R) -> io::Result<Reader<R>> {
        let mut head = [0; 24];
        input.read_exact(&mut head)?;
        let magic = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]);
        let (swapped, nanoseconds) = match magic {
            MICROSECONDS => (false, false),
            NANOSECONDS => (false, true),
            m if m.swap_bytes() == MICROSECONDS => (true, false),
            m if m.swap_bytes() == NANOSECONDS => (true, true),
            _ => return Err(invalid("not a capture file")),
        };
        let reader = Reader { input, swapped, nanoseconds, ended: false };
        match reader.field(&head[20..]) & 0x0fff_ffff {
            ETHERNET => Ok(reader),
            _ => Err(invalid("not a capture of Ethernet frames")),
        }
    }

    fn field(&self, bytes: &[u8]) -> u32 {
        let value = bytes.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
        if self.swapped { value.swap_bytes() } else { value }
    }

    /// The next frame; none at the end of the file.
    fn read(&mut self) -> io::Result<Option<(Duration, Vec<u8>)>> {
        let mut head = [0; 16];
        let mut have = 0;
        while have < head.len() {
            match self.input.read(&mut head[have..])? {
                0 if have == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => have += n,
            }
        }
        let [seconds, fraction, len] = [0, 4, 8].map(|at| self.field(&head[at..]));
        if len > MAX_FRAME {
            return Err(invalid("a frame of more than 256 KiB"));
        }
        let nanoseconds = if self.nanoseconds { 1 } else { 1000 };
        let fraction = Duration::from_nanos(u64::from(fraction) * nanoseconds);
        let mut frame = vec![0; len as usize];
        self.input.read_exact(&mut frame)?;
        Ok(Some((Duration::from_secs(u64::from(seconds)) + fraction, frame)))
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = io::Result<(Duration, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let frames =
            [(Duration::new(7, 8), vec![1; 60]), (Duration::new(9, 999_999_999), vec![2; 9014])];
        let mut writer = Writer::new(Vec::new()).unwrap();
        for (time, frame) in &frames {
            writer.write(*time, frame).unwrap();
        }
        let file = writer.finish().unwrap();
        let read: io::Result<Vec<_>> = Reader::new(&file[..]).unwrap().collect();
        assert_eq!(read.unwrap(), frames);
        // A file that ends early yields what is whole, then one error, then nothing.
        let mut reader = Reader::new(&file[..file.len() - 1]).unwrap();
        assert!(reader.next().unwrap().is_ok());
        assert!(reader.next().unwrap().is_err());
        assert!(reader.next().is_none());
    }

    /// A file as `tcpdump` on a big-endian machine writes it.
    #[test]
    fn the_other_byte_order_and_microseconds() {
        let mut file = Vec::new();
        for field in [MICROSECONDS, 0x0002_0004, 0, 0, 65_535, ETHERNET, 5, 6, 2, 60] {
            file.extend_from_slice(&field.to_be_bytes());
        }
        file.extend_from_slice(&[0xaa, 0xbb]);
        let read: Vec<_> = Reader::new(&file[..]).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [(Duration::new(5, 6000), vec![0xaa, 0xbb])]);
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        assert!(Reader::new(&[0; 24][..]).is_err());
        assert!(Reader::new(&[0; 4][..]).is_err());
        let mut file = Writer::new(Vec::new()).unwrap().finish().unwrap();
        file.extend_from_slice(&[0xff; 16]);
        assert!(Reader::new(&file[..]).unwrap().next().unwrap().is_err());
        file[20] = 113; // LINKTYPE_LINUX_SLL
        assert!(Reader::new(&file[..]).is_err());
    }
}
