#!/usr/bin/python3
"""capture.py DEV: captures what DEV receives until standard input closes; prints a frame a line in hexadecimal."""

import select
import socket
import struct
import sys

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33  # beyond net.core.rmem_max
SOL_PACKET = 263
PACKET_AUXDATA = 8
TP_STATUS_VLAN_VALID = 1 << 4
TP_STATUS_VLAN_TPID_VALID = 1 << 6
AUXDATA = struct.Struct("@IIIHHHH")  # struct tpacket_auxdata of linux/if_packet.h


def with_tag(frame, ancillary):
    """The frame as it was on the wire: the kernel moves the outer VLAN tag aside."""
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = AUXDATA.unpack_from(data)
            if status & TP_STATUS_VLAN_VALID:
                tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                return frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
    return frame


with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as raw:
    raw.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    raw.bind((sys.argv[1], 0))
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([raw, sys.stdin], [], [])
        if raw in readable:
            frame, ancillary, _, sender = raw.recvmsg(1 << 17, socket.CMSG_SPACE(AUXDATA.size))
            if sender[2] != socket.PACKET_OUTGOING:
                print(with_tag(frame, ancillary).hex())
        elif sys.stdin in readable:
            break
