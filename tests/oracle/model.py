"""A slow and plain model of what podswitch does to a frame, written from the RFCs, docs/design.md and
the meaning of the configuration, not from the engine.

A switch is configured with a state (the JSON of `config.apply`) and the facts of the world around it,
and then given one frame after the other. Each ends as a list of frames sent and of drops by name.
"""

import copy
import ipaddress
import struct

import icmp_error
import policy
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
    """A frame that leaves through a port. Of one with `flow` the UDP source port, out of `ports`, and the
    IPv6 flow label come from that flow's hash: which they are is the engine's choice (RFC 7348 section 5,
    RFC 6438), but all packets of the flow must get the same. So is the identification of an outer IPv4
    packet without DF, which must not come again soon (RFC 6864 section 4.3)."""

    def __init__(self, port, frame, flow=None, ports=()):
        self.port, self.frame, self.flow, self.ports = port, frame, flow, ports


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
        self.df, self.dscp = config.get("df", True), config.get("dscp", "inherit")
        first, last = config.get("source_ports", (49152, 65535))  # RFC 7348 section 5
        self.source_ports = range(first, last + 1)
        on_our_subnet = any(ipaddress.ip_address(self.remote) in ipaddress.ip_network(subnet)
                            for subnet in uplink.get("subnets", ()))
        # A peer that the kernel knows no route to may as well be behind a router.
        is_routed = config["remote"] in facts["next_hops"]
        self.goes_natively = config.get("mode") == "cross-subnet" and on_our_subnet and is_routed
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
        # RFC 2473 section 4.1.1: a header of destination options.
        self.limit = config.get("encapsulation_limit")
        if self.limit is not None:
            header += 8
        self.overhead, self.mtu = header, max(0, carries - header)


class Segment:
    """A bridge domain: members in the order of flooding, MAC addresses whose place is fixed, and IP
    addresses whose owner is known, as a MAC address and where that is."""

    def __init__(self, config, ageing, routed):
        self.name, self.routed = config["name"], routed
        self.ageing = config.get("ageing", ageing)
        self.suppress = config.get("suppress", True)
        self.fdb_limit, self.unknown = config.get("fdb_limit"), config.get("unknown_unicast", "flood")
        self.members, self.static, self.owners = [], {}, {}


class Model:
    """The switch. A location is ("port", id) or ("tunnel", name)."""

    def __init__(self):
        self.learned = {}
        self.paths = {}  # peer: (MTU, when it was learned)
        self.limiter = icmp_error.Limiter()
        self.neighbors = resolve.Neighbors()
        self.announced = {}  # length of addresses: when the router defended one
        self.storms, self.not_learned = {}, {}
        self.choose = lambda group, packet: group[0]
        self.now = self.millis = 0
        self.configure({}, {"ports": {}, "host": None, "uplink": None, "next_hops": {}})

    # Configuration -----------------------------------------------------------------------------

    def configure(self, state, facts):
        """A new state in a new world. What was learned stays."""
        self.ports = {}  # id: (segment name or None for the uplink, MTU)
        self.facts = facts
        node = state.get("node")
        self.icmp_errors = (node or {}).get("icmp_errors", 1000)
        self.routes_pods = bool(node and node.get("pod_cidrs"))
        routed = node.get("segment", "default") if self.routes_pods else None
        default_ageing = state.get("switch", {}).get("ageing", 300)
        self.clamps_mss = bool(node and node.get("clamp_mss"))
        self.segments = {}
        for s in [{"name": "default"}] + state.get("segment", []):
            self.segments[s["name"]] = Segment(s, default_ageing, routed == s["name"])
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
        self.vlan = facts["uplink"].get("vlan") if facts["uplink"] else None

    def _owners(self, state):
        """The owners of addresses: pods and configured neighbours, whose MAC address is in the FDB,
        unless [[fdb]] knows better."""
        for config in state.get("port", []):
            port = self.facts["ports"].get(config["name"])
            for address in config.get("ip", []) if port else []:
                owner = wire.mac(port["mac"]), ("port", port["id"])
                self.segments[config.get("segment", "default")].owners[wire.ip(address.split("/")[0])] = owner
        for neighbor in state.get("neighbor", []):
            if "tunnel" in neighbor:
                where, name = ("tunnel", neighbor["tunnel"]), self.tunnels[neighbor["tunnel"]].segment
            else:
                where = self._port_location(neighbor["port"])
                name = where and self.ports[where[1]][0]
            if where:
                mac, segment = wire.mac(neighbor["mac"]), self.segments[name]
                segment.static.setdefault(mac, where)
                segment.owners[wire.ip(neighbor["ip"])] = mac, where

    def _port_location(self, name):
        facts = self.facts["ports"].get(name)
        return ("port", facts["id"]) if facts else None

    def _ports(self, state, facts, routed):
        self.guards, self.port_limits, self.storm_of = {}, {}, {}
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
                if config.get("anti_spoof", True):
                    own = [wire.ip(a.split("/")[0]) for a in config.get("ip", [])]
                    self.guards[port["id"]] = policy.Guard(wire.mac(port["mac"]), own)
            self.port_limits[port["id"]] = config.get("fdb_limit")
            if "storm_limit" in config:
                key = config["name"], config["storm_limit"]
                self.storm_of[port["id"]] = self.storms.setdefault(key, policy.Storm(key[1]))
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
            self.routes[ipaddress.ip_network(route["prefix"])] = self._paths(route["via"])
        for neighbor in state.get("neighbor", []):
            where = self._port_location(neighbor["port"]) if "port" in neighbor else None
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

    def _paths(self, via):
        """One way, or those of several that can be used: ("group", {what names it: way}). If none can
        be, packets are lost under the first one's name."""
        if isinstance(via, str):
            return self._via(via)
        ways = {name: self._via(name) for name in via}
        usable = {name: way for name, way in ways.items() if self._is_usable(way)}
        if len(usable) > 1:
            return ("group", usable)
        return next(iter((usable or ways).values()))

    def _is_usable(self, way):
        if way[0] == "tunnel":
            tunnel = self.tunnels[way[1]]
            return tunnel.next_hop is not None and tunnel.local is not None
        return way[1] is not None

    def _via(self, via):
        if via in ("host", "blackhole", "unreachable", "prohibited"):
            return (via,)
        if via in self.tunnels:
            tunnel = self.tunnels[via]
            return ("direct", tunnel.next_hop) if tunnel.goes_natively else ("tunnel", via)
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

    def next_hop(self, packet):
        """Where the route of a packet leads; of several ways of equal cost, the one that its flow
        takes, which is the engine's choice."""
        hop = self.route(wire.addresses(packet)[1])
        if hop is not None and hop[0] == "group":
            return hop[1][self.choose(sorted(hop[1]), packet)]
        return hop

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
                underlay.receive(self, underlay.untagged(self, frame))
            else:
                self.bridge(self.segments[segment], ("port", port), frame)
        except Drop as drop:
            self.count(drop.reason)
        resolve.tick(self)
        if self.vlan is not None:
            for sent in self.sent:
                if sent.port == self.facts["uplink"]["id"]:
                    sent.frame = wire.vlan(sent.frame, self.vlan)
        return self.sent, self.dropped

    @property
    def has_groups(self):
        return any(hop[0] == "group" for hop in self.routes.values())

    def memory(self):
        """All that frames change, to go back to."""
        of_storms = {key: dict(vars(storm)) for key, storm in self.storms.items()}
        flat = dict(self.learned), dict(self.paths), dict(self.announced), dict(self.not_learned)
        return copy.copy(self.limiter), copy.deepcopy(self.neighbors), of_storms, flat

    def remember(self, memory):
        self.limiter, self.neighbors = copy.copy(memory[0]), copy.deepcopy(memory[1])
        for key, storm in memory[2].items():
            vars(self.storms[key]).update(storm)
        self.learned, self.paths, self.announced, self.not_learned = map(dict, memory[3])

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
        guard = self.guards.get(self.ingress)
        if guard:
            policy.check(self, segment, guard, frame)
        # Learning comes before filtering (clauses 8.6.1 and 8.6.3).
        policy.learn(self, segment, src, came_from)
        if segment.routed and router.takes(self, segment, came_from, frame):
            return
        if dst[:5] == bytes.fromhex("0180c20000") and dst[5] < 16:
            raise Drop("eth_reserved")  # table 8-1
        if dst[0] & 1:
            if policy.answers(self, segment, came_from, frame):
                return None
            storm = self.storm_of.get(self.ingress)
            if storm and not storm.admits(self.millis):
                raise Drop("storm")
            return self.flood(segment, came_from, frame)
        to = self.find(segment, dst)
        if to is None and segment.unknown == "drop":
            raise Drop("unknown_unicast")
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
