#!/usr/bin/python3
"""One TCP stream of writes of very different sizes, each sent at once.

    writes.py serve ADDRESS          takes one stream, and prints how many bytes came, and whether all were those
                                     that were sent
    writes.py send ADDRESS WRITES    sends so many writes, and prints their bytes
"""

import random
import socket
import sys
import time

PORT = 4001
SIZES = (1, 10, 60, 200, 1400, 3000, 9000, 30000)
PATTERN = random.Random(7).randbytes(1 << 20)

role, address, *rest = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET


def expected(at, size):
    at %= len(PATTERN)
    return (PATTERN[at:] + PATTERN)[:size]


def serve():
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PORT))
        listener.listen()
        print("ready", flush=True)
        connection = listener.accept()[0]
        came, right = 0, True
        while data := connection.recv(1 << 16):
            right = right and data == expected(came, len(data))
            came += len(data)
    print(came, right)


def send(writes):
    sizes = random.Random(writes)
    sent = 0
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.connect((address, PORT))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for n in range(writes):
            size = sizes.choice(SIZES)
            connection.sendall(expected(sent, size))
            sent += size
            if n % 16 == 0:
                time.sleep(0.002)
    print(sent)


if role == "send":
    send(int(rest[0]))
else:
    serve()
