#!/usr/bin/python3
"""Sends ten datagrams of 1400 bytes to the discard port of an address in one call: UDP segmentation offload.

    uso.py ADDRESS
"""

import socket
import sys

UDP_SEGMENT = 103
SIZE = 1400

address = sys.argv[1]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
sender = socket.socket(family, socket.SOCK_DGRAM)
sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SIZE)
sender.sendto(bytes(10 * SIZE), (address, 9))
