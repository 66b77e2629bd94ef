//! What the underlay told of a path.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Seconds after which a lower MTU is forgotten and a larger packet tried again (RFC 1191 section
/// 6.3, RFC 8201 section 4).
const FORGET_AFTER: u32 = 600;

/// Set once and for all, by any worker of the process.
static ANY_KNOWN: AtomicBool = AtomicBool::new(false);

/// The MTU of a path as routers on it reported it: "fragmentation needed" or "packet too big" about
/// an outer packet.
///
/// Any worker may learn it and all of them heed it from then on, without a lock and without waiting
/// for the control thread. It lives outside the snapshots of the tables, which only point to it, so
/// that new tables do not forget it.
#[derive(Debug, Default)]
pub struct PathMtu(
    /// The second in which it was learned, 32 bits, then the MTU, 32 bits; 0: nothing is known.
    AtomicU64,
);

impl PathMtu {
    /// The MTU in bytes, of the outer IP packet, unless nothing is known or it is out of date. `now`
    /// is in seconds.
    #[inline(always)]
    pub fn get(&self, now: u32) -> Option<u32> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            known if now.wrapping_sub((known >> 32) as u32) >= FORGET_AFTER => None,
            known => Some(known as u32),
        }
    }

    /// Whether one of all paths had a lower MTU once: as long as none had, nobody need look at each.
    #[inline(always)]
    pub(crate) fn any_known() -> bool {
        ANY_KNOWN.load(Ordering::Relaxed)
    }

    /// Notes what a router reported. A larger MTU than the one known says nothing: it may be of a
    /// router before the narrow link, and a report never raises the estimate (RFC 1191 section 3).
    pub fn learn(&self, mtu: u32, now: u32) {
        if self.get(now).is_none_or(|known| mtu <= known) {
            ANY_KNOWN.store(true, Ordering::Relaxed);
            self.0.store(u64::from(now) << 32 | u64::from(mtu), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_counts_until_it_is_ten_minutes_old() {
        let path = PathMtu::default();
        assert_eq!(path.get(1000), None);
        path.learn(1400, 1000);
        path.learn(1450, 1001);
        assert_eq!(path.get(1001), Some(1400));
        path.learn(1300, 1100);
        assert_eq!(path.get(1699), Some(1300));
        assert_eq!(path.get(1700), None);
        path.learn(1450, 1701);
        assert_eq!(path.get(1701), Some(1450));
    }

    #[test]
    fn hearing_it_again_keeps_it() {
        let path = PathMtu::default();
        path.learn(1400, 0);
        path.learn(1400, 599);
        assert_eq!(path.get(1198), Some(1400));
    }
}
