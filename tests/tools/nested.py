#!/usr/bin/python3
"""nested.py ADDRESS LIMIT: sends a tunnel packet (RFC 2473) with this encapsulation limit to an address, and prints
the ICMPv6 error that the kernel receives about it within half a second: type, code, pointer.
"""

import select
import socket
import struct
import sys

IPV6_RECVERR, NO_NEXT_HEADER = 25, 59

address, limit = sys.argv[1], int(sys.argv[2])
sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_IPV6)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, bytes([0, 0, 4, 1, limit, 1, 1, 0]))
sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
ends = [socket.inet_pton(socket.AF_INET6, ip) for ip in ("fd77::1", "fd77::2")]
inner = struct.pack("!IHBB", 6 << 28, 0, NO_NEXT_HEADER, 64) + b"".join(ends)
sock.sendto(inner, (address, 0))

poll = select.poll()
poll.register(sock, 0)  # errors only
if not poll.poll(500):
    print("no error")
    sys.exit()
_, ancillary, _, _ = sock.recvmsg(4096, 512, socket.MSG_ERRQUEUE)
for level, kind, data in ancillary:
    if (level, kind) == (socket.IPPROTO_IPV6, IPV6_RECVERR):
        # struct sock_extended_err: errno, origin, type, code, padding, info.
        _, _, icmp, code, _, info = struct.unpack_from("=IBBBBI", data)
        print(f"type {icmp}, code {code}, pointer {info}")
