#!/usr/bin/python3
"""vnet_hdr.py DEV DST_MAC SRC DST: sends packets with a virtio_net_hdr of every sort out of DEV (PACKET_VNET_HDR),
honest and not; prints how many the kernel took."""

import itertools
import socket
import struct
import sys

SOL_PACKET = 263
PACKET_VNET_HDR = 15
NEEDS_CSUM = 1
NONE, TCPV4, UDP, TCPV6, UDP_L4, ECN = 0, 1, 3, 4, 5, 0x80

dev, gateway, source, destination = sys.argv[1:]
with open(f"/sys/class/net/{dev}/address") as file:
    mac = bytes.fromhex(file.read().strip().replace(":", ""))
ethernet = bytes.fromhex(gateway.replace(":", "")) + mac + b"\x08\x00"


def ip_checksum(header):
    total = sum(struct.unpack("!10H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(protocol, payload, tcp_flags=0x10):
    if protocol == 6:
        segment = struct.pack("!HHIIBBHHH", 4000, 9, 1, 1, 5 << 4, tcp_flags, 1024, 0, 0) + payload
    else:
        segment = struct.pack("!HHHH", 4000, 9, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 1, 0, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(destination))
    return ethernet + head[:10] + struct.pack("!H", ip_checksum(head)) + head[12:] + segment


taken = 0
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
    raw.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    raw.bind((dev, 0))
    kinds = (NONE, TCPV4, TCPV4 | ECN, TCPV6, UDP, UDP_L4, 0x7F)
    sizes = (0, 1, 7, 1000, 65535)
    starts = (0, 13, 14, 34, 36, 60, 2000, 65535)
    offsets = (0, 6, 16, 17, 1000, 65535)
    packets = [packet(6, bytes(3000)), packet(6, bytes(3000), 0x02), packet(17, bytes(3000)), packet(17, b""),
               ethernet, ethernet[:12] + b"\x86\xdd" + bytes(100)]
    for flags, kind, size, start, offset, data in itertools.product((0, NEEDS_CSUM), kinds, sizes, starts, offsets,
                                                                     packets):
        for length in (0, 54, 5000):
            try:
                raw.send(struct.pack("=BBHHHH", flags, kind, length, size, start, offset) + data)
                taken += 1
            except OSError:
                pass  # The pod's kernel knew better.
print(taken)
