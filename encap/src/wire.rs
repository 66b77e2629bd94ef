//! What every wire format file is made of: bounded reads and writes of named fields, and the
//! shape of a view and of its errors.

use core::ops::Range;

/// Where a field lies in its header, in bytes.
pub(crate) type Field = Range<usize>;

/// The bytes of `field`.
///
/// A view made by `new_checked` never reads outside its buffer. Should one made by `new_unchecked`
/// do so, it reads zeros instead of taking the switch down; debug builds and fuzzing panic.
#[inline(always)]
pub(crate) fn read<const N: usize>(bytes: &[u8], field: Field) -> [u8; N] {
    match bytes.get(field).and_then(|b| b.first_chunk()) {
        Some(b) => *b,
        None => {
            debug_assert!(false, "a view reads outside its buffer");
            [0; N]
        }
    }
}

/// Writes `value` to `field`; outside the buffer nothing is written (debug builds panic).
#[inline(always)]
pub(crate) fn write<const N: usize>(bytes: &mut [u8], field: Field, value: [u8; N]) {
    match bytes.get_mut(field).and_then(|b| b.first_chunk_mut()) {
        Some(b) => *b = value,
        None => debug_assert!(false, "a view writes outside its buffer"),
    }
}

/// The octet at `at`.
#[inline(always)]
pub(crate) fn read_u8(bytes: &[u8], at: usize) -> u8 {
    read::<1>(bytes, at..at + 1)[0]
}

/// The big-endian 16-bit integer in `field`.
#[inline(always)]
pub(crate) fn read_u16(bytes: &[u8], field: Field) -> u16 {
    u16::from_be_bytes(read(bytes, field))
}

/// The big-endian 32-bit integer in `field`.
#[inline(always)]
pub(crate) fn read_u32(bytes: &[u8], field: Field) -> u32 {
    u32::from_be_bytes(read(bytes, field))
}

/// Writes one octet.
#[inline(always)]
pub(crate) fn write_u8(bytes: &mut [u8], at: usize, value: u8) {
    write(bytes, at..at + 1, [value]);
}

/// Writes a big-endian 16-bit integer.
#[inline(always)]
pub(crate) fn write_u16(bytes: &mut [u8], field: Field, value: u16) {
    write(bytes, field, value.to_be_bytes());
}

/// Writes a big-endian 32-bit integer.
#[inline(always)]
pub(crate) fn write_u32(bytes: &mut [u8], field: Field, value: u32) {
    write(bytes, field, value.to_be_bytes());
}

/// Everything from `start` up to `end`, clipped to the buffer.
#[inline(always)]
pub(crate) fn clip(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    bytes.get(start..end.min(bytes.len())).unwrap_or(&[])
}

/// Like [`clip`], writable.
#[inline(always)]
pub(crate) fn clip_mut(bytes: &mut [u8], start: usize, end: usize) -> &mut [u8] {
    let end = end.min(bytes.len());
    bytes.get_mut(start..end).unwrap_or(&mut [])
}

/// Copies `data` to `start`, as much of it as the buffer holds (debug builds panic if not all).
#[inline(always)]
pub(crate) fn copy(bytes: &mut [u8], start: usize, data: &[u8]) {
    match bytes.get_mut(start..).and_then(|b| b.get_mut(..data.len())) {
        Some(b) => b.copy_from_slice(data),
        None => debug_assert!(false, "emit needs a buffer of buffer_len bytes"),
    }
}

/// The part of a view that is the same for every format. The file adds `check_len`, the accessors
/// and the setters.
macro_rules! view {
    ($(#[$doc:meta])* $error:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct View<T: AsRef<[u8]>> {
            buffer: T,
        }

        impl<T: AsRef<[u8]>> View<T> {
            /// A view of `buffer` without a look at it: for a buffer about to be written, or
            /// checked before. On a buffer that is too short, accessors read zeros and setters do
            /// nothing (debug builds panic).
            #[inline(always)]
            pub const fn new_unchecked(buffer: T) -> View<T> {
                View { buffer }
            }

            /// A view of `buffer` after [`View::check_len`]: no accessor can leave the buffer.
            #[inline(always)]
            pub fn new_checked(buffer: T) -> Result<View<T>, $error> {
                let view = View::new_unchecked(buffer);
                view.check_len()?;
                Ok(view)
            }

            /// Gives the buffer back.
            #[inline(always)]
            pub fn into_inner(self) -> T {
                self.buffer
            }

            #[inline(always)]
            fn bytes(&self) -> &[u8] {
                self.buffer.as_ref()
            }
        }
    };
}

/// A small `Copy` error enum whose documentation is its message.
macro_rules! error {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $text] $variant,)*
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(match self { $($name::$variant => $text,)* })
            }
        }

        impl core::error::Error for $name {}
    };
}

pub(crate) use {error, view};
