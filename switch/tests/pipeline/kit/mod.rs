//! What the pipeline's tests and its fuzz target are made of: tables in a few lines, a switch that
//! accounts for every frame, and packets by an encoder and decoder that share no code with ours.

mod discovery;
mod lab;
mod net;
mod node;
mod packet;
mod wire;

pub use discovery::{
    arp, arp_request, neighbor_advert, neighbor_solicit, read_advert, router_solicit,
};
pub use lab::{Lab, Outcome};
pub use net::{Net, Pod};
pub use node::{
    Node, UPLINK_MAX_FRAME, Via, gateway_mac, host_mac, policed, tunnels, uplink_mac, vtep_mac,
};
pub use packet::{Packet, Seen, decode, fill_checksum, ipip, vxlan, vxlan_header};
pub use wire::{Faults, Wire};
