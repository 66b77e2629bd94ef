//! Interfaces that are there already, the uplink, and the host port; and how ports of any kind end.

use encap::Mac;
use fastpath::{AttachSpec, Attached, PortSnapshot, Preference, Role};
use host::{Ethtool, HostPort, HostPortSpec, Link};
use podswitch_api::Error;
use podswitch_api::state::{Port, Uplink, XdpMode};
use switch::PortId;

use super::{Live, Maker, NODE_MTU, Object, Wanted, engine_error, kernel_error};
use crate::node::compile::router_mac;

/// The switch's end of the host port.
const HOST_NEAR: &str = "pswhost";

impl Maker<'_> {
    /// Removes pods' interfaces in one request, since one by one the kernel takes 20 ms for each, and
    /// detaches their ports.
    pub fn close_pods(&self, pods: &mut [Live]) {
        // Not by index alone: another interface may have it by now.
        let is_there = |live: &&Live| {
            let link = self.kernel.link_by_index(live.ifindex).ok().flatten();
            link.is_some_and(|l| l.name == live.dev)
        };
        let indexes: Vec<u32> = pods.iter().filter(is_there).map(|l| l.ifindex).collect();
        if let Err(e) = self.kernel.delete_links(&indexes) {
            tracing::warn!("{e}");
        }
        for live in pods.iter() {
            self.detach(live);
        }
        super::tap::remove(pods.iter_mut().filter_map(Live::take_device).collect());
    }

    pub(super) fn detach(&self, live: &Live) {
        live.let_device_go();
        if live.attached.is_some()
            && let Err(e) = self.engine.detach(live.id)
        {
            tracing::warn!("port on {}: {e}", live.dev);
        }
    }

    /// Detaches a port and undoes what was done to its interface. Goes on where something is gone.
    pub fn close(&self, live: Live) {
        // A pod's interface goes first: its end unbinds the sockets while the kernel holds the lock
        // under which it waits for an expedited grace period only. Closing a bound socket waits for an
        // ordinary one, as long again as the deletion takes.
        let is_pod = live.is_pod();
        if !is_pod {
            self.detach(&live);
        }
        let done = match &live.object {
            Object::Device { promiscuous: true } | Object::Uplink { rx_vlan: false } => Ok(()),
            Object::Uplink { rx_vlan: true } => {
                Ethtool::current().and_then(|e| e.set_rx_vlan(live.ifindex, true))
            }
            Object::Device { promiscuous: false } => self.kernel.set_promisc(live.ifindex, false),
            Object::Pod(pod, ..) => pod.delete(self.kernel).map(|_| ()),
            Object::Host(host, _) => host.delete(self.kernel),
        };
        match done {
            Err(e) if !e.is_not_found() => tracing::warn!("{e}"),
            _ => {}
        }
        if is_pod {
            self.detach(&live);
        }
    }

    /// An existing interface, which nobody else may be using.
    fn free_link(&self, dev: &str) -> Result<Link, Error> {
        let link = self.kernel.link_by_name(dev).map_err(kernel_error)?.ok_or_else(|| {
            Error::system(format!(
                "{dev}: there is no such interface in this network namespace; \
                 `ip link` lists those that there are"
            ))
        })?;
        if link.loopback {
            return Err(Error::system(format!("{dev}: the loopback interface carries no frames")));
        }
        if let Some(master) = link.master {
            let master = self.kernel.link_by_index(master).ok().flatten();
            let master = master.map_or_else(|| "another interface".to_owned(), |m| m.name);
            return Err(Error::system(format!(
                "{dev} is taken: it is a member of {master}; \
                 release it with `ip link set dev {dev} nomaster`"
            )));
        }
        Ok(link)
    }

    pub(super) fn attach(
        &self,
        id: PortId,
        dev: &str,
        ifindex: u32,
        role: Role,
        uplink: Option<&Uplink>,
    ) -> Result<Attached, Error> {
        let queues = uplink.map(|u| u.queues.clone()).filter(|q| !q.is_empty());
        let mode = match uplink.map(|u| u.mode) {
            None | Some(XdpMode::Auto) => Preference::Auto,
            Some(XdpMode::Native) => Preference::Native,
            Some(XdpMode::Generic) => Preference::Generic,
        };
        let spec = AttachSpec { ifname: dev.to_owned(), ifindex, role, queues, mode };
        self.engine.attach(id, &spec).map_err(engine_error)
    }

    pub(super) fn open_device(&self, id: PortId, port: &Port, dev: &str) -> Result<Live, Error> {
        let link = self.free_link(dev)?;
        let attached = self.attach(id, dev, link.index, Role::Port, None)?;
        let live = Live {
            id,
            wanted: Wanted::Port(port.clone()),
            dev: dev.to_owned(),
            ifindex: link.index,
            mtu: link.mtu,
            mac: link.mac.unwrap_or_default(),
            attached: Some(attached),
            baseline: PortSnapshot::default(),
            object: Object::Device { promiscuous: link.promiscuity > 0 },
        };
        // A bridge port hears frames that are not for its own address.
        let ready = self
            .kernel
            .set_promisc(link.index, true)
            .and_then(|()| if link.up { Ok(()) } else { self.kernel.set_up(link.index) });
        match ready {
            Ok(()) => Ok(live),
            Err(e) => {
                self.close(live);
                Err(kernel_error(e))
            }
        }
    }

    pub(super) fn open_uplink(&self, id: PortId, uplink: &Uplink) -> Result<Live, Error> {
        let link = self.free_link(&uplink.dev)?;
        let stacked = stacked(uplink, &link)?;
        let rx_vlan = uplink.vlan.is_some() && keep_tags(link.index).map_err(kernel_error)?;
        let wanted = stacked.as_ref().unwrap_or(uplink);
        let attached = self.attach(id, &uplink.dev, link.index, Role::Uplink, Some(wanted))?;
        Ok(Live {
            id,
            wanted: Wanted::Uplink(uplink.clone()),
            dev: uplink.dev.clone(),
            ifindex: link.index,
            mtu: link.mtu,
            mac: link.mac.unwrap_or_default(),
            attached: Some(attached),
            baseline: PortSnapshot::default(),
            object: Object::Uplink { rx_vlan },
        })
    }

    fn host_spec(&self, interface: &str) -> HostPortSpec {
        let router_mac = router_mac(self.state);
        HostPortSpec {
            far_name: interface.to_owned(),
            near_name: HOST_NEAR.to_owned(),
            mac: host_mac(router_mac),
            router_mac,
            addresses: (self.state.gateways().iter())
                .map(|a| (a.addr(), a.prefix().len()))
                .collect(),
            mtu: NODE_MTU,
            queues: self.queues(),
        }
    }

    pub(super) fn open_host(&self, id: PortId, interface: &str) -> Result<Live, Error> {
        let spec = self.host_spec(interface);
        let host = HostPort::create(self.kernel, &spec).map_err(kernel_error)?;
        let (dev, ifindex) = (HOST_NEAR.to_owned(), host.near_index);
        match self.attach(id, &dev, ifindex, Role::End, None) {
            Ok(attached) => Ok(Live {
                id,
                wanted: Wanted::Host { interface: interface.to_owned() },
                dev,
                ifindex,
                mtu: NODE_MTU,
                mac: spec.mac,
                attached: Some(attached),
                baseline: PortSnapshot::default(),
                object: Object::Host(host, spec),
            }),
            Err(e) => {
                let _ = host.delete(self.kernel);
                Err(e)
            }
        }
    }

    /// Gives the host port the gateway addresses that the state has now; nothing happens to any other
    /// port.
    pub fn update_host(&self, live: &mut Live) -> Result<(), Error> {
        let (Wanted::Host { interface }, Object::Host(host, spec)) =
            (&live.wanted, &mut live.object)
        else {
            return Ok(());
        };
        let wanted = self.host_spec(interface);
        if wanted != *spec {
            *host = HostPort::create(self.kernel, &wanted).map_err(kernel_error)?;
            live.mac = wanted.mac;
            *spec = wanted;
        }
        Ok(())
    }
}

/// How to attach a bond: in generic mode, where the bond's own device receives and sends, and the
/// bonding driver distributes and fails over. A native program on a bond runs on its members, whose
/// frames the kernel does not give to a socket of the bond (`xsk_rcv_check`). See docs/bond.md.
fn stacked(uplink: &Uplink, link: &Link) -> Result<Option<Uplink>, Error> {
    if !matches!(link.kind.as_deref(), Some("bond" | "team")) {
        return Ok(None);
    }
    if uplink.mode == XdpMode::Native {
        let dev = &uplink.dev;
        return Err(Error::system(format!(
            "{dev} is a bond: AF_XDP works on it in generic mode only; set [uplink] mode = \"auto\""
        )));
    }
    Ok(Some(Uplink { mode: XdpMode::Generic, ..uplink.clone() }))
}

/// Makes a device leave VLAN tags in received frames, where the XDP program looks for them. Whether
/// it took them out before.
fn keep_tags(link: u32) -> host::Result<bool> {
    let ethtool = Ethtool::current()?;
    let took = ethtool.features(link)?.rx_vlan();
    if took {
        ethtool.set_rx_vlan(link, false)?;
    }
    Ok(took)
}

/// The MAC address of the node's interface: the router's with another local bit, so that the two
/// never coincide.
fn host_mac(router: Mac) -> Mac {
    let mut octets = router.0;
    octets[0] ^= 0x04;
    Mac(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(kind: Option<&str>) -> Link {
        Link {
            index: 2,
            name: "bond0".into(),
            mac: None,
            mtu: 1500,
            up: true,
            lower_up: true,
            loopback: false,
            group: 0,
            master: None,
            kind: kind.map(str::to_owned),
            vlan: None,
            lower: None,
            link_netnsid: None,
            num_rx_queues: 16,
            num_tx_queues: 16,
            promiscuity: 0,
            xdp: None,
            parent: None,
        }
    }

    #[test]
    fn a_bond_is_taken_in_generic_mode_or_not_at_all() {
        let uplink = |mode| Uplink {
            dev: "bond0".into(),
            queues: Vec::new(),
            mode,
            native_routing: None,
            vlan: None,
            vlan_dev: None,
        };
        let generic = Some(uplink(XdpMode::Generic));
        for kind in ["bond", "team"] {
            assert_eq!(stacked(&uplink(XdpMode::Auto), &link(Some(kind))).unwrap(), generic);
            assert_eq!(stacked(&uplink(XdpMode::Generic), &link(Some(kind))).unwrap(), generic);
            let refused = stacked(&uplink(XdpMode::Native), &link(Some(kind))).unwrap_err();
            assert!(refused.to_string().contains("generic mode only"), "{refused}");
        }
        for kind in [None, Some("veth"), Some("bridge")] {
            assert_eq!(stacked(&uplink(XdpMode::Native), &link(kind)).unwrap(), None);
        }
    }
}
