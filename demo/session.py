#!/usr/bin/python3
"""An SSH-like TCP conversation: small messages there and back, all the time, every byte checked.

session.py serve ADDRESS PORT   echoes what it gets
session.py talk ADDRESS PORT    talks until its standard input closes, then prints what it saw as JSON
"""

import json
import random
import select
import socket
import sys
import time

INTERVAL = 0.02  # seconds between messages: a fast typist's
PATIENCE = 30.0  # seconds without an answer after which the connection counts as lost


def serve(address, port):
    """Echoes one client at a time, for ever."""
    with socket.create_server((address, port)) as listener:
        print("listening", flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while data := connection.recv(65536):
                    connection.sendall(data)


def receive(connection, length):
    """Exactly `length` bytes, or fewer if the peer closed."""
    received = b""
    while len(received) < length and (data := connection.recv(length - len(received))):
        received += data
    return received


def talk(address, port):
    """Sends messages of random bytes and waits for each to come back."""
    numbers = random.Random(1)
    seen = {"messages": 0, "bytes": 0, "longest_gap": 0.0, "intact": True, "error": None}
    try:
        with socket.create_connection((address, port), PATIENCE) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            print("connected", flush=True)
            while seen["intact"] and not select.select([sys.stdin], [], [], INTERVAL)[0]:
                message = numbers.randbytes(numbers.randrange(16, 1200))
                start = time.monotonic()
                connection.sendall(message)
                seen["intact"] = receive(connection, len(message)) == message
                seen["longest_gap"] = max(seen["longest_gap"], time.monotonic() - start)
                seen["messages"] += 1
                seen["bytes"] += len(message)
    except OSError as error:
        seen["error"] = str(error)
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    {"serve": serve, "talk": talk}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
