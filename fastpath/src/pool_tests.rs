use super::*;
use switch::NoHeadroom;

const S: SocketId = SocketId(0);
const OTHER: SocketId = SocketId(1);

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn a_frame_moves_its_head_within_its_chunk() {
    let mut pool = Pool::new(4).unwrap();
    let mut f = pool.frame_from(&bytes(60)).unwrap();
    assert_eq!(f.headroom(), HEADROOM);
    assert_eq!(f.push(HEADROOM + 1), Err(NoHeadroom));
    f.push(50).unwrap();
    assert_eq!((f.len(), f.headroom()), (110, HEADROOM - 50));
    f.bytes_mut()[..50].fill(1);
    f.pull(50);
    assert_eq!(f.bytes(), bytes(60));
    f.truncate(20);
    f.truncate(40);
    assert_eq!(f.bytes(), &bytes(60)[..20]);
    f.resize(RX_CAPACITY).unwrap();
    assert_eq!(f.resize(RX_CAPACITY + 1), Err(NoHeadroom));
    f.pull(100_000);
    assert!(f.is_empty());
    assert_eq!(pool.outstanding(), 1);
    pool.discard(f);
    assert_eq!((pool.available(), pool.outstanding()), (4, 0));
}

#[test]
fn a_frame_pulled_to_its_chunks_end_still_belongs_to_it() {
    let mut pool = Pool::new(2).unwrap();
    let mut f = pool.frame_from(&bytes(RX_CAPACITY)).unwrap();
    f.pull(RX_CAPACITY);
    let chunk = pool.chunk_of(f.data().as_ptr());
    pool.discard(f);
    assert_eq!(pool.free.last(), Some(&chunk));
    assert!(pool.free.iter().all(|&c| c < 2) && pool.available() == 2);
}

#[test]
fn large_frames_are_chains() {
    let mut pool = Pool::new(64).unwrap();
    let whole = bytes(65_549);
    let mut f = pool.frame_from(&whole).unwrap();
    assert_eq!((f.len(), f.pieces()), (whole.len(), 18));
    assert_eq!(f.to_vec(), whole);
    f.push(50).unwrap();
    f.pull(50);
    let copy = pool.duplicate(&f).unwrap();
    assert_eq!(copy.to_vec(), whole);
    assert_eq!(pool.outstanding(), 36);
    f.truncate(RX_CAPACITY + 10);
    assert_eq!(f.pieces(), 2);
    assert_eq!(f.to_vec(), &whole[..RX_CAPACITY + 10]);
    assert_eq!(f.resize(100), Err(NoHeadroom));
    f.truncate(100);
    assert_eq!(f.to_vec(), &whole[..100]);
    f.resize(200).unwrap();
    pool.discard(f);
    pool.discard(copy);
    assert_eq!(pool.available(), 64);
}

#[test]
fn a_pool_runs_out_and_leaks_nothing_by_it() {
    let mut pool = Pool::new(3).unwrap();
    assert!(pool.frame_from(&bytes(4 * RX_CAPACITY)).is_none());
    assert_eq!(pool.available(), 3);
    let f = pool.frame_from(&bytes(2 * RX_CAPACITY)).unwrap();
    assert!(pool.duplicate(&f).is_none());
    assert_eq!(pool.available(), 1);
    pool.discard(f);
}

#[test]
fn chunks_go_through_the_kernel_and_back() {
    let mut pool = Pool::new(32).unwrap();
    // Received in two pieces, transmitted, completed.
    let (a, b) = (pool.lend(S).unwrap(), pool.lend(S).unwrap());
    let piece = |address: u64, len| Piece { address: address + HEADROOM as u64, len };
    let mut f = pool.received(S, piece(a, 3840)).unwrap();
    assert!(pool.received_more(S, piece(b, 100), &mut f));
    assert_eq!(f.len(), 3940);
    f.push(50).unwrap();
    let mut sent = Vec::new();
    pool.transmit(OTHER, f, |p, more| sent.push((p, more)));
    let first = Piece { address: a + HEADROOM as u64 - 50, len: 3890 };
    assert_eq!(sent, [(first, true), (piece(b, 100), false)]);
    assert!(pool.completed(OTHER, sent[0].0.address));
    assert!(pool.completed(OTHER, sent[1].0.address));
    assert_eq!((pool.available(), pool.outstanding()), (32, 0));
}

#[test]
fn frames_discarded_together_give_all_their_buffers_back() {
    let mut pool = Pool::new(16).unwrap();
    let lens = [60, RX_CAPACITY + 1, 3 * RX_CAPACITY, 100, 2 * RX_CAPACITY + 9];
    let mut frames: Vec<_> = lens.iter().map(|&n| pool.frame_from(&bytes(n)).unwrap()).collect();
    // One that owns a buffer beyond what it holds.
    frames[2].truncate(70);
    assert_eq!(pool.available(), 16 - 10);
    pool.discard_all(frames.drain(..));
    assert_eq!(pool.available(), 16);
    let mut seen: Vec<_> = (0..16).map(|_| pool.lend(S).unwrap()).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 16, "each of them once");
}

#[test]
fn chunks_that_a_socket_does_not_hold_are_refused() {
    let mut pool = Pool::new(4).unwrap();
    let a = pool.lend(S).unwrap();
    assert!(!pool.completed(OTHER, a), "another socket's");
    assert!(pool.received(S, Piece { address: a + 4000, len: 97 }).is_none(), "beyond the chunk");
    assert!(pool.received(S, Piece { address: 4 << 12, len: 1 }).is_none(), "beyond the pool");
    assert!(pool.received(S, Piece { address: u64::MAX, len: 1 }).is_none(), "beyond all");
    let f = pool.received(S, Piece { address: a, len: 60 }).unwrap();
    assert!(pool.received(S, Piece { address: a, len: 60 }).is_none(), "a second time");
    pool.discard(f);
    assert_eq!(pool.available(), 4);
}

#[test]
fn what_a_closed_socket_held_comes_back() {
    let mut pool = Pool::new(8).unwrap();
    for _ in 0..3 {
        pool.lend(S).unwrap();
    }
    pool.lend(OTHER).unwrap();
    let f = pool.frame_from(&[0; 60]).unwrap();
    pool.transmit(S, f, |_, _| ());
    assert_eq!(pool.reclaim(S), 4);
    assert_eq!(pool.available(), 7);
    assert_eq!(pool.outstanding(), 0);
}

#[test]
fn empty_and_truncated_frames_transmit_no_empty_piece() {
    let mut pool = Pool::new(8).unwrap();
    let mut f = pool.frame_from(&bytes(RX_CAPACITY + 5)).unwrap();
    f.pull(RX_CAPACITY);
    assert_eq!(f.pieces(), 1);
    let mut sent = Vec::new();
    pool.transmit(S, f, |p, more| sent.push((p.len, more)));
    assert_eq!(sent, [(5, false)]);
    let mut f = pool.frame_from(&bytes(RX_CAPACITY + 5)).unwrap();
    f.truncate(10);
    pool.transmit(S, f, |p, more| sent.push((p.len, more)));
    assert_eq!(sent[1..], [(10, false)]);
    pool.reclaim(S);
    assert_eq!(pool.available(), 8);
}

/// Appends frames of these lengths, the headers of each pulled off, and says what should result.
fn appended(pool: &mut Pool, lens: &[usize]) -> (Frame, Vec<u8>) {
    let mut whole = pool.frame_from(&bytes(lens[0])).unwrap();
    let mut expected = bytes(lens[0]);
    for &len in &lens[1..] {
        let mut next = pool.frame_from(&bytes(len)).unwrap();
        next.pull(54);
        whole.append(next);
        expected.extend_from_slice(&bytes(len)[54..]);
    }
    (whole, expected)
}

#[test]
fn frames_are_hung_behind_one_another() {
    let mut pool = Pool::new(64).unwrap();
    for lens in [&[1514; 5][..], &[9014, 1514, 9014, 60], &[60, 20_000], &[20_000, 60, 3841]] {
        let (mut f, expected) = appended(&mut pool, lens);
        f.set_gso_size(1460);
        assert_eq!(f.len(), expected.len());
        assert_eq!(f.to_vec(), expected);
        let copy = pool.duplicate(&f).unwrap();
        assert_eq!((copy.gso_size(), copy.to_vec()), (1460, expected.clone()));
        let mut sent = 0;
        let pieces = f.pieces();
        pool.transmit(S, f, |p, more| {
            sent += p.len as usize;
            assert_eq!(more, sent < expected.len());
        });
        assert_eq!((sent, pieces as u32), (expected.len(), pool.reclaim(S)));
        pool.discard(copy);
        assert_eq!(pool.available(), 64);
    }
}

#[test]
fn what_was_cut_off_stays_off_when_a_frame_grows_again() {
    let mut pool = Pool::new(64).unwrap();
    // Within the first segment, at its end, and in each further one; both of the frame that grows
    // and of the one that is hung behind it.
    for cut in [100, RX_CAPACITY, RX_CAPACITY + 1, 2 * RX_CAPACITY, 2 * RX_CAPACITY + 7] {
        let mut f = pool.frame_from(&bytes(3 * RX_CAPACITY)).unwrap();
        f.truncate(cut);
        let mut expected = bytes(cut);
        for _ in 0..2 {
            let mut next = pool.frame_from(&bytes(3 * RX_CAPACITY)).unwrap();
            next.truncate(cut);
            f.append(next);
            expected.extend_from_slice(&bytes(cut));
        }
        assert_eq!(f.to_vec(), expected);
        f.truncate(expected.len() - 1);
        assert_eq!(f.to_vec(), &expected[..expected.len() - 1]);
        let mut sent = 0;
        pool.transmit(S, f, |p, _| sent += p.len as usize);
        assert_eq!(sent, expected.len() - 1);
        pool.reclaim(S);
        assert_eq!(pool.available(), 64, "cut at {cut}");
    }
}

#[test]
fn no_frame_is_longer_than_its_length_can_say() {
    let mut pool = Pool::new(40).unwrap();
    let most = RX_CAPACITY + usize::from(u16::MAX);
    assert!(pool.frame_from(&bytes(most + 1)).is_none());
    let mut f = pool.frame_from(&bytes(most)).unwrap();
    assert_eq!(f.len(), most);
    // Nor does what the kernel hands over make it one.
    let address = pool.lend(S).unwrap() + HEADROOM as u64;
    assert!(!pool.received_more(S, Piece { address, len: 1 }, &mut f));
    pool.discard(f);
    assert_eq!(pool.available(), 40);
}

#[test]
fn a_frame_without_headroom_makes_room_to_be_appended() {
    let mut pool = Pool::new(4).unwrap();
    let mut f = pool.frame_from(&bytes(60)).unwrap();
    let mut next = pool.frame_from(&bytes(1000)).unwrap();
    next.push(HEADROOM).unwrap();
    let expected = [f.to_vec(), next.to_vec()].concat();
    f.append(next);
    assert_eq!(f.to_vec(), expected);
    pool.discard(f);
    assert_eq!(pool.available(), 4);
}

#[test]
#[cfg(debug_assertions)]
fn a_leaked_frame_panics() {
    let mut pool = Pool::new(1).unwrap();
    let f = pool.alloc().unwrap();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(f)));
    assert!(panic.is_err());
}

/// Writes `bytes` into slices, as readv(2) does.
fn scatter(bytes: &[u8], into: &mut [IoSliceMut<'_>]) -> usize {
    let mut left = bytes;
    for slice in into {
        let n = left.len().min(slice.len());
        slice[..n].copy_from_slice(&left[..n]);
        left = &left[n..];
    }
    bytes.len() - left.len()
}

#[test]
fn what_is_read_is_a_frame() {
    let mut pool = Pool::new(20).unwrap();
    for len in [0, 1, 60, RX_CAPACITY, RX_CAPACITY + 1, 65_549] {
        let bytes: Vec<u8> = (0..10 + len).map(|i| (i * 7) as u8).collect();
        let mut header = [0; 10];
        let frame = pool.read_frame(&mut header, |into| Ok(scatter(&bytes, into))).unwrap();
        assert_eq!(header, bytes[..10]);
        assert_eq!(frame.to_vec(), bytes[10..], "{len}");
        assert_eq!((frame.headroom(), frame.gso_size()), (HEADROOM, 0));
        assert_eq!(pool.outstanding() as usize, len.div_ceil(RX_CAPACITY).max(1));
        pool.discard(frame);
        assert_eq!(pool.available(), 20);
    }
    // Less than a header, and an error: nothing is lost.
    let frame = pool.read_frame(&mut [0; 10], |_| Ok(4)).unwrap();
    assert!(frame.is_empty());
    pool.discard(frame);
    assert!(pool.read_frame(&mut [0; 10], |_| Err(io::ErrorKind::WouldBlock.into())).is_err());
    assert_eq!(pool.available(), 20);
}

#[test]
fn what_is_read_fits_the_free_buffers() {
    let mut pool = Pool::new(3).unwrap();
    let bytes = vec![5; 60_000];
    let frame = pool.read_frame(&mut [0; 10], |into| Ok(scatter(&bytes, into))).unwrap();
    assert_eq!(frame.len(), 3 * RX_CAPACITY);
    assert!(pool.read_frame(&mut [0; 10], |into| Ok(scatter(&bytes, into))).is_err());
    pool.discard(frame);
    assert_eq!(pool.available(), 3);
}
