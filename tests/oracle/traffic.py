"""Random frames for a switch: of every kind that it treats specially, most of them valid, some changed
in a few places."""

import struct

import topology
import wire

GROUPS = ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb", "33:33:00:00:00:01", "01:80:c2:00:00:00",
          "01:80:c2:00:00:0e", "01:80:c2:00:00:10", "33:33:ff:00:00:01"]
ODD_V4 = ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.9.9.9", "224.0.0.1", "239.1.1.1", "240.0.0.1",
          "255.255.255.255", "169.254.1.1", "169.254.9.9", "192.0.2.1", "198.51.100.7"]
ODD_V6 = ["::", "::1", "fe80::1", "fe80::9", "ff02::1", "ff0e::1", "febf::1", "fec0::1",
          "2001:db8::1", "::ffff:10.0.0.1"]
OPTIONS = [b"\x01\x01\x01\x00", b"\x07\x07\x04" + bytes(5), b"\x94\x04\x00\x00", b"\x44\x04\x05\x00",
           b"\x83\x07\x04" + bytes([10, 244, 2, 9]) + b"\x00"]
# The maximum segment size at even and odd places, alone and among others, malformed.
TCP_OPTIONS = [b"\x02\x04\x05\xb4", b"\x02\x04\xff\xff", b"\x01\x02\x04\x23\x28\x03\x03\x07", b"",
               b"\x04\x02\x08\x0a" + bytes(8) + b"\x02\x04\x22\xb8", b"\x02\x04\x00\x40",
               b"\x03\x00\x02\x04\xff\xff\x01\x01", b"\x02\x05\xff\xff\x00\x01\x01\x01",
               b"\x00\x02\x04\xff\xff\x01\x01\x01", b"\x02\x09\xff\xff"]


class Traffic:
    """Frames for one switch."""

    def __init__(self, rng, state, facts):
        self.rng, self.state, self.facts = rng, state, facts
        by_name = {p["name"]: p for p in state["port"]}
        self.access = [(f["id"], by_name[n]) for n, f in facts["ports"].items()]
        self.macs = {f["id"]: wire.mac(f["mac"]) for f in facts["ports"].values()}
        if facts["host"]:
            host = {"name": "host", "segment": state["node"].get("segment", "default")}
            self.access.append((facts["host"]["id"], host))
            self.macs[facts["host"]["id"]] = wire.mac(facts["host"]["mac"])
        node = state.get("node", {})
        self.cidrs = node.get("pod_cidrs", [])
        self.gateways = [wire.ip(topology.gateway_of(c)) for c in self.cidrs]
        self.router = wire.derived_mac(self.gateways[0]) if self.gateways else b"\x0a\x58\x0a\xf4\x01\x01"
        self.pods = [wire.ip(a.split("/")[0]) for p in state["port"] for a in p.get("ip", [])]
        self.prefixes = [r["prefix"] for r in state.get("route", [])] + self.cidrs
        self.tunnels = state.get("tunnel", [])
        self.nests = any(t["kind"] == "ipip" and ":" in t["remote"] for t in self.tunnels)
        self.known = list(self.macs.values()) + [wire.mac(e["mac"]) for e in state["fdb"]]
        self.recent = []  # addresses that packets went to
        self.own = {f["id"]: [wire.ip(a.split("/")[0]) for a in by_name[n].get("ip", [])]
                    for n, f in facts["ports"].items()}
        self.speaker = []  # the addresses of whoever sends the frame at hand
        self.hosts = [wire.mac(topology.random_mac(rng)) for _ in range(5)]

    def frame(self):
        """A port and a frame."""
        rng = self.rng
        uplink = self.facts["uplink"]
        if uplink and rng.random() < 0.45:
            port, frame = uplink["id"], self.from_underlay()
        elif self.access:
            port, config = rng.choice(self.access)
            frame = self.from_port(port, config)
        else:
            port, frame = 63, bytes(60)
        if rng.random() < 0.12:
            frame = self.mutated(frame)
        if uplink and port == uplink["id"] and uplink.get("vlan"):
            frame = self.tagged(frame, uplink["vlan"])
        if len(frame) < 60 and rng.random() < 0.5:
            frame = frame.ljust(60, rng.choice([b"\0", b"\xaa"]))
        if rng.random() < 0.002:
            port = 62
        return port, frame

    def tagged(self, frame, vid):
        """With the tag of the uplink's VLAN, mostly, of any priority."""
        rng = self.rng
        roll = rng.random()
        if roll < 0.05 or len(frame) < 12:
            return frame
        if roll < 0.1:
            return wire.vlan(frame, rng.choice([vid ^ 1, 0, 0xFFF]), rng.choice([wire.VLAN, wire.QINQ]))
        return wire.vlan(frame, vid | rng.choice([0, 0, 0x2000, 0xE000, 0x1000]))

    # Pieces --------------------------------------------------------------------------------------

    def payload(self):
        rng = self.rng
        length = rng.choice([0, 1, 8, 20, 20, 20, 64, 64, rng.randrange(200)])
        if rng.random() < (0.15 if self.nests else 0.03):  # about the MTUs there are
            edge = rng.choice([1300, 1400, 1450, 1480, 1500, 1500, 1500, 1500, 3840, 9000])
            length = max(0, edge + rng.randint(-90, 20))
        return bytes([rng.randrange(256)]) * length if length > 200 else rng.randbytes(length)

    def some_mac(self):
        return self.rng.choice(self.known + self.hosts)

    def some_ip(self, v4):
        rng = self.rng
        size = 4 if v4 else 16
        own = [a for a in self.pods if len(a) == size]
        neighbors = [wire.ip(n["ip"]) for n in self.state["neighbor"]]
        near = own + [a for a in neighbors if len(a) == size]
        gateways = [a for a in self.gateways if len(a) == size]
        prefixes = [p for p in self.prefixes if (":" not in p) == v4]
        roll = rng.random()
        if near and roll < 0.4:
            return rng.choice(near)
        if prefixes and roll < 0.75:
            return wire.ip(topology.inside(rng, rng.choice(prefixes)))
        if gateways and roll < 0.85:
            return rng.choice(gateways)
        if roll < 0.95:
            return wire.ip("198.51.100.77") if v4 else wire.ip("2001:db8:7::7")
        return wire.ip(rng.choice(ODD_V4 if v4 else ODD_V6))

    def some_source(self, v4):
        """An address of the sender, or another's."""
        own = [a for a in self.speaker if len(a) == (4 if v4 else 16)]
        return self.rng.choice(own) if own and self.rng.random() < 0.85 else self.some_ip(v4)

    def upper(self, src, dst):
        """A protocol and its packet."""
        rng = self.rng
        data = self.payload()
        v4 = len(src) == 4
        kind = rng.choice(["udp", "udp", "tcp", "echo", "other", "odd icmp"])
        ports = rng.choice([53, 80, 4789, 40000]), rng.choice([53, 80, 4789, 8472, 443])
        if kind == "udp":
            return wire.UDP, wire.udp(src, dst, *ports, data, check=rng.random() < 0.8)
        if kind == "tcp":
            flags = rng.choice([2, 16, 18, 24])
            options = rng.choice(TCP_OPTIONS) if flags & 2 or rng.random() < 0.2 else b""
            return wire.TCP, wire.tcp(src, dst, *ports, data, flags=flags, options=options)
        if kind == "echo":
            return self.echo(src, dst, data)
        if kind == "odd icmp":
            number, code = rng.choice([0, 3, 8, 11, 13, 128, 129, 1, 2, 3, 135, 136]), rng.choice([0, 0, 1])
            if v4:
                return wire.ICMP, wire.icmp(number, code, rng.randbytes(4), data)
            return wire.ICMPV6, wire.icmpv6(src, dst, number, code, rng.randbytes(4) + data)
        return rng.choice([0, 2, 4, 41, 47, 50, 59, 89, 132, 255]), data

    def echo(self, src, dst, data):
        """An echo request, now and then one with a wrong checksum."""
        rest = struct.pack("!HH", self.rng.randrange(65536), self.rng.randrange(9))
        if len(src) == 4:
            protocol, message = wire.ICMP, wire.icmp(8, 0, rest, data)
        else:
            protocol, message = wire.ICMPV6, wire.icmpv6(src, dst, 128, 0, rest + data)
        if self.rng.random() < 0.05:
            message = message[:2] + bytes([message[2] ^ 1]) + message[3:]
        return protocol, message

    def ip_packet(self, v4=None, src=None, dst=None):
        rng = self.rng
        if v4 is None:
            v4 = rng.random() < 0.55
        src = src or self.some_source(v4)
        dst = dst or self.some_ip(v4)
        if self.recent and rng.random() < 0.2:
            dst = rng.choice([a for a in self.recent if len(a) == len(src)] or [dst])
        self.recent = self.recent[-7:] + [dst]
        if rng.random() < 0.06:
            gateways = [g for g in self.gateways if len(g) == len(dst)]
            dst = rng.choice(gateways or [dst])
            protocol, payload = self.echo(src, dst, self.payload())
        else:
            protocol, payload = self.upper(src, dst)
        ttl = rng.choice([64, 64, 64, 255, 128, 2, 1, 0])
        tos = rng.choice([0, 0, 0, 1, 2, 3, 0xB8, 0x2A, 0xFF])
        if v4:
            flags = rng.choice([0, 0x4000, 0x4000, 0x2000, 0x0003, 0x2005, 0x8000, 0x6000]) \
                if rng.random() < 0.3 else rng.choice([0, 0x4000])
            options = rng.choice(OPTIONS) if rng.random() < 0.1 else b""
            return wire.ipv4(src, dst, protocol, payload, ttl, tos, rng.randrange(65536), flags, options)
        if rng.random() < (0.5 if self.nests else 0.02):
            limit = rng.choice([0, 0, 1, 2, 4, 255])
            protocol, payload = wire.DESTINATION, wire.limited(protocol, limit, payload)
        if rng.random() < 0.12:
            protocol, payload = self.extended(protocol, payload)
        return wire.ipv6(src, dst, protocol, payload, ttl, tos, rng.choice([0, 0, 0x12345]))

    def extended(self, protocol, payload):
        """With IPv6 extension headers in front."""
        rng = self.rng
        for _ in range(rng.randint(1, 2)):
            kind = rng.choice([wire.HOP_BY_HOP, wire.DESTINATION, wire.ROUTING, wire.FRAGMENT])
            if kind == wire.FRAGMENT:
                head = struct.pack("!BBHI", protocol, 0, rng.choice([0, 1, 8, 9, 1480]), rng.randrange(99))
            else:
                head = bytes([protocol, 0, 1, 4, 0, 0, 0, 0])
                if rng.random() < 0.3:
                    head = bytes([protocol, 1, 1, 12] + [0] * 12)
            protocol, payload = kind, head + payload
        return protocol, payload

    def arp(self, mac):
        rng = self.rng
        sender, target = self.some_source(True), self.some_ip(True)
        gateways = [g for g in self.gateways if len(g) == 4]
        if gateways and rng.random() < 0.5:
            target = rng.choice(gateways)
        roll = rng.random()
        if roll < 0.1:
            sender = bytes(4)  # a probe (RFC 5227)
        elif roll < 0.2:
            target = sender  # an announcement
        operation = rng.choice([1, 1, 1, 1, 2, 3])
        asked = [a for a in self.recent if len(a) == 4]
        if gateways and asked and rng.random() < 0.3:
            body = wire.arp(2, mac, rng.choice(asked), self.router, rng.choice(gateways))
            return wire.ethernet(self.router, mac, wire.ARP, body)
        sender_mac = mac if rng.random() < 0.9 else self.some_mac()
        body = wire.arp(operation, sender_mac, sender, rng.choice([bytes(6), self.router]), target)
        dst = wire.BROADCAST if rng.random() < 0.75 else rng.choice([self.router, self.some_mac()])
        return wire.ethernet(dst, mac, wire.ARP, body)

    def neighbor_discovery(self, mac):
        rng = self.rng
        target = self.some_ip(False)
        gateways = [g for g in self.gateways if len(g) == 16]
        if gateways and rng.random() < 0.6:
            target = rng.choice(gateways)
        src = rng.choice([self.some_source(False), wire.ip("fe80::5"), bytes(16)])
        if rng.random() < 0.2:
            target = self.some_source(False)
        group = wire.ip("ff02::1:ff00:0")[:13] + target[13:]
        dst, dst_mac = group, b"\x33\x33" + group[12:]
        if rng.random() < 0.25:
            dst, dst_mac = target, self.router
        option = b"\x01\x01" + (mac if rng.random() < 0.9 else self.some_mac())
        if src == bytes(16) and rng.random() < 0.8:
            option = b""
        elif rng.random() < 0.15:
            option = rng.choice([b"", b"\x01\x00" + mac, b"\x05\x01" + bytes(6) + option, b"\x01\x02" + mac])
        asked = [a for a in self.recent if len(a) == 16]
        if gateways and asked and rng.random() < 0.3:
            target, to = rng.choice(asked), rng.choice(gateways)
            option = rng.choice([b"\x02\x01" + mac, b"\x02\x01" + mac, b""])
            flags = rng.choice([b"\x60", b"\x60", b"\x40", b"\x20", b"\0"]) + bytes(3)
            message = wire.icmpv6(target, to, 136, 0, flags + target + option)
            packet = wire.ipv6(target, to, wire.ICMPV6, message, 255 if rng.random() < 0.9 else 64)
            return wire.ethernet(self.router, mac, wire.IPV6, packet)
        kind, code = rng.choice([135, 135, 135, 135, 136, 133, 134, 137, 143]), 0 if rng.random() < 0.95 else 1
        message = wire.icmpv6(src, dst, kind, code, bytes(4) + target + option)
        if rng.random() < 0.05:
            message = message[:2] + b"\0\0" + message[4:]
        limit = 255 if rng.random() < 0.93 else 64
        return wire.ethernet(dst_mac, mac, wire.IPV6, wire.ipv6(src, dst, wire.ICMPV6, message, limit))

    # Frames --------------------------------------------------------------------------------------

    def frame_of(self, mac):
        """A frame of a host in a segment, whose MAC address is `mac`."""
        rng = self.rng
        roll = rng.random()
        if roll < 0.14:
            return self.arp(mac)
        if roll < 0.26:
            return self.neighbor_discovery(mac)
        if roll < 0.66:
            packet = self.ip_packet()
            dst = self.router
        else:
            packet = self.ip_packet()
            dst = rng.choice([self.some_mac(), self.some_mac(), wire.mac(rng.choice(GROUPS)), self.router])
        ethertype = wire.IPV4 if packet[0] >> 4 == 4 else wire.IPV6
        if rng.random() < 0.05:
            ethertype, packet = rng.choice([0x88CC, 0x0500, 0x8035, 0x0026]), self.payload()
        frame = wire.ethernet(dst, mac, ethertype, packet)
        if rng.random() < 0.02:
            frame = self.dhcp(mac)
        if rng.random() < 0.06:
            frame = wire.vlan(frame, rng.choice([100, 0, 0xEFFF]), rng.choice([wire.VLAN, wire.QINQ]))
            while rng.random() < 0.4:
                frame = wire.vlan(frame, 7)
        return frame

    def dhcp(self, mac):
        """Of a client without an address (RFC 2131 section 4.1), or something like it."""
        rng = self.rng
        src, dst = bytes(4), rng.choice([b"\xff" * 4] * 3 + [self.some_ip(True)])
        ports = rng.choice([(68, 67), (68, 67), (67, 68), (68, 53)])
        packet = wire.ipv4(src, dst, wire.UDP, wire.udp(src, dst, *ports, self.payload()))
        return wire.ethernet(wire.BROADCAST, mac, wire.IPV4, packet)

    def from_port(self, port, config):
        rng = self.rng
        mac = self.macs[port]
        if "dev" in config and rng.random() < 0.8:
            mac = rng.choice(self.hosts)
        elif rng.random() < 0.05:
            mac = rng.choice(self.known + self.hosts + [bytes(6), wire.BROADCAST, b"\x03" + bytes(5)])
        self.speaker = self.own.get(port, [])
        frame = self.frame_of(mac)
        self.speaker = []
        return frame

    def from_underlay(self):
        rng = self.rng
        uplink = self.facts["uplink"]
        local = [wire.ip(a) for a in uplink["addresses"]]
        mac = b"\x0e\0\0\0\0\x63"
        if not self.tunnels or rng.random() < 0.25:
            packet = self.ip_packet()
            if rng.random() < 0.1:
                packet = wire.packet(*rng.choice([(local[0], local[0])]), 17, self.payload())
        elif rng.random() < 0.06:
            packet = self.complaint(rng.choice(self.tunnels), local)
        else:
            packet = self.tunnel_packet(rng.choice(self.tunnels), local)
        ethertype = wire.IPV4 if packet[0] >> 4 == 4 else wire.IPV6
        if rng.random() < 0.01:
            ethertype = rng.choice([wire.ARP, wire.IPV4, wire.IPV6, 0x88CC])
        return wire.ethernet(wire.mac(uplink["mac"]), mac, ethertype, packet)

    def tunnel_packet(self, tunnel, local):
        rng = self.rng
        remote = wire.ip(tunnel["remote"])
        ours = [a for a in local if len(a) == len(remote)]
        if tunnel.get("local"):
            ours.append(wire.ip(tunnel["local"]))
        dst = rng.choice(ours) if ours else remote
        src = remote if rng.random() < 0.95 else dst
        if tunnel["kind"] == "ipip":
            inner = self.ip_packet()
            protocol = wire.IPIP if inner[0] >> 4 == 4 else wire.IPV6_IN_IP
            inner = self.cut(inner)
            if rng.random() < 0.03:
                protocol ^= wire.IPIP ^ wire.IPV6_IN_IP
            return self.outer(src, dst, protocol, inner)
        if tunnel.get("segment") and rng.random() < 0.6:
            inner = self.frame_of(rng.choice(self.hosts + self.known))
        else:
            own = wire.derived_mac(dst)
            own = wire.mac(tunnel["local_mac"]) if tunnel.get("local_mac") else own
            inner = self.frame_of(b"\x0a" + bytes(5))
            inner = own + inner[6:] if rng.random() < 0.95 else inner
        inner = self.cut(inner)
        vni = tunnel["vni"] if rng.random() < 0.97 else rng.choice([1, 7, 99])
        flags = 0x08 if rng.random() < 0.9 else rng.choice([0, 0xFF, 0x88, 0x04])
        payload = wire.vxlan(vni, inner, flags, rng.choice([0, 0, 0xFFFFFF]), rng.choice([0, 0, 255]))
        dport = tunnel.get("port", 4789) if rng.random() < 0.97 else rng.choice([4789, 8472, 53])
        check = rng.random() < (0.4 if len(dst) == 4 else 0.9)
        datagram = wire.udp(src, dst, rng.randrange(65536), dport, payload, check)
        if rng.random() < 0.02:
            datagram = datagram[:6] + b"\x12\x34" + datagram[8:]
        return self.outer(src, dst, wire.UDP, datagram)

    def complaint(self, tunnel, local):
        """An ICMP error of the underlay about a packet of ours."""
        rng = self.rng
        there = self.tunnel_packet(tunnel, local)
        v4 = there[0] >> 4 == 4
        src, dst = wire.addresses(there)
        quoted = there[:12] + dst + src + there[20:] if v4 else there[:8] + dst + src + there[40:]
        quoted = quoted[:rng.choice([28, 36, 64, 128, 2000, 2000, 2000, rng.randrange(80)])]
        mtu = rng.choice([0, 68, 552, 1000, 1280, 1300, 1400, 1480, 9000])
        router = wire.ip("203.0.113.254" if v4 else "2001:db8::fe")
        if v4:
            kind, code = rng.choice([(3, 4), (3, 4), (3, 4), (3, 0), (3, 1), (3, 5), (3, 13), (11, 0), (11, 1), (8, 0)])
            message = wire.icmp(kind, code, struct.pack("!HH", 0, mtu), quoted)
            return self.outer(router, dst, wire.ICMP, message)
        kind, code = rng.choice([(2, 0), (2, 0), (2, 0), (1, 0), (1, 3), (3, 0), (3, 1), (4, 0), (4, 0), (4, 1),
                                 (128, 0)])
        rest = rng.choice([44, 44, 52, 6]) if kind == 4 else mtu
        message = wire.icmpv6(router, dst, kind, code, struct.pack("!I", rest) + quoted)
        return self.outer(router, dst, wire.ICMPV6, message)

    def cut(self, inner):
        """Now and then a truncated inner packet in whole outer ones."""
        return inner[:self.rng.randrange(len(inner) + 1)] if self.rng.random() < 0.04 else inner

    def outer(self, src, dst, protocol, payload):
        rng = self.rng
        tos = rng.choice([0, 0, 1, 2, 3, 3, 0xB8])
        ttl = rng.choice([64, 64, 1, 255])
        if len(src) == 4:
            flags = rng.choice([0, 0x4000]) if rng.random() < 0.97 else rng.choice([0x2000, 0x00B9])
            options = rng.choice(OPTIONS) if rng.random() < 0.03 else b""
            return wire.ipv4(src, dst, protocol, payload, ttl, tos, rng.randrange(65536), flags, options)
        if protocol in (wire.IPIP, wire.IPV6_IN_IP) and rng.random() < 0.3:
            protocol, payload = wire.DESTINATION, wire.limited(protocol, rng.choice([0, 0, 1, 4]), payload)
        if rng.random() < 0.05:
            protocol, payload = self.extended(protocol, payload)
        return wire.ipv6(src, dst, protocol, payload, ttl, tos, rng.choice([0, 0xABCDE]))

    # Damage --------------------------------------------------------------------------------------

    def mutated(self, frame):
        rng = self.rng
        frame = bytearray(frame)
        for _ in range(rng.choice([1, 1, 2])):
            kind = rng.random()
            if kind < 0.25:
                frame = frame[:rng.randrange(len(frame) + 1)]
            elif kind < 0.35:
                frame += rng.randbytes(rng.randrange(1, 30))
            elif frame:
                # Headers are where it matters: their octets, and often those that hold lengths.
                at = rng.choice([rng.randrange(min(len(frame), 100)), rng.randrange(12, 22)])
                if at < len(frame):
                    frame[at] = rng.choice([0, 255, frame[at] ^ 1 << rng.randrange(8), rng.randrange(256)])
            if not frame:
                break
        frame = bytes(frame)
        # Behind a right checksum the other checks are reached, too.
        if rng.random() < 0.6 and len(frame) >= 34 and frame[12:14] == b"\x08\x00":
            if (frame[14] & 15) * 4 <= len(frame) - 14 and frame[14] & 15 >= 5:
                frame = frame[:14] + wire.fix_ipv4(frame[14:])
        return frame
