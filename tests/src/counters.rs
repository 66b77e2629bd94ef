//! The daemon's counters, and that they account for every frame.

use std::collections::BTreeMap;

use serde_json::Value;

/// What `podswitch show counters --json` gave.
#[derive(Debug, Clone)]
pub struct Counters(pub(crate) Value);

impl Counters {
    fn ports(&self) -> &[Value] {
        self.0["ports"].as_array().expect("counters have ports")
    }

    /// A counter such as `rx_frames`, summed over all ports.
    pub fn total(&self, name: &str) -> u64 {
        self.ports().iter().map(|port| port[name].as_u64().expect("a number")).sum()
    }

    /// A counter such as `rx_frames` of one port.
    ///
    /// # Panics
    /// When there is no such port or counter.
    pub fn port(&self, port: &str, name: &str) -> u64 {
        let found = self.ports().iter().find(|p| p["port"] == port);
        found
            .and_then(|p| p[name].as_u64())
            .unwrap_or_else(|| panic!("no {name} of {port}: {self:?}"))
    }

    /// Drops by reason, summed over all ports.
    pub fn drops(&self) -> BTreeMap<String, u64> {
        let mut sum = BTreeMap::new();
        for drops in self.ports().iter().filter_map(|port| port["drops"].as_object()) {
            for (reason, count) in drops {
                *sum.entry(reason.clone()).or_default() += count.as_u64().expect("a number");
            }
        }
        sum
    }

    /// Drops under one name.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.drops().get(reason).copied().unwrap_or(0)
    }

    /// Frames that the kernel dropped before the switch saw them, summed over all ports.
    pub fn missed(&self) -> u64 {
        let missed = self.ports().iter().filter_map(|port| port["missed"].as_object());
        missed.flat_map(|m| m.values()).map(|n| n.as_u64().expect("a number")).sum()
    }

    /// Frames that wait in a transmit queue.
    ///
    /// # Panics
    /// When the daemon does not tell.
    pub fn in_flight(&self) -> u64 {
        self.0["in_flight"].as_u64().expect("counters tell what is in flight")
    }

    /// Whether received + originated = sent + coalesced + dropped + in flight.
    pub fn is_conserved(&self) -> bool {
        let (came, went) = self.balance();
        came == went
    }

    /// What came in and was made, and what went out, was dropped or is on its way.
    fn balance(&self) -> (u64, u64) {
        let dropped: u64 = self.drops().values().sum();
        (
            self.total("rx_frames") + self.total("originated"),
            self.total("tx_frames") + self.total("coalesced") + dropped + self.in_flight(),
        )
    }

    /// Asserts that received + originated = sent + coalesced + dropped + in flight.
    #[track_caller]
    pub fn assert_conserved(&self) {
        let (came, went) = self.balance();
        assert_eq!(
            came,
            went,
            "frames are unaccounted for: {}",
            serde_json::to_string_pretty(&self.0).expect("JSON prints")
        );
    }
}
