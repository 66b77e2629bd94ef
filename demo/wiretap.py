#!/usr/bin/python3
"""Counts what kind of packets pass an interface, until its standard input closes; then prints JSON.

wiretap.py INTERFACE VXLAN-PORT
"""

import json
import select
import socket
import struct
import sys
from collections import Counter

ETH_P_ALL = 3
PROTOCOLS = {4: "ipip", 6: "tcp", 17: "udp", 41: "ip6-in-ip4"}
ECHO = {1: ("ping", (0, 8)), 58: ("ping6", (128, 129))}  # ICMP and ICMPv6: name, types


def kind(frame, vxlan_port):
    """`vxlan`, `ipip`, `ip6-in-ip4`, or what travels unencapsulated: `ping`, `ping6`, `tcp`, `udp`."""
    ethertype = struct.unpack_from("!H", frame, 12)[0] if len(frame) >= 14 else 0
    if ethertype == 0x0800 and len(frame) >= 34:
        protocol, payload = frame[23], 14 + (frame[14] & 15) * 4
    elif ethertype == 0x86DD and len(frame) >= 54:
        protocol, payload = frame[20], 54
    else:
        return "other"
    if protocol == 17 and len(frame) >= payload + 4:
        if struct.unpack_from("!H", frame, payload + 2)[0] == vxlan_port:
            return "vxlan"
    if protocol in ECHO:
        name, types = ECHO[protocol]
        return name if len(frame) > payload and frame[payload] in types else "other"
    return PROTOCOLS.get(protocol, "other")


def main(interface, vxlan_port):
    """Counts until the standard input closes."""
    seen = Counter()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as tap:
        tap.bind((interface, 0))
        print("ready", flush=True)
        while True:
            readable, _, _ = select.select([tap, sys.stdin], [], [])
            if tap in readable:
                seen[kind(tap.recv(256), vxlan_port)] += 1
            elif sys.stdin in readable:
                break
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
