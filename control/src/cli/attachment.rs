//! `podswitch attachment list|add|del|check|status`: what a container runtime does by way of the CNI
//! plugin, by hand.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Subcommand;
use podswitch_api::Request;
use podswitch_api::attachment::{
    Addresses, AttachmentAdd, AttachmentCheck, AttachmentId, AttachmentStatus,
};
use podswitch_api::method::Empty;
use podswitch_api::state::PodKind;

use super::out::{Failure, Out};
use super::{Daemon, lists};

#[derive(Debug, Subcommand)]
pub enum Attachment {
    /// All attachments.
    #[command(visible_alias = "ls")]
    List,
    /// Plug a pod in, with addresses of the node's pod CIDRs.
    #[command(after_help = "Example:
  podswitch attachment add --netns /run/netns/web pod-network web eth0")]
    Add {
        #[command(flatten)]
        id: Id,
        /// The pod's network namespace, like /run/netns/web.
        #[arg(long, value_name = "PATH")]
        netns: PathBuf,
        /// An address to ask for, instead of any; may be repeated.
        #[arg(long, value_name = "ADDRESS")]
        ip: Vec<IpAddr>,
        /// The segment; the node's by default.
        #[arg(long, value_name = "NAME")]
        segment: Option<String>,
        /// What the interface in the pod is: "veth" or "tap"; a veth by default.
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<PodKind>,
        /// Give what the pod sends to the world the node's address.
        #[arg(long)]
        masquerade: bool,
    },
    /// Unplug a pod.
    Del {
        #[command(flatten)]
        id: Id,
    },
    /// Compare a pod's attachment with what should be.
    Check {
        #[command(flatten)]
        id: Id,
        /// The pod's network namespace.
        #[arg(long, value_name = "PATH")]
        netns: PathBuf,
    },
    /// Whether a pod could be plugged in now.
    Status {
        /// The name of the network.
        #[arg(default_value = "default")]
        network: String,
    },
}

/// What identifies an attachment.
#[derive(Debug, clap::Args)]
pub struct Id {
    /// The name of the network.
    network: String,
    /// The container.
    container: String,
    /// The interface in the pod.
    ifname: String,
}

impl Attachment {
    pub fn run(self, daemon: &Daemon, out: &Out) -> Result<(), Failure> {
        let request = match self {
            Attachment::List => Request::AttachmentList(Empty {}),
            Attachment::Add { id, netns, ip, segment, kind, masquerade } => {
                Request::AttachmentAdd(AttachmentAdd {
                    network: id.network,
                    container_id: id.container,
                    ifname: id.ifname,
                    netns,
                    segment,
                    vlan: None,
                    kind,
                    addresses: Addresses::Node { ips: ip },
                    gateway: true,
                    default_route: true,
                    routes: Vec::new(),
                    mac: None,
                    mtu: None,
                    masquerade,
                    anti_spoof: true,
                    ingress: None,
                    egress: None,
                })
            }
            Attachment::Del { id } => Request::AttachmentDel(AttachmentId {
                network: id.network,
                container_id: id.container,
                ifname: id.ifname,
            }),
            Attachment::Check { id, netns } => Request::AttachmentCheck(AttachmentCheck {
                network: id.network,
                container_id: id.container,
                ifname: id.ifname,
                netns,
                ips: Vec::new(),
                routes: Vec::new(),
                mac: None,
            }),
            Attachment::Status { network } => Request::AttachmentStatus(AttachmentStatus {
                network,
                allocate: true,
                masquerade: false,
            }),
        };
        daemon.call(&request, out, lists::show)
    }
}
