"""A slow and plain model of what podswitch does to a frame, written from the RFCs, docs/design.md and
the meaning of the configuration, not from the engine.

A switch is configured with a state (the JSON of `config.apply`) and the facts of the world around it,
and then given one frame after the other. Each ends as a list of frames sent and of drops by name.
"""

import ipaddress
import struct

import icmp_error
import relay
import resolve
import router
import underlay
import wire


class Drop(Exception):
    """The frame is dropped under this name."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


class Sent:
    """A frame that leaves through a port. Where its UDP source port comes from a flow's hash, `flow`
    says of which flow: which port that is, is the engine's choice (RFC 7348 section 5), but all
    packets of the flow must get the same."""

    def __init__(self, port, frame, flow=None):
        self.port, self.frame, self.flow = port, frame, flow


class Tunnel:
    """A `[[tunnel]]` in a world."""

    def __init__(self, config, facts):
        uplink = facts["uplink"]
        self.name, self.kind = config["name"], config["kind"]
        self.remote = wire.ip(config["remote"])
        same_family = [a for a in map(wire.ip, uplink["addresses"]) if len(a) == len(self.remote)]
        local = config.get("local")
        self.local = wire.ip(local) if local else (same_family or [None])[0]
        self.ttl = config.get("ttl", 64)
        self.vni, self.port = config.get("vni"), config.get("port", 4789)
        self.segment = config.get("segment")
        given = config.get("local_mac"), config.get("remote_mac")
        own = self.local and wire.derived_mac(self.local)
        self.local_mac = wire.mac(given[0]) if given[0] else own
        self.remote_mac = wire.mac(given[1]) if given[1] else wire.derived_mac(self.remote)
        hop = facts["next_hops"].get(config["remote"], {})
        self.src_mac = wire.mac(uplink["mac"])
        self.next_hop = wire.mac(hop["mac"]) if hop.get("mac") else None
        carries = min(uplink["mtu"], hop.get("mtu") or uplink["mtu"])
        header = 20 if len(self.remote) == 4 else 40
        if self.kind == "vxlan":
            header += 8 + 8 + 14
        self.overhead, self.mtu = header, max(0, carries - header)


class Segment:
    """A bridge domain: members in the order of flooding, and MAC addresses whose place is fixed."""

    def __init__(self, name, ageing, routed):
        self.name, self.ageing, self.routed = name, ageing, routed
        self.members, self.static = [], {}


class Model:
    """The switch. A location is ("port", id) or ("tunnel", name)."""

    def __init__(self):
        self.learned = {}
        self.paths = {}  # peer: (MTU, when it was learned)
        self.limiter = icmp_error.Limiter()
        self.neighbors = resolve.Neighbors()
        self.now = self.millis = 0
        self.configure({}, {"ports": {}, "host": None, "uplink": None, "next_hops": {}})

    # Configuration -----------------------------------------------------------------------------

    def configure(self, state, facts):
        """A new state in a new world. What was learned stays."""
        self.ports = {}  # id: (segment name or None for the uplink, MTU)
        self.facts = facts
        node = state.get("node")
        self.routes_pods = bool(node and node.get("pod_cidrs"))
        routed = node.get("segment", "default") if self.routes_pods else None
        default_ageing = state.get("switch", {}).get("ageing", 300)
        self.segments = {"default": Segment("default", default_ageing, routed == "default")}
        for s in state.get("segment", []):
            ageing = s.get("ageing", default_ageing)
            self.segments[s["name"]] = Segment(s["name"], ageing, routed == s["name"])
        self.cidrs = [ipaddress.ip_network(c) for c in node["pod_cidrs"]] if self.routes_pods else []
        gateways = self.cidrs if self.routes_pods and node.get("gateway") else []
        self.gateways = [(c.network_address + 1).packed for c in gateways]
        first = self.cidrs[0].network_address + 1 if self.cidrs else None
        self.router_mac = wire.derived_mac(first.packed) if first else None
        self.host = None
        self._ports(state, facts, routed)
        self.tunnels = {}
        for config in state.get("tunnel", []):
            tunnel = self.tunnels[config["name"]] = Tunnel(config, facts)
            if tunnel.segment:
                self.segments[tunnel.segment].members.append(("tunnel", tunnel.name))
        remotes = {t.remote for t in self.tunnels.values()}
        self.paths = {peer: known for peer, known in self.paths.items() if peer in remotes}
        for entry in state.get("fdb", []):
            where = self._port_location(entry["port"]) if "port" in entry else ("tunnel", entry["tunnel"])
            if where:
                self.segments[entry.get("segment", "default")].static[wire.mac(entry["mac"])] = where
        self.local = set(map(wire.ip, facts["uplink"]["addresses"])) if facts["uplink"] else set()
        self.local |= {wire.ip(t["local"]) for t in state.get("tunnel", []) if t.get("local")}
        self._owners(state)
        self._routes(state)

    def _owners(self, state):
        """The MAC address of a configured neighbour is in the FDB, unless [[fdb]] knows better."""
        for neighbor in state.get("neighbor", []):
            where = self._port_location(neighbor["port"])
            if where:
                static = self.segments[self.ports[where[1]][0]].static
                static.setdefault(wire.mac(neighbor["mac"]), where)

    def _port_location(self, name):
        facts = self.facts["ports"].get(name)
        return ("port", facts["id"]) if facts else None

    def _ports(self, state, facts, routed):
        for config in state.get("port", []):
            port = facts["ports"].get(config["name"])
            if not port:
                continue  # not there yet, or gone
            name = config.get("segment", "default")
            segment, where = self.segments[name], ("port", port["id"])
            self.ports[port["id"]] = (name, port["mtu"])
            segment.members.append(where)
            if "netns" in config:  # a pod's address is known
                segment.static[wire.mac(port["mac"])] = where
        if routed and facts["host"]:
            host = facts["host"]
            self.host = (host["id"], wire.mac(host["mac"]))
            self.ports[host["id"]] = (routed, host["mtu"])
            self.segments[routed].members.append(("port", host["id"]))
            self.segments[routed].static[self.host[1]] = ("port", host["id"])
        if facts["uplink"]:
            self.ports[facts["uplink"]["id"]] = (None, facts["uplink"]["mtu"])

    def _routes(self, state):
        """Prefix: what it leads to. A later entry replaces an earlier one of the same prefix."""
        self.routes, self.resolving = {}, None
        if not self.routes_pods:
            return
        if self.host:
            self.routes[ipaddress.ip_network("0.0.0.0/0")] = ("host",)
            self.routes[ipaddress.ip_network("::/0")] = ("host",)
        # What is no pod's may be a host's, where there is more than pods in the node's segment.
        name = state["node"].get("segment", "default")
        bridged = any("dev" in p and p.get("segment", "default") == name for p in state.get("port", []))
        spans = any(t.get("segment") == name for t in state.get("tunnel", []))
        self.resolving = name if bridged or spans else None
        for cidr in self.cidrs:
            self.routes[cidr] = ("connected",) if self.resolving else ("unreachable",)
        for route in state.get("route", []):
            via = route["via"]
            hop = (via,) if via in ("host", "blackhole", "unreachable") else self._via(via)
            self.routes[ipaddress.ip_network(route["prefix"])] = hop
        for neighbor in state.get("neighbor", []):
            where = self._port_location(neighbor["port"])
            if where and self._is_routed(where):
                self._host_route(wire.ip(neighbor["ip"]), ("local", where[1], wire.mac(neighbor["mac"])))
        for config in state.get("port", []):
            port = self.facts["ports"].get(config["name"])
            if not port or not self._is_routed(("port", port["id"])):
                continue
            for address in config.get("ip", []):
                hop = ("local", port["id"], wire.mac(port["mac"]))
                self._host_route(wire.ip(address.split("/")[0]), hop)
        for gateway in self.gateways:
            self._host_route(gateway, ("router",))

    def _is_routed(self, where):
        """Whether what is behind a port can be routed to: it is in the node's segment."""
        return self.segments[self.ports[where[1]][0]].routed

    def _host_route(self, address, hop):
        self.routes[ipaddress.ip_network(address)] = hop

    def _via(self, via):
        if via in self.tunnels:
            return ("tunnel", via)
        hop = self.facts["next_hops"].get(str(ipaddress.ip_address(via)), {})
        return ("direct", wire.mac(hop["mac"]) if hop.get("mac") else None)

    def tunnel_mtu(self, tunnel):
        """The largest IP packet that reaches the peer, as far as is known."""
        known, at = self.paths.get(tunnel.remote, (0, 0))
        if tunnel.remote not in self.paths or self.now - at >= relay.FORGET_AFTER:
            return tunnel.mtu
        return min(tunnel.mtu, max(0, known - tunnel.overhead))

    def route(self, address):
        """Longest-prefix match: of the prefixes that hold the address, the longest."""
        found = ipaddress.ip_address(address)
        holds = [p for p in self.routes if p.version == found.version and found in p]
        return self.routes[max(holds, key=lambda p: p.prefixlen)] if holds else None

    # The way of a frame ------------------------------------------------------------------------

    def receive(self, port, time, frame):
        """What becomes of a frame received by a port at a time in milliseconds: the frames sent,
        and the reasons of drops."""
        self.now, self.millis = time // 1000, time
        self.sent, self.dropped, self.ingress = [], [], port
        if port not in self.ports:
            self.count("port_unknown")
            return self.sent, self.dropped
        try:
            segment, _ = self.ports[port]
            if segment is None:
                underlay.receive(self, frame)
            else:
                self.bridge(self.segments[segment], ("port", port), frame)
        except Drop as drop:
            self.count(drop.reason)
        resolve.tick(self)
        return self.sent, self.dropped

    def count(self, reason, port=None):
        """A drop, of a frame that came in by a port: the one at hand unless told."""
        self.dropped.append((self.ingress if port is None else port, reason))

    def bridge(self, segment, came_from, frame):
        """IEEE 802.1Q: a learning bridge, with a router in one of its segments."""
        if len(frame) < 14:
            raise Drop("eth_truncated")
        dst, src = frame[:6], frame[6:12]
        if src[0] & 1 or src == bytes(6):
            raise Drop("eth_source_invalid")  # clause 3.2.3 of IEEE 802.3
        # Learning comes before filtering (clauses 8.6.1 and 8.6.3).
        if src not in segment.static:
            self.learned[segment.name, src] = (came_from, self.now + segment.ageing)
        if segment.routed and router.takes(self, came_from, frame):
            return
        if dst[:5] == bytes.fromhex("0180c20000") and dst[5] < 16:
            raise Drop("eth_reserved")  # table 8-1
        if dst[0] & 1:
            return self.flood(segment, came_from, frame)
        to = self.find(segment, dst)
        if to is None:
            return self.flood(segment, came_from, frame)
        if to == came_from:
            raise Drop("hairpin")
        if to[0] == came_from[0] == "tunnel":
            raise Drop("split_horizon")
        self.send_to(to, frame)

    def find(self, segment, address):
        if address in segment.static:
            return segment.static[address]
        where, expires = self.learned.get((segment.name, address), (None, 0))
        return where if self.now < expires else None

    def flood(self, segment, came_from, frame):
        """To every member but the one it came from, and from no tunnel to a tunnel."""
        to = [m for m in segment.members if m != came_from]
        if came_from[0] == "tunnel":
            to = [m for m in to if m[0] != "tunnel"]
        if not to:
            raise Drop("flood_empty")
        for member in to:
            try:
                self.send_to(member, frame)
            except Drop as drop:
                self.count(drop.reason)

    def send_to(self, to, frame):
        """A frame of a segment leaves through a port, or through the tunnel to another node."""
        if to[0] == "port":
            self.send_port(to[1], frame)
        else:
            underlay.send_frame(self, self.tunnels.get(to[1]), frame)

    def send_port(self, port, frame):
        if port not in self.ports:
            raise Drop("port_down")
        # A frame of the MTU may carry a VLAN tag on top.
        if len(frame) > 14 + 4 + self.ports[port][1]:
            raise Drop("mtu_exceeded")
        self.sent.append(Sent(port, frame))


def ip_inside(frame):
    """Where the IP packet of a frame starts, behind up to two VLAN tags, and its version; or none."""
    at = 12
    for _ in range(2):
        if len(frame) >= at + 2 and struct.unpack_from("!H", frame, at)[0] in (wire.VLAN, wire.QINQ):
            at += 4
    ethertype = struct.unpack_from("!H", frame, at)[0] if len(frame) >= at + 2 else 0
    version = {wire.IPV4: 4, wire.IPV6: 6}.get(ethertype)
    is_ip = version and len(frame) > at + 2 and frame[at + 2] >> 4 == version
    return (at + 2, version) if is_ip else None
