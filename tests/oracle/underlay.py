"""Tunnels, in the model: VXLAN (RFC 7348), IP in IP (RFC 2003, RFC 2473, RFC 4213), congestion marks and
DSCP through them (RFC 6040, RFC 2983), UDP checksums (RFC 6935, RFC 6936)."""

import struct

import model
import relay
import router
import wire

NOT_ECT, ECT1, ECT0, CE = range(4)


# In ------------------------------------------------------------------------------------------------


def untagged(switch, frame):
    """A frame of the uplink without the tag of the uplink's VLAN, whatever its priority; frames of
    others are not ours (docs/decisions/0005-vlan-uplink.md)."""
    if switch.vlan is None:
        return frame
    if len(frame) < 18:
        raise model.Drop("eth_truncated")
    tpid, tag = struct.unpack_from("!HH", frame, 12)
    if tpid != wire.VLAN or tag & 0xFFF != switch.vlan:
        raise model.Drop("not_for_us")
    return frame[:12] + frame[16:]


def receive(switch, frame):
    """A frame from the uplink."""
    if len(frame) < 14:
        raise model.Drop("eth_truncated")
    ethertype = struct.unpack_from("!H", frame, 12)[0]
    if ethertype not in (wire.IPV4, wire.IPV6):
        raise model.Drop("not_for_us")
    version = 4 if ethertype == wire.IPV4 else 6
    outer = router.validated(frame[14:], version)
    src, dst = wire.addresses(outer)
    if dst not in switch.local:
        return router.forward(switch, ("native",), frame, version)
    protocol, payload = upper_layer(outer)
    tos = outer[1] if version == 4 else struct.unpack_from("!H", outer)[0] >> 4 & 0xFF
    if protocol == wire.UDP:
        vxlan(switch, src, tos, payload)
    elif protocol in (wire.IPIP, wire.IPV6_IN_IP):
        ipip(switch, src, tos, protocol, payload)
    elif protocol == (wire.ICMP if version == 4 else wire.ICMPV6):
        relay.receive(switch, src, dst, payload)
    else:
        raise model.Drop("not_for_us")


def upper_layer(packet):
    """The protocol and its payload, behind IPv6 extension headers."""
    if packet[0] >> 4 == 4:
        if struct.unpack_from("!H", packet, 6)[0] & 0x3FFF:
            raise model.Drop("outer_fragment")
        return packet[9], packet[(packet[0] & 15) * 4:]
    upper = wire.upper_layer(packet)
    if upper is None:
        raise model.Drop("ipv6_malformed")
    protocol, payload, _, is_fragment = upper
    if is_fragment:
        raise model.Drop("outer_fragment")
    return protocol, payload


def vxlan(switch, src, tos, payload):
    if len(payload) < 8:
        raise model.Drop("udp_malformed")
    dport, length = struct.unpack_from("!HH", payload, 2)
    if not 8 <= length <= len(payload):
        raise model.Drop("udp_malformed")
    if dport not in {t.port for t in switch.tunnels.values() if t.kind == "vxlan"}:
        raise model.Drop("not_for_us")
    # The checksum need not be verified (RFC 7348 section 4.1), and is not.
    payload = payload[8:length]
    if len(payload) < 8:
        raise model.Drop("vxlan_malformed")
    if not payload[0] & 0x08:
        raise model.Drop("vxlan_flags")
    if len(payload) < 8 + 14:
        raise model.Drop("vxlan_malformed")  # no room for an inner frame
    vni, inner = struct.unpack_from("!I", payload, 4)[0] >> 8, payload[8:]
    known = [t for t in switch.tunnels.values() if t.kind == "vxlan" and t.vni == vni]
    if not any(t.port == dport for t in known):
        raise model.Drop("vxlan_unknown_vni")
    tunnel = next((t for t in known if t.remote == src), None)
    if tunnel is None:
        raise model.Drop("vxlan_unknown_peer")
    inner = marked_frame(inner, tos)
    if inner[:6] == tunnel.local_mac:
        router.receive(switch, ("L3", tunnel.name), inner)
    elif tunnel.segment:
        switch.bridge(switch.segments[tunnel.segment], ("tunnel", tunnel.name), inner)
    else:
        raise model.Drop("vxlan_inner_unknown")


def ipip(switch, src, tos, protocol, inner):
    version = 4 if protocol == wire.IPIP else 6
    if len(inner) < (20 if version == 4 else 40) or inner[0] >> 4 != version:
        raise model.Drop("ipip_malformed")
    tunnels = [t for t in switch.tunnels.values() if t.kind == "ipip" and t.remote == src]
    if not tunnels:
        raise model.Drop("ipip_unknown_peer")
    frame = bytes(14) + marked_packet(inner, tos)
    router.forward(switch, ("L3", tunnels[0].name), frame, version)


def decapsulated_ecn(inner, outer):
    """RFC 6040 figure 4."""
    if outer == CE:
        if inner == NOT_ECT:
            raise model.Drop("ecn_invalid")
        return CE
    if inner == ECT0 and outer == ECT1:
        return ECT1
    return inner


def marked_frame(frame, outer_tos):
    found = model.ip_inside(frame)
    if not found:
        return frame
    return frame[:found[0]] + marked_packet(frame[found[0]:], outer_tos)


def marked_packet(packet, outer_tos):
    """The inner packet with the outer header's congestion mark. The IPv4 checksum is updated
    (RFC 1624): one that was wrong stays wrong."""
    outer = outer_tos & 3
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        ecn = decapsulated_ecn(packet[1] & 3, outer)
        if ecn == packet[1] & 3:
            return packet
        tos = packet[1] & 0xFC | ecn
        old = struct.unpack_from("!H", packet, 10)[0]
        total = (old ^ 0xFFFF) + (packet[1] ^ 0xFFFF) + tos
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        head = packet[:1] + bytes([tos]) + packet[2:10] + struct.pack("!H", total ^ 0xFFFF)
        return head + packet[12:]
    if len(packet) >= 40 and packet[0] >> 4 == 6:
        ecn = decapsulated_ecn(packet[1] >> 4 & 3, outer)
        return packet[:1] + bytes([packet[1] & 0xCF | ecn << 4]) + packet[2:]
    return packet


# Out -----------------------------------------------------------------------------------------------


def tos_of(packet):
    """DSCP and ECN, which the outer header copies: RFC 2983 section 3.1, RFC 6040 section 4.1."""
    if len(packet) < 2:
        return 0
    (word,) = struct.unpack_from("!H", packet)
    return {4: word & 0xFF, 6: word >> 4 & 0xFF}.get(packet[0] >> 4, 0)


def send_frame(switch, tunnel, frame):
    """A frame of a segment to another node."""
    if tunnel is None:
        raise model.Drop("port_down")
    if tunnel.kind != "vxlan" or not tunnel.segment:
        raise model.Drop("tunnel_routed_only")
    # The MTU is that of IP packets: the Ethernet header is not part of it.
    if len(frame) > switch.tunnel_mtu(tunnel) + 14:
        raise model.Drop("mtu_exceeded")
    found = model.ip_inside(frame)
    tos = tos_of(frame[found[0]:]) if found else 0
    send_vxlan(switch, tunnel, tos, frame)


def send_packet(switch, tunnel, packet):
    """A routed packet that fits to another node."""
    tos = tos_of(packet)
    version = packet[0] >> 4
    ethertype = wire.IPV4 if version == 4 else wire.IPV6
    if tunnel.kind == "vxlan":
        local = tunnel.local_mac or bytes(6)
        send_vxlan(switch, tunnel, tos, wire.ethernet(tunnel.remote_mac, local, ethertype, packet))
    else:
        protocol = wire.IPIP if version == 4 else wire.IPV6_IN_IP
        flow = flow_of(wire.ethernet(bytes(6), bytes(6), ethertype, packet))
        # RFC 2473 section 4.1.1 (c), (d): one less than the packet's own, else as configured.
        own = limit_of(switch, ("tunnel", tunnel.name), packet)
        limit = own[0] - 1 if own else tunnel.limit
        if limit is not None:
            protocol, packet = wire.DESTINATION, wire.limited(protocol, limit, packet)
        send_outer(switch, tunnel, tos, protocol, packet, flow)


def limit_of(switch, hop, packet):
    """The encapsulation limit of a packet that is to enter a tunnel which heeds one, and where it is
    (RFC 2473 section 4.1.1): IPv6 in IPv6."""
    if hop[0] != "tunnel" or packet[0] >> 4 != 6:
        return None
    tunnel = switch.tunnels[hop[1]]
    if tunnel.kind != "ipip" or len(tunnel.remote) == 4:
        return None
    return wire.encapsulation_limit(packet)


def send_vxlan(switch, tunnel, tos, frame):
    """The UDP checksum is none over IPv4 (RFC 7348 section 4.1) and right over IPv6 (RFC 6935). The
    source port is filled in by who knows it: see `Sent.flow`."""
    payload = wire.vxlan(tunnel.vni, frame)
    datagram = struct.pack("!HHHH", 0, tunnel.port, 8 + len(payload), 0) + payload
    send_outer(switch, tunnel, tos, wire.UDP, datagram, flow_of(frame))


def send_outer(switch, tunnel, tos, protocol, payload, flow=None):
    if tunnel.next_hop is None or tunnel.local is None:
        raise model.Drop("neighbor_unresolved")
    if tunnel.dscp != "inherit":
        tos = tunnel.dscp << 2 | tos & 3  # RFC 2983 section 3.1, RFC 6040 section 4.1
    if len(tunnel.remote) == 4:
        # An atomic datagram: its identification means nothing (RFC 6864 section 4.1). What may not be
        # fragmented inside IP may not be outside (RFC 2003 section 3.1).
        forbidden = tunnel.df or protocol == wire.IPIP and payload[6] & 0x40
        ethertype, flags = wire.IPV4, 0x4000 if forbidden else 0
        outer = wire.ipv4(tunnel.local, tunnel.remote, protocol, payload, tunnel.ttl, tos, 0, flags)
    else:
        ethertype = wire.IPV6
        outer = wire.ipv6(tunnel.local, tunnel.remote, protocol, payload, tunnel.ttl, tos)
    frame = wire.ethernet(tunnel.next_hop, tunnel.src_mac, ethertype, outer)
    switch.sent.append(model.Sent(switch.facts["uplink"]["id"], frame, flow, tunnel.source_ports))


def flow_of(frame):
    """What tells flows apart, as far as a sender may rely on: addresses, protocol and, of what is no
    fragment, ports."""
    found = model.ip_inside(frame)
    if not found:
        return (frame[:14],)
    packet = frame[found[0]:]
    if found[1] == 4 and len(packet) >= 20:
        at, protocol = (packet[0] & 15) * 4, packet[9]
        whole = not struct.unpack_from("!H", packet, 6)[0] & 0x3FFF
        ports = packet[at:at + 4] if whole and protocol in (wire.TCP, wire.UDP, 132) else b""
        return (packet[12:20], protocol, ports)
    if found[1] == 6 and len(packet) >= 40 and packet[6] in (wire.TCP, wire.UDP):
        return (packet[8:40], packet[6], packet[40:44])
    return (packet[:48],)
