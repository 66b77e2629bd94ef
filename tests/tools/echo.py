#!/usr/bin/python3
"""echo.py serve ADDRESS: echoes TCP and UDP until standard input closes.
echo.py talk ADDRESS: sends it small and large, over TCP and UDP; every byte must come back. Prints what did.
"""

import os
import select
import socket
import sys

PORT = 7
TCP_SIZES = (1, 500, 1 << 18)
UDP_SIZES = (1, 100, 1200, 1400, 4000)  # the last one is sent in fragments
UDP_ROUNDS = 5
PATIENCE = 8.0  # seconds

role, address = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET


def serve():
    with socket.socket(family, socket.SOCK_STREAM) as listener, socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PORT))
        listener.listen()
        datagrams.bind((address, PORT))
        print("ready", flush=True)
        connections = set()
        while True:
            readable, _, _ = select.select([sys.stdin, listener, datagrams, *connections], [], [])
            if sys.stdin in readable:
                return
            if listener in readable:
                connections.add(listener.accept()[0])
            if datagrams in readable:
                data, sender = datagrams.recvfrom(1 << 16)
                datagrams.sendto(data, sender)
            for connection in connections & set(readable):
                data = connection.recv(1 << 16)
                if data:
                    connection.sendall(data)
                else:
                    connections.remove(connection)
                    connection.close()


def over_tcp(size):
    data = os.urandom(size)
    back = bytearray()
    sent = 0
    with socket.create_connection((address, PORT), PATIENCE) as connection:
        while len(back) < size:
            # Never more on the way than the buffers of both ends hold.
            writable = [connection] if sent < size and sent - len(back) < 1 << 15 else []
            readable, writable, _ = select.select([connection], writable, [], PATIENCE)
            if not readable and not writable:
                sys.exit(f"TCP stands still after {len(back)} of {size} bytes")
            if writable:
                sent += connection.send(data[sent : sent + (1 << 14)])
            if readable:
                back += connection.recv(1 << 16)
    if back != data:
        sys.exit(f"TCP changed some of {size} bytes")


def over_udp(size):
    with socket.socket(family, socket.SOCK_DGRAM) as connection:
        connection.settimeout(PATIENCE)
        connection.connect((address, PORT))
        for _ in range(UDP_ROUNDS):
            data = os.urandom(size)
            connection.send(data)
            if connection.recv(1 << 16) != data:
                sys.exit(f"UDP changed some of {size} bytes")


if role == "serve":
    serve()
else:
    for size in TCP_SIZES:
        over_tcp(size)
    for size in UDP_SIZES:
        over_udp(size)
    print("every byte came back")
