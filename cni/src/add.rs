//! ADD: a container is plugged in.

use std::path::Path;

use podswitch_api::ClientError;
use podswitch_api::attachment::{Addresses, AttachmentAdd, AttachmentIp, AttachmentRoute};
use serde_json::Value;

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
    let delegate = Delegate::find(conf, env)?;
    let allocated = match &delegate {
        None => None,
        Some(delegate) => {
            // Without the daemon addresses would be of no use.
            Daemon::connect(&conf.socket)?;
            // A delegate that failed half way is asked to clean up, too (section 4).
            Some(delegate.add().inspect_err(|_| give_back(Some(delegate)))?)
        }
    };
    let request = request(conf, env, &netns, &interface, &wishes, allocated.as_ref());
    let attachment = match daemon::with(&conf.socket, |daemon| daemon.add(request.clone())) {
        Ok(attachment) => attachment,
        Err(e) => {
            if may_have_happened(&e) {
                // Best effort, as the runtime follows up with DEL.
                if let Err(e) = del::detach(conf, env) {
                    eprintln!("podswitch-cni: undoing a half-made ADD: {e}");
                }
            }
            give_back(delegate.as_ref());
            return Err(e.into());
        }
    };
    let dns = own_dns.or(allocated.as_ref().and_then(|a| a.dns.as_ref()));
    let sandbox = env.netns.to_string_lossy();
    Ok(result::render(conf.version, &attachment, &sandbox, dns, previous))
}

/// Whether the daemon may carry out the request, or have done so, although it did not answer.
fn may_have_happened(e: &ClientError) -> bool {
    matches!(e, ClientError::Timeout { .. } | ClientError::Lost { .. } | ClientError::Protocol(_))
}

/// Releases what a delegate allocated, after a failure that is reported instead.
fn give_back(delegate: Option<&Delegate<'_>>) {
    if let Some(delegate) = delegate
        && let Err(e) = delegate.run(Command::Del)
    {
        eprintln!("podswitch-cni: releasing addresses after a failure: {e}");
    }
}

/// The request to the daemon.
fn request(
    conf: &Conf,
    env: &Environment,
    netns: &Path,
    interface: &Interface,
    wishes: &Wishes,
    allocated: Option<&Received>,
) -> AttachmentAdd {
    let (addresses, routes) = match (&conf.ipam, allocated) {
        (Ipam::Node(routes), _) => (Addresses::Node { ips: wishes.ips.clone() }, routes.clone()),
        (_, Some(allocated)) => {
            let ip = |ip: &result::Ip| AttachmentIp { address: ip.address, gateway: ip.gateway };
            let ips = allocated.ips.iter().map(ip).collect();
            let routes = allocated.routes.iter().cloned().map(AttachmentRoute::from).collect();
            (Addresses::Plugin { ips }, routes)
        }
        (_, None) => (Addresses::None, Vec::new()),
    };
    AttachmentAdd {
        network: conf.name.clone(),
        container_id: env.container_id.clone(),
        ifname: env.ifname.clone(),
        netns: netns.to_owned(),
        segment: interface.segment.clone(),
        vlan: interface.vlan,
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

/// The daemon's working directory is not ours.
pub(crate) fn absolute(path: &Path) -> Result<std::path::PathBuf, Error> {
    std::path::absolute(path).map_err(|e| {
        Error::new(Code::InvalidEnvironment, format!("CNI_NETNS: {}: {e}", path.display()))
    })
}
