#!/usr/bin/python3
"""send.py DEV: sends the frames on standard input, one a line in hexadecimal; prints how many at the end."""

import socket
import sys
import time

GAP = 0.0002  # seconds between frames: a test of what happens to a frame, not of queues

sent = 0
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
    raw.bind((sys.argv[1], 0))
    print("ready", flush=True)
    for line in sys.stdin:
        raw.send(bytes.fromhex(line))
        sent += 1
        time.sleep(GAP)
print(sent, flush=True)
