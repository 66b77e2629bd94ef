#!/usr/bin/python3
"""ipip_peer.py LOCAL REMOTE [LIMIT]: an IPIP tunnel of raw sockets and a TUN device, tun0. Over IPv6 its packets
may have a tunnel encapsulation limit (RFC 2473 section 4.1.1), in the form that Linux's ip6tnl gives it.

The kernel adds and checks the outer headers (RFC 2003, RFC 4213, RFC 2473): nothing here is of ours.
"""

import fcntl
import os
import select
import socket
import struct
import sys

IPPROTO_IPIP, IPPROTO_IPV6 = 4, 41
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000

local, remote, *limit = sys.argv[1:]
family = socket.AF_INET6 if ":" in local else socket.AF_INET
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
raw = {}
for version, protocol in ((4, IPPROTO_IPIP), (6, IPPROTO_IPV6)):
    raw[version] = socket.socket(family, socket.SOCK_RAW, protocol)
    raw[version].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    if limit:
        options = bytes([0, 0, 4, 1, int(limit[0]), 1, 1, 0])
        raw[version].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, options)
    raw[version].bind((local, 0))
print("ready", flush=True)

while True:
    readable, _, _ = select.select([tun, sys.stdin, *raw.values()], [], [])
    if sys.stdin in readable:
        break
    if tun in readable:
        packet = os.read(tun, 65536)
        raw[packet[0] >> 4].sendto(packet, (remote, 0))
    for sock in set(readable) & set(raw.values()):
        packet, sender = sock.recvfrom(65536)
        if sender[0] == remote:
            # Over IPv4 the outer header is there too.
            inner = packet[(packet[0] & 15) * 4 :] if family == socket.AF_INET else packet
            try:
                os.write(tun, inner)
            except OSError:
                pass  # tun0 is not up yet
