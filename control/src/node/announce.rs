//! Routes that a routing protocol announces: many, changing often, and no part of the configuration.
//!
//! A change of them touches the trie and the kernel's routes at those prefixes and nothing else: no state is
//! validated, compared or compiled, however many routes there are, and workers see it where they look; a new
//! snapshot is published only now and then, for memory to be used again. Only when a route leads to where none of
//! them led before is the rest looked at, since the kernel may have to resolve a next hop for it.

use std::sync::Arc;
use std::time::Duration;

use encap::Prefix;
use host::HostRoute;
use podswitch_api::Error;
use podswitch_api::method::{RouteUpdate, RouteUpdated};
use podswitch_api::state::Via;
use switch::Tables;

use super::ports::Live;
use super::sync::leaves_node;
use super::{Node, compile};

/// How long workers may take to forward by new routes before the answer is given anyway.
const TAKEN_WITHIN: Duration = Duration::from_millis(100);

impl Node {
    /// Announces and withdraws routes, all of a request or none. They are in effect in every worker when
    /// it is answered.
    pub(super) fn update_routes(&mut self, update: RouteUpdate) -> Result<RouteUpdated, Error> {
        let tunnels = &self.table_ids.tunnels;
        update
            .validate(&self.effective, &|name| tunnels.get(name).is_some())
            .map_err(Error::invalid)?;
        let (add, del) = self.host_route_changes(&update);
        let done = self.table_ids.routes.announce(update.add, &update.del);
        if done.unresolved {
            self.refresh();
        } else {
            if let Some((fib, next_hops)) = self.table_ids.routes.amend() {
                let tables = Tables { fib, next_hops, ..Tables::clone(&self.tables) };
                self.tables = Arc::new(tables.prepare());
                self.engine.publish(self.tables.clone());
            }
            self.generation += 1;
            self.change_host_routes(add, del);
        }
        if !self.engine.wait_until_taken(TAKEN_WITHIN) {
            tracing::warn!("route.update: the workers have not taken up the new tables yet");
        }
        Ok(RouteUpdated {
            added: done.added,
            replaced: done.replaced,
            removed: done.removed,
            announced: self.table_ids.routes.announced_len(),
        })
    }

    /// The kernel's routes that come and go with an update: those that lead to other nodes. Where the state has
    /// a route, the kernel's is the state's.
    fn host_route_changes(&self, update: &RouteUpdate) -> (Vec<HostRoute>, Vec<Prefix>) {
        let routes = &self.table_ids.routes;
        let leaves = |via: Option<&Via>| via.is_some_and(leaves_node);
        let mtu = self.mtu_away();
        let (mut add, mut del) = (Vec::new(), Vec::new());
        let added = update.add.iter().map(|r| (r.prefix, leaves_node(&r.via)));
        let removed = update.del.iter().map(|&prefix| (prefix, false));
        // A default route of the switch must not become the node's own.
        for (prefix, will) in added.chain(removed).filter(|(p, _)| p.len() > 0 && !routes.has(*p)) {
            match (leaves(routes.announced_via(prefix)), will) {
                (false, true) => add.push(HostRoute { prefix, mtu }),
                (true, false) => del.push(prefix),
                _ => {}
            }
        }
        (add, del)
    }

    fn change_host_routes(&mut self, add: Vec<HostRoute>, del: Vec<Prefix>) {
        let Some(host) = self.live.values().find_map(Live::host_port) else { return };
        if let Err(e) = host.change_routes(&self.kernel, add.into_iter(), del.into_iter()) {
            // The housekeeping compares all of them.
            self.warn("routes", Some(e.to_string()));
        }
    }

    /// The MTU of what leaves the node.
    pub(super) fn mtu_away(&self) -> Option<u32> {
        self.facts.uplink.as_ref().map(|u| compile::path_mtu(&self.effective, u.mtu))
    }
}
