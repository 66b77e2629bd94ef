"""Random switches: a desired state as `config.apply` takes it, and the facts of a world around it."""

import ipaddress

import wire

CIDRS = [
    ["10.244.1.0/24"],
    ["10.244.1.0/24", "fd00:10:244:1::/64"],
    ["fd00:10:244:1::/64", "10.244.1.0/24"],
    ["fd00:10:244:1::/64"],
    ["10.244.1.0/24", "10.250.0.0/16", "fd00:10:244:1::/64"],
]
UNDERLAY = [["192.0.2.1"], ["192.0.2.1", "2001:db8::1"], ["2001:db8::1"]]
SEGMENTS = ["default", "blue", "red"]
# Wholes and parts of each other, so that longest match matters.
PREFIXES = [
    "0.0.0.0/0", "10.0.0.0/8", "10.244.0.0/16", "10.244.2.0/24", "10.244.2.128/25", "10.244.2.130/32",
    "10.244.3.0/24", "10.244.3.0/26", "10.244.4.0/22", "10.244.1.64/26", "10.244.1.200/32",
    "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "169.254.0.0/16",
    "::/0", "fd00::/8", "fd00:10:244::/48", "fd00:10:244:2::/64", "fd00:10:244:2::/96",
    "fd00:10:244:2::5/128", "fd00:10:244:3::/64", "fd00:10:244:1:8000::/65", "2001:db8:ffff::/48",
]


def random_mac(rng, kind=0x02):
    return wire.mac_text(bytes([kind, 0, 0, rng.randrange(4), rng.randrange(256), rng.randrange(256)]))


def inside(rng, prefix):
    """An address of a prefix, of its low ones so that they meet, but neither its first two nor its
    last."""
    network = ipaddress.ip_network(prefix)
    span = min(network.num_addresses, 200)
    if span <= 4:
        return str(network.network_address + rng.randrange(span))
    return str(network.network_address + rng.randrange(2, span - 1))


def topology(rng):
    """A state and its facts."""
    state, facts = {}, {"ports": {}, "host": None, "uplink": None, "next_hops": {}}
    segments = SEGMENTS[:rng.randint(1, 3)]
    state["segment"] = [{"name": s} for s in segments[1:]]
    for s in state["segment"]:
        if rng.random() < 0.5:
            s["ageing"] = rng.choice([1, 5, 60, 1000])
    if rng.random() < 0.4:
        state["segment"].append({"name": "default", "ageing": rng.choice([2, 30, 300])})
    if all(s["name"] != "default" for s in state["segment"]):
        state["segment"].append({"name": "default"})
    limits = rng.random() < 0.15
    for s in state["segment"]:
        add_segment_policy(rng, s, limits)
    ids = iter(rng.sample(range(40), 20))
    is_node = rng.random() < 0.85
    if is_node:
        cidrs = rng.choice(CIDRS)
        state["node"] = {"name": "node1", "pod_cidrs": cidrs, "gateway": rng.random() < 0.9}
        if rng.random() < 0.1:
            state["node"]["icmp_errors"] = rng.choice([0, 1, 3, 50, 5000])
        if rng.random() < 0.15:
            state["node"]["segment"] = rng.choice(segments)
        if state["node"]["gateway"] and rng.random() < 0.95:
            mac = random_mac(rng, 0x06)
            facts["host"] = {"id": next(ids), "mtu": rng.choice([65535, 65535, 1500]), "mac": mac}
        if rng.random() < 0.25:
            state["node"]["clamp_mss"] = True
    add_ports(rng, state, facts, segments, ids, limits)
    if rng.random() < 0.9:
        mtu = rng.choice([1500, 1500, 1500, 9000, 1400, 65535])
        facts["uplink"] = {"id": next(ids), "mtu": mtu, "mac": random_mac(rng, 0x0E),
                           "addresses": rng.choice(UNDERLAY)}
        state["uplink"] = {"dev": "uplink0"}
        facts["uplink"]["subnets"] = rng.choice([[], ["192.0.2.0/30", "2001:db8::/64"], ["192.0.2.0/24"]])
        if rng.random() < 0.2:
            state["uplink"]["vlan"] = facts["uplink"]["vlan"] = rng.choice([1, 100, 4094])
        add_tunnels(rng, state, facts, segments)
    if is_node:
        add_routes(rng, state, facts)
    add_static(rng, state)
    return state, facts


def add_segment_policy(rng, segment, limits):
    """What a segment floods and learns. Where limits are, nothing ages: what is counted of the aged is
    the engine's choice."""
    if rng.random() < 0.4:
        segment["suppress"] = False
    if rng.random() < 0.2:
        segment["unknown_unicast"] = "drop"
    if limits:
        segment["ageing"] = 1_000_000
        if rng.random() < 0.6:
            segment["fdb_limit"] = rng.choice([1, 2, 4, 7])


def add_ports(rng, state, facts, segments, ids, limits):
    state["port"] = []
    cidrs = state.get("node", {}).get("pod_cidrs", ["10.244.1.0/24"])
    used = {gateway_of(c) for c in cidrs}
    for n in range(rng.randint(2, 8)):
        port = {"name": f"p{n}", "segment": rng.choice(segments)}
        mac = random_mac(rng)
        if rng.random() < 0.55:
            if rng.random() < 0.8:
                port["segment"] = state.get("node", {}).get("segment", "default")
            port.update(netns=f"/run/netns/p{n}", ifname="eth0")
            addresses = [inside(rng, c) for c in cidrs for _ in range(rng.choice([0, 1, 1, 1, 2]))]
            addresses = [a for a in dict.fromkeys(addresses) if a not in used]
            used.update(addresses)
            port["ip"] = [f"{a}/{24 if '.' in a else 64}" for a in addresses]
            if rng.random() < 0.5:
                port["anti_spoof"] = False
        else:
            port["dev"] = f"eth{n}"
        if rng.random() < 0.15:
            port["storm_limit"] = rng.choice([1, 10, 200, 1000, 100_000])
        if limits and rng.random() < 0.5:
            port["fdb_limit"] = rng.choice([1, 2, 3])
        state["port"].append(port)
        if rng.random() < 0.95:
            mtu = rng.choice([1500, 1500, 65535, 1400, 9000])
            facts["ports"][port["name"]] = {"id": next(ids), "mtu": mtu, "mac": mac}


def gateway_of(cidr):
    return str(ipaddress.ip_network(cidr).network_address + 1)


def add_tunnels(rng, state, facts, segments):
    state["tunnel"] = []
    taken = set()
    nests = rng.random() < 0.15  # all IP in IPv6, whose packets may be tunnel packets themselves
    for n in range(rng.randint(0, 4)):
        v4 = not nests and rng.random() < 0.6
        remote = f"192.0.2.{rng.randint(2, 5)}" if v4 else f"2001:db8::{rng.randint(2, 5)}"
        kind = "ipip" if nests else rng.choice(["vxlan", "vxlan", "ipip"])
        tunnel = {"name": f"t{n}", "kind": kind, "remote": remote}
        if rng.random() < 0.3:
            tunnel["ttl"] = rng.choice([1, 32, 255])
        if rng.random() < 0.15:
            tunnel["local"] = "192.0.2.200" if "." in remote else "2001:db8::200"
        if tunnel["kind"] == "vxlan":
            tunnel["vni"] = rng.choice([1, 1, 7, 0, 0xFFFFFF])
            if rng.random() < 0.3:
                tunnel["port"] = rng.choice([8472, 4790])
            if rng.random() < 0.5:
                tunnel["segment"] = rng.choice(segments + ["default"] * 3)
            if rng.random() < 0.2:
                tunnel["local_mac"], tunnel["remote_mac"] = random_mac(rng, 0x0A), random_mac(rng, 0x0A)
        add_outer(rng, tunnel)
        key = (tunnel["kind"], tunnel.get("vni"), remote)
        if key in taken:
            continue
        taken.add(key)
        state["tunnel"].append(tunnel)
        add_next_hop(rng, facts, remote)


def add_outer(rng, tunnel):
    """The choices that an outer header leaves."""
    if rng.random() < 0.2:
        tunnel["df"] = False
    if rng.random() < 0.2:
        tunnel["dscp"] = rng.choice([0, 8, 46, 63])
    if tunnel["kind"] == "vxlan" and rng.random() < 0.2:
        tunnel["source_ports"] = rng.choice([[1, 65535], [5000, 5007], [443, 443]])
    if tunnel["kind"] == "ipip" and ":" in tunnel["remote"] and rng.random() < 0.4:
        tunnel["encapsulation_limit"] = rng.choice([0, 1, 4, 255])
    if "segment" not in tunnel and rng.random() < 0.3:
        tunnel["mode"] = "cross-subnet"


def add_next_hop(rng, facts, address):
    if rng.random() < 0.95 and address not in facts["next_hops"]:
        mac = random_mac(rng, 0x0E) if rng.random() < 0.9 else None
        mtu = rng.choice([None, None, None, 1300, 20000])
        facts["next_hops"][address] = {"mac": mac, "mtu": mtu}


def add_routes(rng, state, facts):
    state["route"] = []
    own = set(state["node"]["pod_cidrs"])
    pods = {a.split("/")[0] for p in state["port"] for a in p.get("ip", [])}
    tunnels = [t["name"] for t in state.get("tunnel", [])]
    for prefix in rng.sample(PREFIXES, rng.randint(0, len(PREFIXES))):
        if prefix in own or prefix.split("/")[0] in pods:
            continue
        choices = tunnels * 2 + ["blackhole", "unreachable", "prohibited"]
        if state["node"]["gateway"]:
            choices.append("host")
        if facts["uplink"]:
            v4 = f"192.0.2.{rng.randint(2, 9)}"
            via = v4 if "." in prefix else f"2001:db8::{rng.randint(2, 9)}"
            choices += [via, via]
            add_next_hop(rng, facts, via)
        route = {"prefix": prefix, "via": rng.choice(choices)}
        if facts["uplink"] and rng.random() < 0.25:
            ways = sorted(set(tunnels))
            ways += [v4.rsplit(".", 1)[0] + f".{n}" if "." in prefix else f"2001:db8::{n}" for n in range(2, 6)]
            route["via"] = rng.sample(ways, min(len(ways), rng.choice([2, 2, 3, 5])))
            for way in route["via"]:
                if way not in tunnels:
                    add_next_hop(rng, facts, way)
        state["route"].append(route)


def add_static(rng, state):
    names = [p["name"] for p in state["port"]]
    state["neighbor"], state["fdb"] = [], []
    for cidr in state.get("node", {}).get("pod_cidrs", []) + ["203.0.113.0/24"]:
        if rng.random() < 0.3:
            neighbor = {"ip": inside(rng, cidr), "mac": random_mac(rng, 0x12), "port": rng.choice(names)}
            layer2 = [t["name"] for t in state.get("tunnel", []) if t.get("segment")]
            if layer2 and rng.random() < 0.3:
                neighbor.pop("port")
                neighbor["tunnel"] = rng.choice(layer2)
            state["neighbor"].append(neighbor)
    macs = set()
    for _ in range(rng.choice([0, 0, 1, 3])):
        port = rng.choice(state["port"])
        mac = wire.mac_text(bytes([0x16, 0, 0, 0, 0, rng.randrange(8)]))
        entry = {"mac": mac, "segment": port["segment"], "port": port["name"]}
        layer2 = [t for t in state.get("tunnel", []) if t.get("segment")]
        if layer2 and rng.random() < 0.5:
            tunnel = rng.choice(layer2)
            entry = {"mac": mac, "segment": tunnel["segment"], "tunnel": tunnel["name"]}
        if mac not in macs:
            macs.add(mac)
            state["fdb"].append(entry)


def changed(rng, state, facts):
    """The same switch a moment later: an object or a fact is gone."""
    state = {k: list(v) if isinstance(v, list) else v for k, v in state.items()}
    facts = {k: dict(v) if isinstance(v, dict) else v for k, v in facts.items()}
    kind = rng.choice(["route", "port fact", "next hop", "fdb", "neighbor", "host"])
    if kind in ("route", "fdb", "neighbor") and state.get(kind):
        state[kind].pop(rng.randrange(len(state[kind])))
    elif kind == "port fact" and facts["ports"]:
        facts["ports"].pop(rng.choice(sorted(facts["ports"])))
    elif kind == "next hop" and facts["next_hops"]:
        hop = rng.choice(sorted(facts["next_hops"]))
        mac = facts["next_hops"][hop]["mac"]
        facts["next_hops"][hop] = {"mac": None if mac else random_mac(rng, 0x0E), "mtu": None}
    elif kind == "host":
        facts["host"] = None
    return state, facts
