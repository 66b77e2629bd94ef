//! What becomes of frames that follow one another, and what is said of them to the kernel; a socket pair stands
//! in for the packet socket.

use super::*;
use crate::frame::RX_CAPACITY;
use crate::packet::PacketSocket;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, recv, socketpair};
use std::os::fd::{AsRawFd, OwnedFd};

const HEADERS: usize = 42;

fn pair() -> (Runs, OwnedFd) {
    let (one, two) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
    )
    .unwrap();
    (Runs::new(Beside::new(PacketSocket::of(one))), two)
}

/// A datagram of `len` bytes of `fill` from 192.0.2.1 to UDP port 4789.
fn datagram(len: usize, fill: u8, source_port: u16) -> Vec<u8> {
    let ip_len = (28 + len) as u16;
    let mut bytes = vec![0; 12];
    bytes.extend([8, 0, 0x45, 0]);
    bytes.extend(ip_len.to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    let sum = encap::checksum::checksum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(source_port.to_be_bytes());
    bytes.extend(4789u16.to_be_bytes());
    bytes.extend((ip_len - 20).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(std::iter::repeat_n(fill, len));
    bytes
}

fn push(s: &mut Runs, pool: &mut Pool, bytes: &[u8]) -> bool {
    let frame = pool.frame_from(bytes).unwrap();
    let headers = Headers::read(frame.bytes(), frame.len()).unwrap();
    s.run.push(frame, headers).map_err(|frame| pool.discard(frame)).is_ok()
}

fn sent(s: &mut Runs, pool: &mut Pool, other: &OwnedFd) -> Vec<u8> {
    s.send().unwrap();
    pool.discard_batch(&mut s.run.frames);
    let mut bytes = vec![0; 1 << 17];
    let n = recv(other.as_raw_fd(), &mut bytes, nix::sys::socket::MsgFlags::empty()).unwrap();
    bytes.truncate(n);
    bytes
}

#[test]
fn a_run_is_sent_as_one() {
    let (mut pool, (mut s, other)) = (Pool::new(256).unwrap(), pair());
    for n in 0..5 {
        let len = if n == 4 { 100 } else { 1400 };
        assert!(push(&mut s, &mut pool, &datagram(len, n, 7)));
    }
    assert_eq!(s.waiting(), 5);
    assert!(!push(&mut s, &mut pool, &datagram(100, 9, 7)), "a smaller one is the last");
    let bytes = sent(&mut s, &mut pool, &other);
    let payload = 4 * 1400 + 100;
    assert_eq!(bytes.len(), HEADER + HEADERS + payload);
    // NEEDS_CSUM, UDP_L4, 42 bytes of headers, 1400 of payload each, the checksum 6 bytes from 34.
    assert_eq!(bytes[..HEADER], [1, 5, 42, 0, 0x78, 5, 34, 0, 6, 0]);
    let frame = &bytes[HEADER..];
    assert_eq!(frame[16..18], (28 + payload as u16).to_be_bytes());
    assert!(encap::checksum::is_valid(&frame[14..34]));
    assert_eq!(frame[38..40], (8 + payload as u16).to_be_bytes());
    for n in 0..5 {
        let at = HEADERS + usize::from(n) * 1400;
        assert!(frame[at..frame.len().min(at + 1400)].iter().all(|&b| b == n));
    }
    assert_eq!(pool.available(), pool.capacity());
}

#[test]
fn one_alone_is_sent_as_it_is() {
    let (mut pool, (mut s, other)) = (Pool::new(256).unwrap(), pair());
    let alone = datagram(500, 1, 7);
    assert!(push(&mut s, &mut pool, &alone));
    let bytes = sent(&mut s, &mut pool, &other);
    assert_eq!((&bytes[..HEADER], &bytes[HEADER..]), (&[0; HEADER][..], &alone[..]));
}

#[test]
fn a_run_ends_where_another_flow_begins_or_a_superpacket_is_full() {
    let (mut pool, (mut s, _other)) = (Pool::new(256).unwrap(), pair());
    assert!(push(&mut s, &mut pool, &datagram(1000, 1, 7)));
    assert!(!push(&mut s, &mut pool, &datagram(1000, 1, 8)), "another source port");
    assert!(!push(&mut s, &mut pool, &datagram(1001, 1, 7)), "larger");
    for _ in 1..bundle::MOST {
        assert!(push(&mut s, &mut pool, &datagram(1000, 1, 7)));
    }
    assert!(!push(&mut s, &mut pool, &datagram(1000, 1, 7)), "packets");
    pool.discard_batch(&mut s.run.frames);
    // 46 times 1422 are less than 65,507, 47 times are more.
    for _ in 0..46 {
        assert!(push(&mut s, &mut pool, &datagram(1422, 1, 7)));
    }
    assert!(!push(&mut s, &mut pool, &datagram(1422, 1, 7)), "bytes");
    pool.discard_batch(&mut s.run.frames);
}

#[test]
fn frames_of_several_buffers() {
    let (mut pool, (mut s, other)) = (Pool::new(256).unwrap(), pair());
    let len = 2 * RX_CAPACITY + 1000;
    for n in 0..7 {
        assert!(push(&mut s, &mut pool, &datagram(len, n, 7)));
    }
    let bytes = sent(&mut s, &mut pool, &other);
    assert_eq!(bytes.len(), HEADER + HEADERS + 7 * len);
    let frame = &bytes[HEADER + HEADERS..];
    assert!(frame.chunks(len).zip(0..).all(|(part, n)| part.iter().all(|&b| b == n)));
    assert_eq!(pool.available(), pool.capacity());
}

/// What is on its way is known, and that there is no room is told from being refused.
#[test]
fn a_socket_that_is_full() {
    let (mut pool, (mut s, other)) = (Pool::new(256).unwrap(), pair());
    assert!(!s.beside.socket.is_busy());
    for n in 0..4 {
        assert!(push(&mut s, &mut pool, &datagram(1400, n, 7)));
    }
    let error = loop {
        if let Err(e) = s.send() {
            break e;
        }
        assert!(s.beside.socket.is_busy());
    };
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
    drop(other);
    pool.discard_batch(&mut s.run.frames);
}
