//! IPv4 fragmentation (RFC 791 section 3.2, RFC 1812 section 4.2.2.7): before a packet enters a
//! tunnel or leaves through a port that is too narrow for it, never behind a tunnel's outer header,
//! so that the far end has nothing to reassemble.

use super::{Context, Origin, router};
use crate::frame::{Frame, Io};
use crate::reason::DropReason;
use encap::ethernet::HEADER_LEN;
use encap::ipv4;

/// The longest frame that a piece makes: it fits any buffer, wherever its head is. Where the MTU is
/// larger, pieces are smaller than they could be.
pub(super) const MAX_FRAME: usize = 3072;
/// Data of a fragment, but for the last one's, comes in units of so many bytes.
const UNIT: usize = 8;

/// Sends an IPv4 packet, as it was received, in pieces of at most `mtu` bytes; each of them is
/// routed like any packet. The frame itself becomes the last piece, the others are originated.
#[cold]
pub(super) fn send<I: Io>(
    cx: &Context<'_>,
    mut frame: I::Frame,
    mtu: u32,
    origin: Origin,
    io: &mut I,
) {
    let Some(plan) = Plan::new(&frame, mtu as usize) else {
        return cx.drop(DropReason::MtuExceeded, frame, io);
    };
    let mut at = 0;
    loop {
        let (header, room) = if at == 0 { (&plan.first, plan.first_room) } else { plan.later() };
        let is_last = plan.data - at <= room;
        let len = if is_last { plan.data - at } else { room };
        if is_last {
            let mut data = [0; MAX_FRAME];
            frame.copy_from(plan.data_at + at, &mut data[..len]);
            frame.truncate(header.len);
            if plan.write(&mut frame, header, at, len, true).is_err() {
                return cx.drop(DropReason::NoBuffer, frame, io);
            }
            frame.bytes_mut()[header.len..].copy_from_slice(&data[..len]);
            return route(cx, frame, origin, io);
        }
        // Without one of its pieces the packet is lost: the rest need not be sent.
        let Some(mut piece) = io.alloc() else {
            return cx.drop(DropReason::NoBuffer, frame, io);
        };
        cx.counters.originated.add(1);
        if plan.write(&mut piece, header, at, len, false).is_err() {
            cx.drop(DropReason::NoBuffer, piece, io);
            return cx.drop(DropReason::NoBuffer, frame, io);
        }
        frame.copy_from(plan.data_at + at, &mut piece.bytes_mut()[header.len..]);
        route(cx, piece, origin, io);
        at += len;
    }
}

fn route<I: Io>(cx: &Context<'_>, mut piece: I::Frame, origin: Origin, io: &mut I) {
    let fate = router::forward_rare(cx, &mut piece, origin);
    cx.conclude(cx.verdict(fate), piece, io);
}

/// The Ethernet and IPv4 header of a piece.
#[derive(Clone, Copy)]
struct Header {
    bytes: [u8; HEADER_LEN + ipv4::MAX_HEADER_LEN],
    len: usize,
}

/// How a packet is cut up.
struct Plan {
    /// Where the packet's data start in the frame, and how many bytes they are.
    data_at: usize,
    data: usize,
    /// Where the data lie in the original datagram, and whether more of it follows: the packet may
    /// be a fragment itself.
    offset: usize,
    more: bool,
    /// The first piece has all options.
    first: Header,
    first_room: usize,
    /// Later ones have those that are to be copied.
    rest: Header,
    rest_room: usize,
}

impl Plan {
    /// None when the MTU leaves no room for data.
    fn new<F: Frame>(frame: &F, mtu: usize) -> Option<Plan> {
        let packet = frame.bytes().get(HEADER_LEN..)?;
        let view = ipv4::View::new_unchecked(packet);
        let header_len = view.header_len();
        let mut first =
            Header { bytes: [0; HEADER_LEN + ipv4::MAX_HEADER_LEN], len: HEADER_LEN + header_len };
        first.bytes[..first.len].copy_from_slice(frame.bytes().get(..first.len)?);
        let mut rest = first;
        let at = HEADER_LEN + ipv4::HEADER_LEN;
        rest.len = at + copied_options(view.options(), &mut rest.bytes[at..]);
        let mut header = ipv4::View::new_unchecked(&mut rest.bytes[HEADER_LEN..]);
        header.set_header_len(rest.len - HEADER_LEN);

        let room = |header: &Header| {
            let most = (HEADER_LEN + mtu).min(MAX_FRAME);
            Some(most.checked_sub(header.len)? / UNIT * UNIT).filter(|&room| room > 0)
        };
        Some(Plan {
            data_at: first.len,
            data: view.total_len() - header_len,
            offset: view.fragment_offset(),
            more: view.more_fragments(),
            first_room: room(&first)?,
            rest_room: room(&rest)?,
            first,
            rest,
        })
    }

    fn later(&self) -> (&Header, usize) {
        (&self.rest, self.rest_room)
    }

    /// Makes `piece` long enough for `len` bytes of data and writes its headers.
    fn write<F: Frame>(
        &self,
        piece: &mut F,
        header: &Header,
        at: usize,
        len: usize,
        is_last: bool,
    ) -> Result<(), crate::frame::NoHeadroom> {
        piece.resize(header.len + len)?;
        let bytes = piece.bytes_mut();
        bytes[..header.len].copy_from_slice(&header.bytes[..header.len]);
        let mut view = ipv4::View::new_unchecked(&mut bytes[HEADER_LEN..]);
        view.set_total_len((header.len - HEADER_LEN + len) as u16);
        view.set_fragment(false, self.more || !is_last, self.offset + at);
        view.fill_checksum();
        Ok(())
    }
}

/// Writes the options that every fragment has (those with the copied flag, RFC 791 section 3.1), and
/// padding to four bytes; how many bytes that is. A malformed option ends the list.
fn copied_options(options: &[u8], out: &mut [u8]) -> usize {
    const COPIED: u8 = 0x80;
    const END: u8 = 0;
    const NOP: u8 = 1;
    let (mut left, mut len) = (options, 0);
    loop {
        let size = match *left {
            [] | [END, ..] => break,
            [NOP, ..] => 1,
            [_, size, ..] if size >= 2 && usize::from(size) <= left.len() => usize::from(size),
            _ => break,
        };
        let (option, next) = left.split_at(size);
        if option[0] & COPIED != 0 {
            out[len..len + size].copy_from_slice(option);
            len += size;
        }
        left = next;
    }
    let padded = len.next_multiple_of(4);
    out[len..padded].fill(END);
    padded
}
