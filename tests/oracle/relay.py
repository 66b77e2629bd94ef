"""ICMP errors of the underlay about tunnel packets, in the model: they tell the path's MTU, and go on to
the sender of the packet inside (RFC 2003 section 4, RFC 2473 section 8, RFC 1191, RFC 8201)."""

import struct

import icmp_error
import model
import wire

PLATEAUS = (65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296)  # RFC 1191 section 7
LEAST_V4, LEAST_V6 = 552, 1280  # a lower MTU is not believed, of IPv6 the report not at all
FORGET_AFTER = 600  # seconds, RFC 1191 section 6.3


def receive(switch, src, dst, message):
    """An ICMP message from `src` to our underlay address `dst`."""
    if len(message) < 8:
        raise model.Drop("icmp_malformed")
    head = b"" if len(dst) == 4 else wire.pseudo(src, dst, wire.ICMPV6, len(message))
    if wire.ones_complement(head + message) != 0xFFFF:
        raise model.Drop("icmp_malformed")
    quoted = message[8:]
    report, mtu = fault_v4(message, quoted) if len(dst) == 4 else fault_v6(message, quoted)
    tunnel, inner = tunnel_of(switch, dst, quoted)
    if report == "too big":
        heed(switch, tunnel, max(mtu, LEAST_V4) if len(dst) == 4 else mtu)
        mtu = switch.tunnel_mtu(tunnel)
        if inner and tunnel.kind == "ipip":
            # An encapsulation limit that is there for the sake of the inner packet's.
            mtu = max(0, mtu - max(0, len(quoted) - len(inner) - tunnel.overhead))
    if report and inner and wants_to_know(inner, report):
        icmp_error.send(switch, ("underlay",), None, inner, report, mtu)
    raise model.Drop("underlay_error")


def fault_v4(message, quoted):
    """RFC 2003 section 4: what the inner sender is told, and an MTU."""
    kind, code = message[0], message[1]
    if (kind, code) == (3, 4):
        (mtu,) = struct.unpack_from("!H", message, 6)
        return "too big", mtu or plateau_below(quoted)
    if kind == 3:
        return {0: "network unreachable", 5: None}.get(code, "host unreachable"), 0
    if kind == 11:
        return "host unreachable" if code == 0 else None, 0
    raise model.Drop("not_for_us")


def fault_v6(message, quoted):
    """RFC 2473 section 8. The limit of tunnels in tunnels that we set may be spent."""
    kind, code = message[0], message[1]
    if kind == 2:
        mtu = struct.unpack_from("!I", message, 4)[0]
        return "too big" if mtu >= LEAST_V6 else None, mtu  # RFC 8201 section 4: discarded
    if kind == 1:
        return "host unreachable", 0
    if kind == 3:
        return "host unreachable" if code == 0 else None, 0
    if kind == 4:
        (pointer,) = struct.unpack_from("!I", message, 4)
        spent = code == 0 and wire.encapsulation_limit(quoted) == (0, pointer)
        return "host unreachable" if spent else None, 0
    raise model.Drop("not_for_us")


def plateau_below(quoted):
    length = struct.unpack_from("!H", quoted, 2)[0] if has_header(quoted) else 0
    return next((p for p in PLATEAUS if p < length), LEAST_V4)


def has_header(packet):
    """Whether an IPv4 header is there, and contradicts itself in nothing."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return False
    length = (packet[0] & 15) * 4
    return 20 <= length <= len(packet) and struct.unpack_from("!H", packet, 2)[0] >= length


def heed(switch, tunnel, mtu):
    """The lowest counts until it is out of date."""
    known, at = switch.paths.get(tunnel.remote, (0, 0))
    if tunnel.remote not in switch.paths or switch.now - at >= FORGET_AFTER or mtu <= known:
        switch.paths[tunnel.remote] = (mtu, switch.now)


def tunnel_of(switch, local, quoted):
    """The tunnel that a quoted packet went through, and the inner packet as far as it is quoted."""
    ours = model.Drop("not_for_us")
    if len(local) == 4:
        if not has_header(quoted) or struct.unpack_from("!H", quoted, 6)[0] & 0x1FFF:
            raise ours
        protocol, upper = quoted[9], quoted[(quoted[0] & 15) * 4:]
    else:
        if len(quoted) < 40 or quoted[0] >> 4 != 6:
            raise ours
        behind = wire.upper_layer(quoted[:40 + struct.unpack_from("!H", quoted, 4)[0]])
        if behind is None or behind[2]:
            raise ours
        protocol, upper = behind[:2]
    src, peer = wire.addresses(quoted)
    if src != local:
        raise ours
    if protocol in (wire.IPIP, wire.IPV6_IN_IP):
        found = [t for t in switch.tunnels.values() if t.kind == "ipip" and t.remote == peer]
        inner = upper if upper and upper[0] >> 4 in (4, 6) else None
    elif protocol == wire.UDP and len(upper) >= 8:
        found = [t for t in switch.tunnels.values() if t.kind == "vxlan" and t.remote == peer]
        # Without a VNI any tunnel to the peer will do: they share their path. What has none is not ours.
        if len(upper) >= 16:
            if not upper[8] & 0x08:
                raise ours
            vni = struct.unpack_from("!I", upper, 12)[0] >> 8
            found = [t for t in found if t.vni == vni]
        inner = upper[30:] if upper[28:30] in (b"\x08\x00", b"\x86\xdd") else None
    else:
        raise ours
    if not found:
        raise ours
    return found[0], inner


def wants_to_know(inner, report):
    """Of "too big", who let fragment need not hear: we fragment from now on (RFC 2003 section 5.1)."""
    if report == "too big" and inner[0] >> 4 == 4:
        if not has_header(inner):
            return False
        is_right = wire.ones_complement(inner[:(inner[0] & 15) * 4]) == 0xFFFF
        return is_right and bool(inner[6] & 0x40)
    return inner[0] >> 4 in (4, 6)
