//! A pod's interface as it is found.

use std::path::Path;

use crate::address::Address;
use crate::error::Result;
use crate::handle::Handle;
use crate::link::Link;
use crate::netns::Netns;
use crate::route::Route;

/// A pod's interface as it is, seen from the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodState {
    /// The interface.
    pub link: Link,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// The routes over it, of all tables.
    pub routes: Vec<Route>,
}

impl PodState {
    /// Reads the interface `ifname` of a namespace; none when there is none.
    pub fn read(netns: &Path, ifname: &str) -> Result<Option<PodState>> {
        let pod = Handle::in_netns(&Netns::open(netns)?)?;
        let Some(link) = pod.link_by_name(ifname)? else { return Ok(None) };
        let addresses = pod.addresses(Some(link.index))?;
        let routes = pod.routes_of_all_tables(link.index)?;
        Ok(Some(PodState { link, addresses, routes }))
    }
}
