//! ADD: a container is plugged in.

use std::path::Path;

use podswitch_api::ClientError;
use podswitch_api::attachment::{
    Addresses, Attachment, AttachmentAdd, AttachmentConfigure, AttachmentIp, AttachmentRoute,
};
use serde_json::{Map, Value};

use crate::conf::{Conf, Interface, Ipam, Wishes};
use crate::daemon::{self, Daemon};
use crate::del;
use crate::env::{Command, Environment};
use crate::error::{Code, Error};
use crate::ipam::Delegate;
use crate::netns::Container;
use crate::result::{self, Received};

/// Plugs the container in and gives the result for the runtime.
///
/// All that can be refused is refused before anything is allocated; what was allocated is given
/// back when a later step fails.
pub fn add(conf: &Conf, env: &Environment) -> Result<Value, Error> {
    let interface = conf.interface()?;
    let wishes = conf.wishes(&env.args)?;
    if wishes.port_mappings {
        eprintln!(
            "podswitch-cni: runtimeConfig.portMappings: left to a portmap plugin behind this one"
        );
    }
    let previous = conf.prev_result()?;
    if let Some(previous) = previous {
        // What is kept must be a result.
        Received::read(&Value::Object(previous.clone()), "prevResult")?;
    }
    let own_dns = conf.dns()?;
    let netns = absolute(&env.netns)?;
    if Container::open(&netns)?.has(&env.ifname)? {
        let details = format!(
            "{} has an interface {} already: DEL it first, or ask for another CNI_IFNAME",
            netns.display(),
            env.ifname
        );
        return Err(Error::new(Code::AlreadyExists, details));
    }
    let plug = Plug { conf, env, netns: &netns, interface: &interface, wishes: &wishes };
    let (attachment, ipam_dns) = match Delegate::find(conf, env)? {
        None => (plug.by_daemon()?, None),
        Some(delegate) if conf.interface_first => plug.interface_first(&delegate)?,
        Some(delegate) => plug.addresses_first(&delegate)?,
    };
    let dns = own_dns.or(ipam_dns.as_ref());
    let sandbox = env.netns.to_string_lossy();
    Ok(result::render(conf.version, &attachment, &sandbox, dns, previous))
}

/// What a container is plugged in by.
struct Plug<'a> {
    conf: &'a Conf,
    env: &'a Environment,
    netns: &'a Path,
    interface: &'a Interface,
    wishes: &'a Wishes,
}

/// An attachment, and what the delegated plugin says of name resolution.
type Plugged = (Attachment, Option<Map<String, Value>>);

impl Plug<'_> {
    /// With addresses of the daemon's own, or none.
    fn by_daemon(&self) -> Result<Attachment, Error> {
        let (addresses, routes) = match &self.conf.ipam {
            Ipam::Node(routes) => {
                (Addresses::Node { ips: self.wishes.ips.clone() }, routes.clone())
            }
            Ipam::Delegate(_) | Ipam::None => (Addresses::None, Vec::new()),
        };
        self.attach(addresses, routes)
    }

    /// With addresses that another plugin allocates beforehand: one call of the daemon, and nothing to
    /// undo in it when there are none.
    fn addresses_first(&self, delegate: &Delegate<'_>) -> Result<Plugged, Error> {
        // Without the daemon addresses would be of no use.
        Daemon::connect(&self.conf.socket)?;
        // A delegate that failed half way is asked to clean up, too (section 4).
        let allocated = delegate.add().inspect_err(|_| give_back(delegate))?;
        let addresses = Addresses::Plugin { ips: addresses(&allocated) };
        let attachment =
            self.attach(addresses, routes(&allocated)).inspect_err(|_| give_back(delegate))?;
        Ok((attachment, allocated.dns))
    }

    /// With addresses that another plugin asks for over the interface, as `dhcp` does.
    fn interface_first(&self, delegate: &Delegate<'_>) -> Result<Plugged, Error> {
        self.attach(Addresses::Later, Vec::new())?;
        // Its lease is given back over the interface, so that this goes last.
        let undo = |_: &Error| {
            give_back(delegate);
            self.detach();
        };
        let allocated = delegate.add().inspect_err(undo)?;
        let id = self.env.id(&self.conf.name);
        let params = AttachmentConfigure {
            network: id.network,
            container_id: id.container_id,
            ifname: id.ifname,
            ips: addresses(&allocated),
            routes: routes(&allocated),
        };
        let configured = daemon::with(&self.conf.socket, |d| d.configure(params.clone()));
        Ok((configured.map_err(Error::from).inspect_err(undo)?, allocated.dns))
    }

    /// Has the daemon plug the container in.
    fn attach(
        &self,
        addresses: Addresses,
        routes: Vec<AttachmentRoute>,
    ) -> Result<Attachment, Error> {
        let request = self.request(addresses, routes);
        daemon::with(&self.conf.socket, |daemon| daemon.add(request.clone())).map_err(|e| {
            if may_have_happened(&e) {
                self.detach();
            }
            e.into()
        })
    }

    /// Undoes a half-made ADD; best effort, as the runtime follows up with DEL.
    fn detach(&self) {
        if let Err(e) = del::detach(self.conf, self.env) {
            eprintln!("podswitch-cni: undoing a half-made ADD: {e}");
        }
    }

    /// The request to the daemon.
    fn request(&self, addresses: Addresses, routes: Vec<AttachmentRoute>) -> AttachmentAdd {
        let Plug { conf, env, interface, wishes, .. } = self;
        AttachmentAdd {
            network: conf.name.clone(),
            container_id: env.container_id.clone(),
            ifname: env.ifname.clone(),
            netns: self.netns.to_owned(),
            segment: interface.segment.clone(),
            vlan: interface.vlan,
            kind: wishes.kind.or(interface.kind),
            addresses,
            gateway: interface.gateway,
            default_route: interface.default_route,
            routes,
            mac: wishes.mac,
            mtu: interface.mtu,
            masquerade: interface.masquerade,
            anti_spoof: interface.anti_spoof,
            ingress: wishes.ingress,
            egress: wishes.egress,
        }
    }
}

/// Whether the daemon may carry out the request, or have done so, although it did not answer.
fn may_have_happened(e: &ClientError) -> bool {
    matches!(e, ClientError::Timeout { .. } | ClientError::Lost { .. } | ClientError::Protocol(_))
}

/// Releases what a delegate allocated, after a failure that is reported instead.
fn give_back(delegate: &Delegate<'_>) {
    if let Err(e) = delegate.run(Command::Del) {
        eprintln!("podswitch-cni: releasing addresses after a failure: {e}");
    }
}

/// The addresses that were allocated.
fn addresses(allocated: &Received) -> Vec<AttachmentIp> {
    let ip = |ip: &result::Ip| AttachmentIp { address: ip.address, gateway: ip.gateway };
    allocated.ips.iter().map(ip).collect()
}

/// The routes that come with them.
fn routes(allocated: &Received) -> Vec<AttachmentRoute> {
    allocated.routes.iter().cloned().map(AttachmentRoute::from).collect()
}

/// The daemon's working directory is not ours.
pub(crate) fn absolute(path: &Path) -> Result<std::path::PathBuf, Error> {
    std::path::absolute(path).map_err(|e| {
        Error::new(Code::InvalidEnvironment, format!("CNI_NETNS: {}: {e}", path.display()))
    })
}
