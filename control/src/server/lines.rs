//! Bytes into lines, bounded.

/// A line is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Splits a stream of bytes at newlines. Holds at most one line beyond what is being fed.
#[derive(Debug)]
pub struct LineDecoder {
    buffer: Vec<u8>,
    /// Where the next line starts.
    start: usize,
    /// Up to where there is no newline.
    scanned: usize,
    max: usize,
}

impl LineDecoder {
    /// A decoder of lines of at most `max` bytes, their newline not counted.
    pub fn new(max: usize) -> LineDecoder {
        LineDecoder { buffer: Vec::new(), start: 0, scanned: 0, max }
    }

    /// Takes further bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete line without its newline, or none yet.
    pub fn next_line(&mut self) -> Option<Result<Vec<u8>, TooLong>> {
        let newline = self.buffer[self.scanned..].iter().position(|b| *b == b'\n');
        let end = newline.map_or(self.buffer.len(), |at| self.scanned + at);
        if end - self.start > self.max {
            return Some(Err(TooLong));
        }
        self.scanned = end;
        newline?;
        let line = self.buffer[self.start..end].to_vec();
        self.start = end + 1;
        self.scanned = self.start;
        Some(Ok(line))
    }

    /// What follows the last complete line: at the end of the stream, a line without newline.
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Forgets all bytes, and gives their memory back.
    pub fn clear(&mut self) {
        *self = LineDecoder::new(self.max);
    }

    /// Gives memory back that a long line needed, once nothing is left of it.
    pub fn shrink(&mut self) {
        if self.rest().is_empty() && self.buffer.capacity() > 64 << 10 {
            self.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(d: &mut LineDecoder, out: &mut Vec<Vec<u8>>) -> Result<(), TooLong> {
        while let Some(line) = d.next_line() {
            out.push(line?);
        }
        Ok(())
    }

    #[test]
    fn lines_at_the_bound() {
        let mut d = LineDecoder::new(4);
        d.feed(b"1234\n");
        assert_eq!(d.next_line(), Some(Ok(b"1234".to_vec())));
        assert_eq!(d.next_line(), None);
        d.feed(b"1234");
        assert_eq!(d.next_line(), None, "the newline may still come");
        d.feed(b"5");
        assert_eq!(d.next_line(), Some(Err(TooLong)));
        let mut d = LineDecoder::new(4);
        d.feed(b"a\n12345\n");
        assert_eq!(d.next_line(), Some(Ok(b"a".to_vec())));
        assert_eq!(d.next_line(), Some(Err(TooLong)));
    }

    proptest! {
        /// However the bytes are cut into pieces, the lines are those of `split`.
        #[test]
        fn lines_do_not_depend_on_the_pieces(
            bytes in proptest::collection::vec(prop_oneof![3 => 0u8..4, 1 => Just(b'\n')], 0..200),
            cuts in proptest::collection::vec(1usize..40, 0..20),
        ) {
            let mut expected: Vec<Vec<u8>> =
                bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            let rest = expected.pop().unwrap();

            let mut d = LineDecoder::new(1000);
            let mut out = Vec::new();
            let mut left = &bytes[..];
            for cut in cuts {
                let (piece, after) = left.split_at(cut.min(left.len()));
                d.feed(piece);
                drain(&mut d, &mut out).unwrap();
                d.shrink();
                left = after;
            }
            d.feed(left);
            drain(&mut d, &mut out).unwrap();
            prop_assert_eq!(out, expected);
            prop_assert_eq!(d.rest(), &rest[..]);
        }
    }
}
