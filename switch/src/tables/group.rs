//! Equal-cost next hops: each flow takes one, and keeps it.

use super::NextHop;

/// Into how many parts the flows are divided.
const BUCKETS: usize = 256;

/// Several next hops of equal cost.
///
/// Resilient: each of 256 buckets of flows goes to the member that scores highest for it (rendezvous
/// hashing, RFC 2991 calls it highest random weight). A member that goes away moves only its own
/// flows, and one that comes takes its share and moves no other. It follows from the members alone:
/// no state is kept over changes or restarts, and every node computes the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    members: Vec<NextHop>,
    buckets: [u8; BUCKETS],
}

impl Group {
    /// A group of members, each with a number that identifies it over changes. None may itself be
    /// a group. Members beyond the 256th get no flows.
    pub fn new(members: &[(u64, NextHop)]) -> Group {
        let score = |bucket: usize, id: u64| mix(id ^ mix(bucket as u64));
        let buckets = core::array::from_fn(|bucket| {
            let members = members.iter().take(BUCKETS).enumerate();
            members.max_by_key(|(_, (id, _))| score(bucket, *id)).map_or(0, |(i, _)| i as u8)
        });
        Group { members: members.iter().map(|&(_, hop)| hop).collect(), buckets }
    }

    /// The next hop of a flow.
    #[inline]
    pub fn pick(&self, flow: u32) -> Option<&NextHop> {
        self.members.get(self.member(flow))
    }

    /// Which of the members that is.
    #[inline(always)]
    pub(crate) fn member(&self, flow: u32) -> usize {
        // The low bits: the high ones choose the source port of a tunnel packet, and flows that
        // share a next hop should not share their ports.
        self.buckets[flow as usize % BUCKETS].into()
    }

    pub(crate) fn members(&self) -> &[NextHop] {
        &self.members
    }
}

/// The finalizer of splitmix64: every bit of the input reaches every bit of the output.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TunnelId;

    fn members(ids: impl IntoIterator<Item = u16>) -> Vec<(u64, NextHop)> {
        ids.into_iter().map(|n| (mix(n.into()), NextHop::Tunnel(TunnelId(n)))).collect()
    }

    fn picks(group: &Group) -> Vec<NextHop> {
        (0..BUCKETS as u32).filter_map(|flow| group.pick(flow).copied()).collect()
    }

    #[test]
    fn every_member_gets_its_share() {
        for n in [2u16, 3, 8, 16] {
            let picks = picks(&Group::new(&members(0..n)));
            let fair = BUCKETS / usize::from(n);
            for m in 0..n {
                let share = picks.iter().filter(|&&p| p == NextHop::Tunnel(TunnelId(m))).count();
                assert!((fair / 2..=fair * 2).contains(&share), "{m} of {n} has {share}");
            }
        }
    }

    #[test]
    fn a_member_that_goes_moves_only_its_own_flows() {
        for n in 2..10u16 {
            let before = picks(&Group::new(&members(0..n)));
            for gone in 0..n {
                let after = picks(&Group::new(&members((0..n).filter(|&m| m != gone))));
                for (b, a) in before.iter().zip(&after) {
                    let was_its = *b == NextHop::Tunnel(TunnelId(gone));
                    assert_eq!(was_its, a != b, "{gone} of {n} went");
                }
            }
        }
    }

    #[test]
    fn the_order_of_the_members_does_not_matter() {
        let forth = picks(&Group::new(&members(0..5)));
        let back = picks(&Group::new(&members((0..5).rev())));
        assert_eq!(forth, back);
    }
}
