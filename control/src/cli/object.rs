//! `podswitch port|segment|tunnel|route|neighbor|fdb add|del|list`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Subcommand;
use encap::{Mac, Prefix, Vni};
use podswitch_api::method::{ByIp, ByMac, ByName, ByPrefix, Empty, FdbFilter, NeighborFilter};
use podswitch_api::state::{
    self, DEFAULT_SEGMENT, Dscp, PodKind, TunnelKind, TunnelMode, UnknownUnicast, Via,
};
use podswitch_api::{Client, InterfaceAddr, Request};

use super::announce::Update;
use super::out::{Failure, Out};
use super::{Daemon, lists};

#[derive(Debug, Subcommand)]
pub enum Port {
    /// Take an existing interface, or give a pod one.
    #[command(after_help = "Examples:
  podswitch port add --dev eth1
  podswitch port add --dev eth1 --segment blue uplink-to-lab
  podswitch port add --netns /run/netns/web --ifname eth0 \\
      --ip 10.244.1.5/24 --ip fd00:10:244:1::5/64 web")]
    Add(Box<PortAdd>),
    /// Remove a port, with the pod's interface if podswitch made it.
    Del(Named),
    /// All ports.
    #[command(visible_alias = "ls")]
    List,
}

#[derive(Debug, clap::Args)]
pub struct PortAdd {
    /// An existing interface to be taken as a bridge port.
    #[arg(long, value_name = "DEV", conflicts_with = "netns", required_unless_present = "netns")]
    dev: Option<String>,
    /// The pod's network namespace, like /run/netns/web.
    #[arg(long, value_name = "PATH", requires_all = ["ifname", "name"])]
    netns: Option<PathBuf>,
    /// The name of the interface in the pod.
    #[arg(long, value_name = "NAME", requires = "netns")]
    ifname: Option<String>,
    /// What the interface in the pod is: "veth", or "tap", which hands over TCP and UDP superpackets
    /// whole; a veth by default.
    #[arg(long = "type", value_name = "TYPE", requires = "netns")]
    kind: Option<PodKind>,
    /// An address of the pod with its prefix length; may be repeated.
    #[arg(long, value_name = "ADDRESS/LENGTH", requires = "netns")]
    ip: Vec<InterfaceAddr>,
    /// The MAC address of the pod's interface.
    #[arg(long, requires = "netns")]
    mac: Option<Mac>,
    /// The MTU of the pod's interface, in bytes.
    #[arg(long, value_name = "BYTES", requires = "netns")]
    mtu: Option<u32>,
    /// The bridge domain.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_SEGMENT)]
    segment: String,
    /// Whether frames must come from the pod's own addresses; they must by default.
    #[arg(long, value_name = "BOOL", requires = "netns")]
    anti_spoof: Option<bool>,
    /// Broadcast and multicast frames that may come in per second.
    #[arg(long, value_name = "FRAMES")]
    storm_limit: Option<u32>,
    /// The most MAC addresses to be learned behind the port.
    #[arg(long, value_name = "COUNT")]
    fdb_limit: Option<u32>,
    /// The rate of what goes to the pod or out of the interface, in bits a second.
    #[arg(long, value_name = "BITS")]
    ingress_rate: Option<u64>,
    /// Bits that may go to it at once after a silence.
    #[arg(long, value_name = "BITS", requires = "ingress_rate")]
    ingress_burst: Option<u64>,
    /// The rate of what comes from the pod or in through the interface, in bits a second.
    #[arg(long, value_name = "BITS")]
    egress_rate: Option<u64>,
    /// Bits that may come from it at once after a silence.
    #[arg(long, value_name = "BITS", requires = "egress_rate")]
    egress_burst: Option<u64>,
    /// The port's name; the interface's by default.
    name: Option<String>,
}

/// An object by its name.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// Its name.
    name: String,
}

impl Port {
    pub fn run(self, daemon: &Daemon, out: &Out) -> Result<(), Failure> {
        let request = match self {
            Port::Add(a) => Request::PortAdd(state::Port {
                name: a.name.or_else(|| a.dev.clone()).unwrap_or_default(),
                segment: a.segment,
                dev: a.dev,
                netns: a.netns.map(absolute).transpose()?,
                ifname: a.ifname,
                kind: a.kind,
                ip: a.ip,
                mac: a.mac,
                mtu: a.mtu,
                anti_spoof: a.anti_spoof,
                storm_limit: a.storm_limit,
                fdb_limit: a.fdb_limit,
                ingress_rate: a.ingress_rate,
                ingress_burst: a.ingress_burst,
                egress_rate: a.egress_rate,
                egress_burst: a.egress_burst,
            }),
            Port::Del(by) => Request::PortDel(ByName { name: by.name }),
            Port::List => Request::PortList(Empty {}),
        };
        daemon.call(&request, out, lists::show)
    }
}

/// The daemon's working directory is not ours.
fn absolute(path: PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(&path)
        .map_err(|e| Failure::Runtime(format!("--netns {}: {e}", path.display())))
}

#[derive(Debug, Subcommand)]
pub enum Segment {
    /// Add a bridge domain.
    Add {
        /// Its name.
        name: String,
        /// Seconds after which a learned address is forgotten.
        #[arg(long, value_name = "SECONDS")]
        ageing: Option<u32>,
        /// The most MAC addresses to be learned in it.
        #[arg(long, value_name = "COUNT")]
        fdb_limit: Option<u32>,
        /// What becomes of frames to a MAC address that is not known.
        #[arg(long, value_name = "POLICY", default_value = "flood", value_parser = ["flood", "drop"])]
        unknown_unicast: String,
        /// Whether ARP and ND requests for known addresses are answered on the spot.
        #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
        suppress: bool,
        /// An address of the switch's router in it, with the prefix that it serves; may be repeated.
        #[arg(long, value_name = "ADDRESS/LENGTH")]
        gateway: Vec<InterfaceAddr>,
    },
    /// Remove a bridge domain.
    Del(Named),
    /// All bridge domains.
    #[command(visible_alias = "ls")]
    List,
}

impl Segment {
    pub fn run(self, daemon: &Daemon, out: &Out) -> Result<(), Failure> {
        let request = match self {
            Segment::Add { name, ageing, fdb_limit, unknown_unicast, suppress, gateway } => {
                let unknown_unicast = match unknown_unicast.as_str() {
                    "drop" => UnknownUnicast::Drop,
                    _ => UnknownUnicast::Flood,
                };
                Request::SegmentAdd(state::Segment {
                    name,
                    ageing,
                    fdb_limit,
                    unknown_unicast,
                    suppress,
                    gateway,
                })
            }
            Segment::Del(by) => Request::SegmentDel(ByName { name: by.name }),
            Segment::List => Request::SegmentList(Empty {}),
        };
        daemon.call(&request, out, lists::show)
    }
}

#[derive(Debug, Subcommand)]
pub enum Tunnel {
    /// Add a tunnel.
    #[command(after_help = "Examples:
  podswitch tunnel add --remote 192.0.2.2 --vni 1 node2
  podswitch tunnel add --kind ipip --remote 192.0.2.3 node3
  podswitch tunnel add --remote 192.0.2.2 --vni 7 --segment blue blue-node2")]
    Add(Box<TunnelAdd>),
    /// Remove a tunnel.
    Del(Named),
    /// All tunnels.
    #[command(visible_alias = "ls")]
    List,
}

#[derive(Debug, clap::Args)]
pub struct TunnelAdd {
    /// The tunnel's name, which routes refer to.
    name: String,
    /// The encapsulation.
    #[arg(long, default_value = "vxlan", value_parser = ["vxlan", "ipip"])]
    kind: String,
    /// The other node's underlay address.
    #[arg(long, value_name = "ADDRESS")]
    remote: IpAddr,
    /// Our underlay address; the uplink's by default.
    #[arg(long, value_name = "ADDRESS")]
    local: Option<IpAddr>,
    /// VXLAN: the network identifier.
    #[arg(long, required_unless_present = "kind", required_if_eq("kind", "vxlan"), value_parser = vni)]
    vni: Option<Vni>,
    /// VXLAN: the UDP port, 4789 by default.
    #[arg(long)]
    port: Option<u16>,
    /// VXLAN: the segment that the tunnel extends.
    #[arg(long, value_name = "NAME")]
    segment: Option<String>,
    /// VXLAN: our VTEP's MAC address.
    #[arg(long, value_name = "MAC")]
    local_mac: Option<Mac>,
    /// VXLAN: the other VTEP's MAC address.
    #[arg(long, value_name = "MAC")]
    remote_mac: Option<Mac>,
    /// TTL or hop limit of the outer header.
    #[arg(long, default_value_t = 64)]
    ttl: u8,
    /// Whether to encapsulate routed packets always, or only while the other node is not on our
    /// own subnet.
    #[arg(long, default_value = "always", value_parser = ["always", "cross-subnet"])]
    mode: String,
    /// Whether an outer IPv4 header forbids fragmentation.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    df: bool,
    /// The DSCP of the outer header: "inherit", or a number from 0 to 63.
    #[arg(long, default_value = "inherit", value_parser = dscp)]
    dscp: Dscp,
    /// VXLAN: the UDP source ports that flows are spread over, 49152-65535 by default.
    #[arg(long, value_name = "FIRST-LAST", value_parser = source_ports)]
    source_ports: Option<SourcePorts>,
    /// IPIP over IPv6: how many tunnels more a packet may enter inside this one, 0 to 255.
    #[arg(long, value_name = "COUNT")]
    encapsulation_limit: Option<u8>,
}

/// The first and the last.
#[derive(Clone, Copy, Debug)]
struct SourcePorts([u16; 2]);

fn dscp(text: &str) -> Result<Dscp, String> {
    match (text, text.parse()) {
        ("inherit", _) => Ok(Dscp::Inherit),
        (_, Ok(dscp @ 0..64)) => Ok(Dscp::Fixed(dscp)),
        _ => Err("expected \"inherit\" or a number from 0 to 63".to_owned()),
    }
}

fn source_ports(text: &str) -> Result<SourcePorts, String> {
    let ends = text.split_once('-').and_then(|(a, b)| Some([a.parse().ok()?, b.parse().ok()?]));
    ends.map(SourcePorts).ok_or_else(|| "expected two ports, such as 49152-65535".to_owned())
}

fn vni(text: &str) -> Result<Vni, String> {
    let vni = text.parse().ok().and_then(Vni::new);
    vni.ok_or_else(|| format!("expected a number from 0 to {}", Vni::MAX))
}

impl Tunnel {
    pub fn run(self, daemon: &Daemon, out: &Out) -> Result<(), Failure> {
        let request = match self {
            Tunnel::Add(a) => Request::TunnelAdd(state::Tunnel {
                name: a.name,
                kind: if a.kind == "ipip" { TunnelKind::Ipip } else { TunnelKind::Vxlan },
                remote: a.remote,
                local: a.local,
                vni: a.vni,
                port: a.port,
                segment: a.segment,
                local_mac: a.local_mac,
                remote_mac: a.remote_mac,
                ttl: a.ttl,
                df: a.df,
                dscp: a.dscp,
                source_ports: a.source_ports.map(|p| p.0),
                encapsulation_limit: a.encapsulation_limit,
                mode: match a.mode.as_str() {
                    "cross-subnet" => TunnelMode::CrossSubnet,
                    _ => TunnelMode::Always,
                },
            }),
            Tunnel::Del(by) => Request::TunnelDel(ByName { name: by.name }),
            Tunnel::List => Request::TunnelList(Empty {}),
        };
        daemon.call(&request, out, lists::show)
    }
}

#[derive(Debug, Subcommand)]
pub enum Route {
    /// Add a route.
    #[command(after_help = "Examples:
  podswitch route add 10.244.2.0/24 node2        into a tunnel
  podswitch route add 10.244.3.0/24 192.0.2.3    unencapsulated, to a next hop
  podswitch route add 10.244.4.0/24 node2 node3  over two tunnels of equal cost
  podswitch route add 10.0.0.0/8 unreachable     dropped, and the sender is told")]
    Add {
        /// The destination.
        prefix: Prefix,
        /// A tunnel, an IP address, `host`, `blackhole`, `unreachable` or `prohibited`; several tunnels or
        /// addresses share the flows.
        #[arg(required = true)]
        via: Vec<Via>,
    },
    /// Remove a route.
    Del {
        /// The destination.
        prefix: Prefix,
    },
    /// Announce and withdraw many routes, as a routing protocol does.
    ///
    /// Announced routes are no part of the configuration: no file keeps them, `apply` leaves them alone,
    /// and they end with the daemon. Where the configuration has a route or a pod for the same prefix, they
    /// stand back.
    Update(Update),
    /// All routes, those of local pods included.
    #[command(visible_alias = "ls")]
    List,
}

impl Route {
    pub fn run(self, daemon: &Daemon, out: &Out) -> Result<(), Failure> {
        let request = match self {
            Route::Add { prefix, via } => {
                Request::RouteAdd(state::Route { prefix, via: Via::of(via) })
            }
            Route::Del { prefix } => Request::RouteDel(ByPrefix { prefix }),
            Route::Update(update) => return update.run(daemon, out),
            Route::List => Request::RouteList(Empty {}),
        };
        daemon.call(&request, out, lists::show)
    }
}

#[derive(Debug, Subcommand)]
pub enum Neighbor {
    /// Add a static neighbour.
    #[command(after_help = "Examples:
  podswitch neighbor add 10.244.1.9 02:00:00:00:00:09 eth1
  podswitch neighbor add 10.9.0.2 02:00:00:00:00:0b --tunnel blue-node2")]
    Add {
        /// Its address.
        ip: IpAddr,
        /// Its MAC address.
        mac: Mac,
        /// The port it is behind.
        #[arg(required_unless_present = "tunnel")]
        port: Option<String>,
        /// The tunnel it is behind, one that extends a segment.
        #[arg(long, value_name = "NAME", conflicts_with = "port")]
        tunnel: Option<String>,
    },
    /// Remove a static neighbour.
    Del {
        /// Its address.
        ip: IpAddr,
    },
    /// All neighbours.
    #[command(visible_alias = "ls")]
    List,
    /// Forget neighbours that the router resolved; they are asked for again when they are needed.
    Flush {
        /// This one only.
        ip: Option<IpAddr>,
    },
}

impl Neighbor {
    pub fn run(self, daemon: &Daemon, out: &Out) -> Result<(), Failure> {
        let request = match self {
            Neighbor::Add { ip, mac, port, tunnel } => {
                Request::NeighborAdd(state::Neighbor { ip, mac, port, tunnel })
            }
            Neighbor::Del { ip } => Request::NeighborDel(ByIp { ip }),
            Neighbor::List => Request::NeighborList(Empty {}),
            Neighbor::Flush { ip } => Request::NeighborFlush(NeighborFilter { ip }),
        };
        daemon.call(&request, out, lists::show)
    }
}

#[derive(Debug, Subcommand)]
pub enum Fdb {
    /// Fix the place of a MAC address.
    #[command(after_help = "Examples:
  podswitch fdb add 02:00:00:00:00:0a --port eth1
  podswitch fdb add 02:00:00:00:00:0b --segment blue --tunnel blue-node2")]
    Add {
        /// The MAC address.
        mac: Mac,
        #[command(flatten)]
        at: At,
    },
    /// Remove a static MAC address.
    Del {
        /// The MAC address.
        mac: Mac,
        /// The segment.
        #[arg(long, value_name = "NAME", default_value = DEFAULT_SEGMENT)]
        segment: String,
    },
    /// MAC addresses, learned and static.
    #[command(visible_alias = "ls")]
    List(Filter),
    /// Forget learned MAC addresses.
    Flush(Filter),
}

#[derive(Debug, clap::Args)]
pub struct At {
    /// The segment.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_SEGMENT)]
    segment: String,
    #[command(flatten)]
    behind: Behind,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Behind {
    /// The port it is behind.
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// The tunnel it is behind.
    #[arg(long, value_name = "NAME")]
    tunnel: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Filter {
    /// Of this segment only.
    #[arg(long, value_name = "NAME")]
    segment: Option<String>,
    /// Behind this port only.
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// Behind this tunnel only.
    #[arg(long, value_name = "NAME")]
    tunnel: Option<String>,
}

impl From<Filter> for FdbFilter {
    fn from(f: Filter) -> FdbFilter {
        FdbFilter { segment: f.segment, port: f.port, tunnel: f.tunnel }
    }
}

impl Fdb {
    pub fn run(self, daemon: &Daemon, out: &Out) -> Result<(), Failure> {
        let request = match self {
            Fdb::Add { mac, at: At { segment, behind: Behind { port, tunnel } } } => {
                Request::FdbAdd(state::FdbEntry { mac, segment, port, tunnel })
            }
            Fdb::Del { mac, segment } => Request::FdbDel(ByMac { mac, segment }),
            Fdb::List(filter) => Request::FdbList(filter.into()),
            Fdb::Flush(filter) => Request::FdbFlush(filter.into()),
        };
        daemon.call(&request, out, lists::show)
    }
}

/// All tables, one under the other.
pub fn tables(daemon: &Daemon, out: &Out) -> Result<(), Failure> {
    let requests = [
        ("port", Request::PortList(Empty {})),
        ("segment", Request::SegmentList(Empty {})),
        ("route", Request::RouteList(Empty {})),
        ("tunnel", Request::TunnelList(Empty {})),
        ("neighbor", Request::NeighborList(Empty {})),
        ("fdb", Request::FdbList(FdbFilter::default())),
    ];
    let mut client = Client::connect(&daemon.socket)?;
    if out.json {
        let mut all = serde_json::Map::new();
        for (name, request) in &requests {
            all.insert((*name).to_owned(), client.call_raw(request)?);
        }
        return out.json(&all);
    }
    let mut text = Vec::new();
    for (_, request) in &requests {
        text.push(lists::show(client.call(request)?));
    }
    out.text(&text.join("\n\n"))
}
