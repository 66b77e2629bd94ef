//! A pod's interface as it is found.

use std::path::Path;

use crate::address::Address;
use crate::error::Result;
use crate::ethtool::Ethtool;
use crate::handle::Handle;
use crate::link::Link;
use crate::netns::Netns;
use crate::route::Route;

/// A pod's interface as it is, seen from the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodState {
    /// The interface.
    pub link: Link,
    /// Whether packets go into it without their TCP and UDP checksums, for a device to fill in.
    pub tx_checksum: bool,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// The routes over it, of all tables.
    pub routes: Vec<Route>,
}

impl PodState {
    /// Reads the interface `ifname` of a namespace; none when there is none.
    pub fn read(netns: &Path, ifname: &str) -> Result<Option<PodState>> {
        let netns = Netns::open(netns)?;
        let pod = Handle::in_netns(&netns)?;
        let Some(link) = pod.link_by_name(ifname)? else { return Ok(None) };
        let tx_checksum = Ethtool::in_netns(&netns)?.features(link.index)?.tx_checksum();
        let addresses = pod.addresses(Some(link.index))?;
        let routes = pod.routes_of_all_tables(link.index)?;
        Ok(Some(PodState { link, tx_checksum, addresses, routes }))
    }
}
