//! Why a frame was dropped. Every drop has a name.

macro_rules! reasons {
    ($($variant:ident $name:literal $help:literal;)*) => {
        /// Why a frame was dropped.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $help] $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &[DropReason] = &[$(DropReason::$variant,)*];
            /// How many reasons there are.
            pub const COUNT: usize = DropReason::ALL.len();

            /// The name used in counters, the CLI and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }

            /// One sentence for an operator.
            pub const fn help(self) -> &'static str {
                match self { $(DropReason::$variant => $help,)* }
            }
        }
    };
}

reasons! {
    EthTruncated "eth_truncated" "The frame is shorter than an Ethernet header.";
    EthSourceInvalid "eth_source_invalid" "The source MAC is a group address or zero.";
    EthReserved "eth_reserved" "The destination is a link-local group address (01:80:c2:00:00:0x) that a bridge must not forward.";
    PortUnknown "port_unknown" "The ingress port is not in the tables: it is being added or removed.";
    PortDown "port_down" "The egress port is gone or its interface is down.";
    SpoofedMac "spoofed_mac" "A pod sent from a MAC address that is not its own.";
    SpoofedArp "spoofed_arp" "A pod's ARP packet claims a MAC or IP address that is not its own.";
    SpoofedIp "spoofed_ip" "A pod sent from an IP address that is not its own.";
    SpoofedNd "spoofed_nd" "A pod's neighbour discovery claims an address that is not its own, or to be a router.";
    UnknownUnicast "unknown_unicast" "The destination is not known, and the segment does not flood to find it.";
    Storm "storm" "More broadcast and multicast than the port may send (storm control).";
    RateLimited "rate_limited" "More than the port's rate limit lets pass: the queue before it was full.";
    FloodEmpty "flood_empty" "The segment has no other port or tunnel to flood to.";
    SplitHorizon "split_horizon" "The destination is behind a tunnel, and so was the source: tunnels are meshed, not chained.";
    TunnelRoutedOnly "tunnel_routed_only" "A frame of a segment was to go through a tunnel that carries no segment, but routed packets only.";
    Hairpin "hairpin" "The destination is behind the port the frame came from.";
    NoBuffer "no_buffer" "No buffer was free: for a copy, a reply, or a frame that came to a port that had used up its own.";
    NoHeadroom "no_headroom" "There is no room before the frame for the tunnel's header.";
    TxRingFull "tx_ring_full" "The egress interface did not take the frame: its ring was full.";
    OffloadInvalid "offload_invalid" "A pod handed over a packet to be segmented or given its checksum, but described it as something else than it is.";
    TxRefused "tx_refused" "The egress interface refused the packet: the kernel found its headers to contradict themselves.";
    TxTooManySegments "tx_too_many_segments" "The frame has more segments than the interface can send.";
    GatewayConflict "gateway_conflict" "Somebody else claims an address of the gateway: the segment is told whose it is (RFC 5227 section 2.4).";
    ArpMalformed "arp_malformed" "The ARP packet is truncated or not for Ethernet and IPv4 (RFC 826).";
    Ipv4Malformed "ipv4_malformed" "The IPv4 header is truncated or contradicts itself (RFC 791).";
    Ipv4Checksum "ipv4_checksum" "The IPv4 header checksum is wrong.";
    Ipv6Malformed "ipv6_malformed" "The IPv6 header is truncated or contradicts itself (RFC 8200).";
    IpAddressInvalid "ip_address_invalid" "The IP source or destination may not be routed: loopback, multicast source, unspecified.";
    IpMulticastUnrouted "ip_multicast_unrouted" "An IP multicast packet was sent to the router: multicast is bridged, not routed.";
    TtlExceeded "ttl_exceeded" "The TTL or hop limit ran out at the router.";
    NoRoute "no_route" "No route matches the destination.";
    RouteBlackhole "route_blackhole" "The route says blackhole.";
    RouteUnreachable "route_unreachable" "The route says unreachable.";
    RouteProhibited "route_prohibited" "The route says prohibited.";
    NeighborFailed "neighbor_failed" "The next hop did not answer when it was asked for its MAC address.";
    NeighborQueueFull "neighbor_queue_full" "A newer frame took its place while it waited for its next hop's MAC address.";
    Consumed "consumed" "An answer to a question of the router's own: it has done its work.";
    NeighborUnresolved "neighbor_unresolved" "The next hop's MAC address is not known yet.";
    MtuExceeded "mtu_exceeded" "The packet is larger than the egress allows and may not be fragmented.";
    IcmpMalformed "icmp_malformed" "An ICMP or ICMPv6 message to the router is truncated or its checksum is wrong.";
    NotForUs "not_for_us" "A frame to the switch itself is for no tunnel, pod or address of ours.";
    EtherTypeUnrouted "ethertype_unrouted" "A frame to the router's MAC is neither IPv4, IPv6 nor ARP.";
    HostPortMissing "host_port_missing" "The packet is for the node itself, which has no host port.";
    UdpMalformed "udp_malformed" "The UDP header is truncated or its length contradicts the packet.";
    OuterFragment "outer_fragment" "A tunnel packet arrived in fragments, which are not reassembled.";
    VxlanMalformed "vxlan_malformed" "The VXLAN header is truncated.";
    VxlanFlags "vxlan_flags" "The VXLAN I flag is not set (RFC 7348 section 5).";
    VxlanUnknownVni "vxlan_unknown_vni" "No segment or tunnel has this VNI.";
    VxlanUnknownPeer "vxlan_unknown_peer" "The VXLAN packet comes from an address that is no peer of this VNI.";
    VxlanInnerUnknown "vxlan_inner_unknown" "The inner frame of an L3 tunnel is not for the VTEP's MAC.";
    IpipUnknownPeer "ipip_unknown_peer" "The IPIP packet comes from an address that is no peer.";
    IpipMalformed "ipip_malformed" "The inner packet of an IPIP tunnel is truncated or not IP.";
    EcnInvalid "ecn_invalid" "The outer header says congestion, the inner one that its transport cannot hear of it (RFC 6040 section 4.2).";
    RouteLoop "route_loop" "The node's kernel sent a packet to the switch that the switch would send back to it.";
    NestedTunnel "nested_tunnel" "The packet would enter a tunnel it came out of.";
    EncapsulationLimit "encapsulation_limit" "The packet is in as many tunnels as its tunnel encapsulation limit allows (RFC 2473 section 4.1.1).";
    IcmpRateLimited "icmp_rate_limited" "An ICMP error of the router was held back: it sends only so many (RFC 4443 section 2.4 (f)).";
    UnderlayError "underlay_error" "An ICMP error of the underlay about a tunnel packet: heeded, and passed on to the inner sender where that is possible.";
    Shutdown "shutdown" "The frame was still queued when its port was removed or the switch stopped.";
}
