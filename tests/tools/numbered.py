#!/usr/bin/python3
"""Datagrams with numbers in them, to see whether they stay in order.

    numbered.py receive ADDRESS          prints how many came, how many after a later one, how many twice,
                                         and how many with a byte that was not sent, when its input ends
    numbered.py send ADDRESS BURSTS      bursts of forty of 1400 bytes, in one call where the kernel has
                                         UDP_SEGMENT, and three small ones after each
"""

import select
import socket
import struct
import sys
import time

PORT = 4000
UDP_SEGMENT = 103
SIZE = 1400
MANY = 40
FEW = 3

role, address, *rest = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET


def datagram(number, size):
    return struct.pack("!I", number) + bytes([number & 0xFF]) * (size - 4)


def send(bursts):
    number = 0
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.connect((address, PORT))
        for _ in range(bursts):
            large = b"".join(datagram(number + i, SIZE) for i in range(MANY))
            option = struct.pack("=H", SIZE)
            sender.sendmsg([large], [(socket.IPPROTO_UDP, UDP_SEGMENT, option)])
            number += MANY
            for _ in range(FEW):
                sender.send(datagram(number, 100))
                number += 1
            time.sleep(0.004)
    print(number)


def receive():
    came = late = twice = wrong = 0
    highest, seen = -1, set()
    with socket.socket(family, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
        receiver.bind((address, PORT))
        print("ready", flush=True)
        while True:
            readable, _, _ = select.select([sys.stdin, receiver], [], [])
            if receiver in readable:
                data = receiver.recv(1 << 16)
                (number,) = struct.unpack("!I", data[:4])
                came += 1
                late += number < highest
                twice += number in seen
                wrong += data != datagram(number, len(data)) or len(data) not in (SIZE, 100)
                highest = max(highest, number)
                seen.add(number)
            elif sys.stdin in readable:
                break
    print(came, late, twice, wrong)


if role == "send":
    send(int(rest[0]))
else:
    receive()
