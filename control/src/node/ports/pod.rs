//! Pods' interfaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use encap::Prefix;
use fastpath::{PortSnapshot, Role};
use host::{PodInterface, PodRoute, PodSpec};
use podswitch_api::Error;
use podswitch_api::attachment::AttachmentRoute;
use podswitch_api::state::{PodKind, Port};
use switch::PortId;

use super::{Live, Maker, NODE_MTU, Object, Wanted, gateways, kernel_error, pod_mac};
use crate::names;
use crate::node::compile::path_mtu;

/// The routes in a pod that a container runtime plugged in.
#[derive(Clone, Debug, PartialEq)]
pub struct PodRoutes {
    /// With their next hops.
    routes: Vec<AttachmentRoute>,
    /// The MTU of all routes that say nothing else, those of the prefixes on the link included, in bytes.
    mtu: Option<u32>,
}

impl PodRoutes {
    pub fn new(routes: Vec<AttachmentRoute>, mtu: Option<u32>) -> PodRoutes {
        PodRoutes { routes, mtu }
    }

    /// As the kernel gets them; `away` is the MTU of what leaves the node, if it is less than the
    /// interface's.
    fn specs(&self, port: &Port, away: Option<u32>) -> Vec<PodRoute> {
        let away = away.into_iter().chain(self.mtu).min();
        let routes = self.routes.iter().map(|r| attached_route(r, away));
        let on_link = port.ip.iter().map(|a| a.prefix()).filter(|_| self.mtu.is_some());
        let is_there =
            |prefix: &Prefix| self.routes.iter().any(|r| r.dst == *prefix && r.gw.is_none());
        let on_link = on_link.filter(|prefix| !is_there(prefix));
        let on_link =
            on_link.map(|prefix| PodRoute { mtu: self.mtu, ..PodRoute::new(prefix, None) });
        on_link.chain(routes).collect()
    }
}

impl Maker<'_> {
    pub(super) fn open_pod(&self, id: PortId, port: &Port, wanted: &Wanted) -> Result<Live, Error> {
        let spec = self.pod_spec(port, wanted);
        host::Netns::open(&spec.netns).map_err(|e| {
            Error::system(format!("{e}; give the path of a namespace, such as /run/netns/NAME"))
        })?;
        if port.kind == Some(PodKind::Tap) {
            return self.open_tap(id, wanted, spec);
        }
        let kept = self.existing_pod(&spec)?;
        let adopted = kept.is_some();
        let routes = spec.routes.clone();
        let pod = match kept {
            Some(pod) => pod,
            None => self.create_veth(&spec).map_err(kernel_error)?,
        };
        let (dev, ifindex) = (spec.host_name.clone(), pod.host.as_ref().map_or(0, |h| h.index));
        match self.attach(id, &dev, ifindex, Role::End, None) {
            Ok(attached) => Ok(Live {
                id,
                wanted: wanted.clone(),
                dev,
                ifindex,
                mtu: spec.mtu,
                mac: pod.mac,
                attached: Some(attached),
                baseline: PortSnapshot::default(),
                object: Object::Pod(pod, routes, None),
            }),
            Err(e) => {
                // A pod's interface that was there before is the pod's: it stays.
                if !adopted {
                    let _ = pod.delete(self.kernel);
                }
                Err(e)
            }
        }
    }

    /// The interface that an earlier daemon made for this pod and left when it died; one that fits
    /// no more is removed.
    fn existing_pod(&self, spec: &PodSpec) -> Result<Option<PodInterface>, Error> {
        if self.kernel.link_by_name(&spec.host_name).map_err(kernel_error)?.is_none() {
            return Ok(None);
        }
        let found = PodInterface::find(self.kernel, &spec.host_name, &spec.netns, &spec.ifname);
        // The node's end is set up last: with it down, the interface was never finished.
        if let Ok(Some(pod)) = found
            && pod.mac == spec.mac
            && pod.host.as_ref().is_some_and(|host| host.up)
        {
            return Ok(Some(pod));
        }
        self.kernel.delete_link_by_name(&spec.host_name).map_err(kernel_error)?;
        Ok(None)
    }

    fn create_veth(&self, spec: &PodSpec) -> host::Result<PodInterface> {
        match PodInterface::create(self.kernel, spec) {
            // An earlier daemon may have made it a TAP.
            Err(e) if e.is_exists() && PodInterface::remove_tap(&spec.netns, &spec.ifname)? => {
                PodInterface::create(self.kernel, spec)
            }
            other => other,
        }
    }

    /// Gives a pod without addresses those that it is wanted with, and its routes.
    pub fn give_addresses(&self, live: &mut Live, wanted: &Wanted) -> Result<(), Error> {
        let (Some(port), Object::Pod(pod, routes, _)) = (wanted.port(), &mut live.object) else {
            return Ok(());
        };
        let spec = self.pod_spec(port, wanted);
        pod.give_addresses(&spec).map_err(kernel_error)?;
        *routes = spec.routes;
        live.wanted = wanted.clone();
        Ok(())
    }

    /// Gives a pod's routes the MTU that the uplink leaves them now.
    pub fn update_routes(&self, live: &mut Live) -> host::Result<()> {
        let (Some(port), Object::Pod(pod, routes, _)) = (live.wanted.port(), &mut live.object)
        else {
            return Ok(());
        };
        let spec = self.pod_spec(port, &live.wanted);
        if spec.routes != *routes {
            pod.set_routes(&spec.netns, &spec.routes)?;
            *routes = spec.routes;
        }
        Ok(())
    }

    fn pod_spec(&self, port: &Port, wanted: &Wanted) -> PodSpec {
        let away = path_mtu(self.state, self.uplink_mtu.unwrap_or(1500));
        // A segment that spans nodes has one MTU for all its members: L2 tells nobody that a frame
        // was too large.
        let spans = self.state.tunnels.iter().any(|t| t.segment.as_ref() == Some(&port.segment));
        let mtu = port.mtu.unwrap_or(if spans { away } else { NODE_MTU });
        let away = (away < mtu).then_some(away);
        let routes = match wanted {
            Wanted::Attached(_, routes) => routes.specs(port, away),
            _ => default_routes(gateways(self.state, port), away),
        };
        PodSpec {
            host_name: names::host_name(&port.name),
            host_mac: Some(names::host_mac(&port.name)),
            netns: port.netns.clone().unwrap_or_default(),
            ifname: port.ifname.clone().unwrap_or_default(),
            mac: pod_mac(port),
            addresses: port.ip.iter().map(|a| (a.addr(), a.prefix().len())).collect(),
            routes,
            mtu,
            queues: self.queues(),
        }
    }

    /// A queue for each worker, so that each sends and receives without asking another.
    pub(super) fn queues(&self) -> u32 {
        self.state.switch_or_default().workers.into()
    }
}

/// A default route through each gateway; `away` is the MTU of what leaves the node, if it is less than
/// the interface's.
fn default_routes(gateways: Vec<IpAddr>, away: Option<u32>) -> Vec<PodRoute> {
    let route = |via: IpAddr| {
        let any = match via {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Some(PodRoute { mtu: away, ..PodRoute::new(Prefix::new(any, 0).ok()?, Some(via)) })
    };
    gateways.into_iter().filter_map(route).collect()
}

/// A route as a container runtime wants it; one through a gateway has the MTU of what leaves the node,
/// unless it says otherwise.
fn attached_route(route: &AttachmentRoute, away: Option<u32>) -> PodRoute {
    PodRoute {
        prefix: route.dst,
        via: route.gw,
        mtu: route.mtu.or_else(|| away.filter(|_| route.gw.is_some())),
        advmss: route.advmss,
        metric: route.priority,
        table: route.table,
        scope: route.scope,
    }
}
