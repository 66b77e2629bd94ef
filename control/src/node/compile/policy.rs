//! What the configuration leaves open, and the buckets that outlive the tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use podswitch_api::state::{Dscp, State, Tunnel as TunnelConfig, UnknownUnicast as Unknown};
use switch::tables::{OuterPolicy, SegmentPolicy, Storm, TokenBucket, UnknownUnicast};
use switch::waiting::Direction;

use super::segment;

/// The token buckets of a state: those of before where the rate is the same.
pub(super) fn storms(
    state: &State,
    before: &BTreeMap<String, Arc<Storm>>,
) -> BTreeMap<String, Arc<Storm>> {
    let limits = state.ports.iter().filter_map(|p| Some((&p.name, p.storm_limit?)));
    limits
        .map(|(name, rate)| {
            let kept = before.get(name).filter(|s| s.rate() == rate).cloned();
            (name.clone(), kept.unwrap_or_else(|| Arc::new(Storm::new(rate))))
        })
        .collect()
}

/// The rate limits of a state: the buckets of before where rate and burst are the same.
pub(super) fn buckets(
    state: &State,
    before: &BTreeMap<(String, Direction), Arc<TokenBucket>>,
) -> BTreeMap<(String, Direction), Arc<TokenBucket>> {
    let limits = state.ports.iter().flat_map(|p| {
        let to = (Direction::ToPort, p.ingress_rate, p.ingress_burst);
        let from = (Direction::FromPort, p.egress_rate, p.egress_burst);
        [to, from].map(|(direction, rate, burst)| ((p.name.clone(), direction), rate, burst))
    });
    limits
        .filter_map(|(key, rate, burst)| {
            let rate = rate?;
            let kept = before.get(&key).filter(|b| b.is_of(rate, burst)).cloned();
            Some((key, kept.unwrap_or_else(|| Arc::new(TokenBucket::new(rate, burst)))))
        })
        .collect()
}

/// What a segment floods and learns: as declared, else as by default.
pub(super) fn segment_policy(state: &State, name: &str) -> SegmentPolicy {
    let declared = segment(state, name);
    SegmentPolicy {
        unknown_unicast: match declared.unknown_unicast {
            Unknown::Flood => UnknownUnicast::Flood,
            Unknown::Drop => UnknownUnicast::Drop,
        },
        suppress: declared.suppress,
        fdb_limit: declared.fdb_limit,
    }
}

/// What the configuration leaves open of a tunnel's outer header.
pub(super) fn outer_policy(tunnel: &TunnelConfig) -> OuterPolicy {
    let defaults = OuterPolicy::default();
    OuterPolicy {
        dont_fragment: tunnel.df,
        dscp: match tunnel.dscp {
            Dscp::Inherit => None,
            Dscp::Fixed(dscp) => Some(dscp),
        },
        source_ports: tunnel.source_ports.map_or(defaults.source_ports, |[a, b]| a..=b),
    }
}
