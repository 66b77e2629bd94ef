"""The router of a node, in the model: ARP (RFC 826), neighbour discovery (RFC 4861), echo (RFC 792,
RFC 4443), forwarding (RFC 1812, RFC 8200)."""

import struct

import fragment
import icmp_error
import model
import mss
import resolve
import underlay
import wire

ECHO_TTL = 64


def takes(switch, segment, came_from, frame):
    """Whether the router takes a frame of its segment; if so, it has dealt with it."""
    dst = frame[:6]
    ethertype = struct.unpack_from("!H", frame, 12)[0]
    if dst == switch.router_mac:
        receive(switch, came_from, frame)
        return True
    stolen = claimed(frame)
    own = (switch.router_mac, switch.host[1] if switch.host else None)
    if stolen and stolen[0] in switch.gateways and stolen[1] not in own:
        defend(switch, segment, stolen[0])
        raise model.Drop("gateway_conflict")
    if ethertype == wire.ARP and dst == wire.BROADCAST:
        return arp(switch, came_from, frame)
    if ethertype == wire.IPV6 and dst[0] & 1:
        return solicitation(switch, came_from, frame, lambda ip: gateway(switch, ip))
    return False


def claimed(frame):
    """The address that an ARP packet or a valid advertisement says is somebody's, and whose."""
    ethertype, body = struct.unpack_from("!H", frame, 12)[0], frame[14:]
    if ethertype == wire.ARP and len(body) >= 28 and body[:6] == struct.pack("!HHBB", 1, wire.IPV4, 6, 4):
        return body[14:18], body[8:14]
    if ethertype == wire.IPV6 and len(body) >= 40 and body[0] >> 4 == 6 and body[6] == wire.ICMPV6:
        length = struct.unpack_from("!H", body, 4)[0]
        told = resolve.advertised(frame, body[:40 + length]) if len(body) >= 40 + length else None
        return told and told[:2]
    return None


def defend(switch, segment, address):
    """RFC 5227 section 2.4 (b): one announcement, not oftener than every ten seconds; for IPv6 an
    unsolicited advertisement (RFC 4861 section 7.2.6)."""
    if switch.millis < switch.announced.get(len(address), -1 << 60) + 10_000:
        return
    switch.announced[len(address)] = switch.millis
    mac = switch.router_mac
    if len(address) == 4:
        frame = wire.ethernet(wire.BROADCAST, mac, wire.ARP, wire.arp(1, mac, address, bytes(6), address))
    else:
        group = wire.ip("ff02::1")
        told = wire.icmpv6(address, group, 136, 0, struct.pack("!I", 0xA0000000) + address + b"\x02\x01" + mac)
        packet = wire.ipv6(address, group, wire.ICMPV6, told, hop_limit=255)
        frame = wire.ethernet(b"\x33\x33" + group[12:], mac, wire.IPV6, packet)
    try:
        switch.flood(segment, ("router",), frame)
    except model.Drop as drop:
        switch.count(drop.reason)


def receive(switch, came_from, frame):
    """A frame for the router itself: sent to its MAC address in the segment, or to the VTEP's."""
    ethertype = struct.unpack_from("!H", frame, 12)[0]
    if ethertype == wire.ARP:
        if came_from[0] != "L3" and arp(switch, came_from, frame):
            return
        if came_from[0] != "L3" and resolve.hear_arp(switch, frame):
            raise model.Drop("consumed")
        raise model.Drop("not_for_us")
    if ethertype not in (wire.IPV4, wire.IPV6):
        raise model.Drop("ethertype_unrouted")
    forward(switch, came_from, frame, 4 if ethertype == wire.IPV4 else 6)


def arp(switch, came_from, frame):
    """RFC 826: a request for a gateway address is answered to whom it says it is from. Padding of the
    request stays behind the answer."""
    body, padding = frame[14:42], frame[42:]
    if len(body) < 28 or body[:6] != struct.pack("!HHBB", 1, wire.IPV4, 6, 4):
        raise model.Drop("arp_malformed")
    operation, sender_mac, sender = struct.unpack("!H6s4s", body[6:18])
    target = body[24:28]
    if operation != 1 or target not in switch.gateways:
        return False
    if sender_mac[0] & 1 or sender_mac == bytes(6):
        raise model.Drop("arp_malformed")  # nobody could get the answer
    answer = wire.arp(2, switch.router_mac, target, sender_mac, sender) + padding
    switch.send_to(came_from, wire.ethernet(sender_mac, switch.router_mac, wire.ARP, answer))
    return True


def gateway(switch, address):
    """Who answers for an address: its MAC address and the router flag."""
    return (switch.router_mac, 0x80000000) if address in switch.gateways else (None, 0)


def solicitation(switch, came_from, frame, owner_of):
    """A neighbour solicitation for an address whose owner is known is answered to the MAC address that
    it came from: the model keeps no neighbour cache."""
    answer = advertisement(frame[14:], owner_of)
    if answer is None:
        return False
    packet, mac = answer
    to = wire.addresses(packet)[1]
    to_mac = b"\x33\x33" + to[12:] if to[0] == 0xFF else frame[6:12]
    switch.send_to(came_from, wire.ethernet(to_mac, mac, wire.IPV6, packet))
    return True


def advertisement(packet, owner_of):
    """The answer to a solicitation for an address with a known owner (RFC 4861 section 7.2.4), and the
    owner's MAC address; none to anything else. Whether one for another address is valid is for its target to say (section 7.1.1)."""
    if len(packet) < 40 or packet[0] >> 4 != 6 or packet[6] != wire.ICMPV6:
        return None
    length = struct.unpack_from("!H", packet, 4)[0]
    src, dst, message = packet[8:24], packet[24:40], packet[40:40 + length]
    if len(message) < length or not message or message[0] != 135:
        return None
    if length < 24:
        raise model.Drop("icmp_malformed")
    target, found = message[8:24], options(message[24:])
    mac, router_flag = owner_of(target)
    if mac is None:
        return None
    if src[0] == 0xFF or src == bytes(15) + b"\x01":
        raise model.Drop("ip_address_invalid")  # RFC 4291 sections 2.5.3 and 2.7
    is_probe = src == bytes(16)  # of an address that is not yet used (RFC 4862 section 5.4.3)
    is_valid = packet[7] == 255 and icmpv6_sum_is_right(src, dst, message)
    is_valid &= message[1] == 0 and None not in found
    if is_probe:  # section 7.1.1
        is_solicited_node = dst[:13] == wire.ip("ff02::1:ff00:0")[:13]
        is_valid &= is_solicited_node and not any(o and o[0] == 1 for o in found)
    if not is_valid:
        raise model.Drop("icmp_malformed")
    to = wire.ip("ff02::1") if is_probe else src
    flags = router_flag | (0x20000000 if is_probe else 0x60000000)  # solicited unless probed, override
    body = struct.pack("!I", flags) + target + b"\x02\x01" + mac
    advert = wire.icmpv6(target, to, 136, 0, body)
    return wire.ipv6(target, to, wire.ICMPV6, advert, hop_limit=255), mac


def options(data):
    """Neighbour discovery options; a list that ends in None is malformed."""
    found = []
    while data:
        if len(data) < 2 or data[1] == 0 or len(data) < data[1] * 8:
            return found + [None]
        found.append(data[:data[1] * 8])
        data = data[data[1] * 8:]
    return found


def icmpv6_sum_is_right(src, dst, message):
    return wire.ones_complement(wire.pseudo(src, dst, wire.ICMPV6, len(message)) + message) == 0xFFFF


# IP ------------------------------------------------------------------------------------------------


def validated(packet, version):
    """The packet without what is behind its end (RFC 1812 section 5.2.2, RFC 8200 section 3)."""
    if version == 4:
        length = (packet[0] & 15) * 4 if packet else 0
        if len(packet) < 20 or packet[0] >> 4 != 4 or length < 20:
            raise model.Drop("ipv4_malformed")
        total = struct.unpack_from("!H", packet, 2)[0]
        if not length <= total <= len(packet):
            raise model.Drop("ipv4_malformed")
        if wire.ones_complement(packet[:length]) != 0xFFFF:
            raise model.Drop("ipv4_checksum")
        return packet[:total]
    if len(packet) < 40 or packet[0] >> 4 != 6:
        raise model.Drop("ipv6_malformed")
    total = 40 + struct.unpack_from("!H", packet, 4)[0]
    if total > len(packet):
        raise model.Drop("ipv6_malformed")
    return packet[:total]


def check_addresses(src, dst):
    """What no router may forward: RFC 1812 sections 4.2.2.11 and 5.3.7, RFC 4291 section 2.5."""
    invalid = model.Drop("ip_address_invalid")
    if len(src) == 4:
        broadcast = b"\xff" * 4
        if dst[0] >> 4 == 14 or dst == broadcast:
            raise model.Drop("ip_multicast_unrouted")
        # Class E is left in peace.
        if src[0] in (0, 127) or src[0] >> 4 == 14 or src == broadcast or dst[0] in (0, 127):
            raise invalid
    else:
        nobody = (bytes(16), bytes(15) + b"\x01")
        if dst[0] == 0xFF:
            raise model.Drop("ip_multicast_unrouted")
        if src in nobody or src[0] == 0xFF or dst in nobody:
            raise invalid


def is_link_local(address):
    if len(address) == 4:
        return address[:2] == b"\xa9\xfe"  # RFC 3927 section 2.7
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80  # RFC 4291 section 2.5.6


def forward(switch, came_from, frame, version, may_wait=True):
    """Routes the packet in a frame. It came from a location of the segment, ("port", …) or
    ("tunnel", …), out of a tunnel that was for the router, ("L3", name), or natively routed from
    the underlay, ("native",)."""
    packet = validated(frame[14:], version)
    src, dst = wire.addresses(packet)
    check_addresses(src, dst)

    def refuse(reason, *report):
        icmp_error.send(switch, came_from, frame[6:12], packet, *report)
        raise model.Drop(reason)

    hop = switch.next_hop(packet)
    if hop is None:
        refuse("no_route", "network unreachable")
    if hop[0] == "connected":
        try:
            hop = resolve.next_hop(switch, dst)
        except resolve.Wait as wait:
            if not may_wait:
                raise model.Drop("neighbor_unresolved") from None
            return resolve.hold(switch, wait.address, came_from, frame[:14] + packet)
        except model.Drop as drop:
            refuse(drop.reason, "host unreachable")
    if hop[0] == "router":
        return deliver(switch, came_from, frame, packet)
    if is_link_local(src) or is_link_local(dst):
        raise model.Drop("ip_address_invalid")
    if hop[0] == "host":
        mtu = switch.ports[switch.host[0]][1] if switch.host else 0
        return to_host(switch, came_from, frame, mss.clamped(switch, came_from, packet, mtu))
    if hop[0] == "blackhole":
        raise model.Drop("route_blackhole")
    if hop[0] == "unreachable":
        refuse("route_unreachable", "host unreachable")
    if hop[0] == "prohibited":
        refuse("route_prohibited", "prohibited")
    if hop[0] == "tunnel" and came_from == ("L3", hop[1]):
        raise model.Drop("nested_tunnel")
    if came_from == ("native",) and hop[0] not in ("local", "behind"):
        raise model.Drop("not_for_us")  # the node is no transit router of its underlay
    if packet[8 if version == 4 else 7] <= 1:
        refuse("ttl_exceeded", "time exceeded")
    limit = underlay.limit_of(switch, hop, packet)
    if limit and limit[0] == 0:
        refuse("encapsulation_limit", "parameter problem", limit[1])
    mtu = mtu_towards(switch, hop)
    if limit and switch.tunnels[hop[1]].limit is None:
        mtu = max(0, mtu - 8)
    if len(packet) <= mtu:
        return send(switch, hop, counted_down(mss.clamped(switch, came_from, packet, mtu)))
    too_large(switch, came_from, frame, packet, mtu)


def too_large(switch, came_from, frame, packet, mtu):
    """What its next hop does not take whole is cut up, if it may be; each piece is routed."""
    if came_from == ("router",):
        raise model.Drop("mtu_exceeded")
    if packet[0] >> 4 == 6 or packet[6] & 0x40:
        icmp_error.send(switch, came_from, frame[6:12], packet, "too big", mtu)
        raise model.Drop("mtu_exceeded")
    for piece in fragment.pieces(packet, mtu):
        try:
            forward(switch, came_from, frame[:14] + piece, 4)
        except model.Drop as drop:
            switch.count(drop.reason)


def mtu_towards(switch, hop):
    """The largest packet that a next hop takes."""
    if hop[0] in ("tunnel", "behind"):
        tunnel = switch.tunnels[hop[1]]
        if tunnel.next_hop is None or tunnel.local is None:
            raise model.Drop("neighbor_unresolved")
        return switch.tunnel_mtu(tunnel)
    port = hop[1] if hop[0] == "local" else switch.facts["uplink"]["id"]
    if port not in switch.ports:
        raise model.Drop("port_down")
    return switch.ports[port][1]


def originate(switch, packet, may_wait=True):
    """A packet of the router's own finds its way by the routes, and waits for a next hop that has to
    be asked for. Nobody is told when it is lost."""
    check_addresses(*wire.addresses(packet))
    dst = wire.addresses(packet)[1]
    hop = switch.next_hop(packet)
    if hop == ("connected",):
        try:
            hop = resolve.next_hop(switch, dst)
        except resolve.Wait as wait:
            if not may_wait:
                raise model.Drop("neighbor_unresolved") from None
            return resolve.hold(switch, wait.address, ("router",), bytes(14) + packet)
    if hop is not None and hop[0] in ("host", "router"):
        return to_host(switch, ("router",), bytes(14), packet)
    if hop is None or hop[0] in ("blackhole", "unreachable", "prohibited"):
        raise model.Drop("no_route")
    if len(packet) > mtu_towards(switch, hop):
        raise model.Drop("mtu_exceeded")
    send(switch, hop, packet)


def send(switch, hop, packet):
    """A packet that fits leaves for a next hop."""
    ethertype = wire.IPV4 if packet[0] >> 4 == 4 else wire.IPV6
    if hop[0] == "local":
        _, port, address = hop
        switch.sent.append(model.Sent(port, wire.ethernet(address, switch.router_mac, ethertype, packet)))
    elif hop[0] == "behind":
        frame = wire.ethernet(hop[2], switch.router_mac, ethertype, packet)
        underlay.send_frame(switch, switch.tunnels[hop[1]], frame)
    elif hop[0] == "tunnel":
        underlay.send_packet(switch, switch.tunnels[hop[1]], packet)
    elif hop[1] is None:
        raise model.Drop("neighbor_unresolved")
    else:
        uplink = switch.facts["uplink"]
        frame = wire.ethernet(hop[1], wire.mac(uplink["mac"]), ethertype, packet)
        switch.sent.append(model.Sent(uplink["id"], frame))


def counted_down(packet):
    """RFC 1812 section 5.3.1, RFC 8200 section 3."""
    at = 8 if packet[0] >> 4 == 4 else 7
    packet = packet[:at] + bytes([packet[at] - 1]) + packet[at + 1:]
    return wire.fix_ipv4(packet) if at == 8 else packet


def to_host(switch, came_from, frame, packet):
    """The node's kernel routes it on, and counts the hop itself."""
    if switch.host is None:
        raise model.Drop("host_port_missing")
    port, address = switch.host
    if came_from == ("port", port):
        icmp_error.send(switch, came_from, frame[6:12], packet, "network unreachable")
        raise model.Drop("route_loop")
    mtu = switch.ports[port][1]
    if len(packet) > mtu:
        return too_large(switch, came_from, frame, packet, mtu)
    ethertype = wire.IPV4 if packet[0] >> 4 == 4 else wire.IPV6
    switch.sent.append(model.Sent(port, wire.ethernet(address, switch.router_mac, ethertype, packet)))


def deliver(switch, came_from, frame, packet):
    """For a gateway address: a solicitation or an echo request is answered, all else is the
    node's."""
    in_segment = came_from[0] in ("port", "tunnel")
    owner_of = lambda ip: gateway(switch, ip)
    if in_segment and solicitation(switch, came_from, frame, owner_of):
        return
    advert = advertisement(packet, owner_of)
    answer = advert[0] if advert else echo_reply(packet)
    if answer is None:
        if packet[0] >> 4 == 6 and in_segment and resolve.hear_advertisement(switch, frame, packet):
            raise model.Drop("consumed")
        to_host(switch, came_from, frame, packet)
    elif in_segment:
        # Back where it came from: no route is needed to talk to a neighbour.
        ethertype = wire.IPV4 if packet[0] >> 4 == 4 else wire.IPV6
        switch.send_to(came_from, wire.ethernet(frame[6:12], switch.router_mac, ethertype, answer))
    else:
        originate(switch, answer)


def echo_reply(packet):
    """The reply to an echo request (RFC 792, RFC 1122 section 3.2.2.6; RFC 4443 section 4.2); none if
    the packet is no whole echo request."""
    if packet[0] >> 4 == 4:
        length = (packet[0] & 15) * 4
        message = packet[length:]
        is_fragment = struct.unpack_from("!H", packet, 6)[0] & 0x3FFF
        if packet[9] != wire.ICMP or is_fragment:
            return None
        if len(message) < 8:
            raise model.Drop("icmp_malformed")
        if message[0] != 8 or message[1] != 0:
            return None
        if wire.ones_complement(message) != 0xFFFF:
            raise model.Drop("icmp_malformed")
        reply = wire.icmp(0, 0, message[4:8], message[8:])
        if reply[2:4] == b"\0\0":
            reply = reply[:2] + b"\xff\xff" + reply[4:]  # the other zero: the same to a receiver
        head = packet[:8] + bytes([ECHO_TTL]) + packet[9:12] + packet[16:20] + packet[12:16]
        return wire.fix_ipv4(head + packet[20:length] + reply)
    src, dst, message = packet[8:24], packet[24:40], packet[40:]
    if packet[6] != wire.ICMPV6:
        return None
    if len(message) < 8:
        raise model.Drop("icmp_malformed")
    if message[0] != 128 or message[1] != 0:
        return None
    if not icmpv6_sum_is_right(src, dst, message):
        raise model.Drop("icmp_malformed")
    reply = wire.icmpv6(dst, src, 129, 0, message[4:])
    return packet[:7] + bytes([ECHO_TTL]) + dst + src + reply
