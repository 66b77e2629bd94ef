"""The demo's cluster: two nodes, two pods on each, the wire between them and a host in the outside world.

    pod11 pod12            pod21 pod22
        \\ /                    \\ /
       node1 ─── the wire ─── node2        192.0.2.0/24, 2001:db8::/64
                     │
                  outside                  198.51.100.80, which knows no pod

The wire is a namespace with a bridge, and the router to the outside. It has no route to any pod either.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile

from system import Failure, Namespace, bpf_pins, delete_namespace, run, stop, wait_until, wire

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.path.join(ROOT, os.environ.get("CARGO_TARGET_DIR", "target"))
PODSWITCH = os.environ.get("PODSWITCH_BIN", os.path.join(TARGET, "release/podswitch"))
PLUGIN = os.path.join(os.path.dirname(PODSWITCH), "podswitch-cni")
WIRE4, WIRE6 = "192.0.2.254", "2001:db8::fe"
OUTSIDE4 = "198.51.100.80"
VXLAN_PORT, VNI = 4789, 1
LOG_LINES = 15

# The network as a container runtime finds it in /etc/cni/net.d. Addresses are the node's to give out.
NETWORK = {"cniVersion": "1.0.0", "name": "pods", "type": "podswitch-cni", "ipMasq": True}


class Pod:
    """A pod: a namespace that its node's podswitch gives an interface, `eth0`, and addresses."""

    def __init__(self, prefix, node, index):
        self.name = f"pod{node}{index}"
        self.node = node
        self.ip4 = self.ip6 = None
        self.namespace = Namespace(prefix + self.name)


class Node:
    """A node: a namespace with an uplink, and a podswitch."""

    def __init__(self, prefix, directory, number):
        self.number = number
        self.other = 3 - number
        self.name = f"node{number}"
        self.ip4, self.ip6 = f"192.0.2.{number}", f"2001:db8::{number}"
        self.gateway4, self.gateway6 = f"10.244.{number}.1", f"fd00:10:244:{number}::1"
        self.namespace = Namespace(prefix + f"n{number}")
        self.path = os.path.join(directory, self.name)
        self.socket = self.path + ".sock"
        self.log = self.path + ".log"
        self.process = None

    def prepare(self):
        """What a node's administrator sets up: addresses and forwarding."""
        here = self.namespace
        here.ip("addr", "add", f"{self.ip4}/24", "dev", "uplink0")
        here.ip("addr", "add", f"{self.ip6}/64", "dev", "uplink0", "nodad")
        here.ip("route", "add", "default", "via", WIRE4)
        here.ip("-6", "route", "add", "default", "via", WIRE6)
        here.sysctl("net.ipv4.ip_forward", 1)
        here.sysctl("net.ipv6.conf.all.forwarding", 1)

    def config(self, tunnel="vxlan"):
        """The node's configuration, with its tunnel to the other node."""
        other4, other6 = f"10.244.{self.other}.0/24", f"fd00:10:244:{self.other}::/64"
        via4 = via6 = f"node{self.other}"
        text = (
            f'[switch]\nsocket = "{self.socket}"\n\n'
            f'[node]\nname = "{self.name}"\n'
            f'pod_cidrs = ["10.244.{self.number}.0/24", "fd00:10:244:{self.number}::/64"]\ngateway = true\n\n'
            f'[uplink]\ndev = "uplink0"\nnative_routing = true\n\n'
        )
        if tunnel == "native":
            via4, via6 = f"192.0.2.{self.other}", f"2001:db8::{self.other}"
        else:
            text += f'[[tunnel]]\nname = "{via4}"\nkind = "{tunnel}"\nremote = "192.0.2.{self.other}"\n'
            text += f"vni = {VNI}\nport = {VXLAN_PORT}\n\n" if tunnel == "vxlan" else "\n"
        text += f'[[route]]\nprefix = "{other4}"\nvia = "{via4}"\n\n'
        return text + f'[[route]]\nprefix = "{other6}"\nvia = "{via6}"\n'

    def write(self, name, text):
        """Writes one of the node's files and gives its path."""
        path = f"{self.path}-{name}.toml"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def start(self):
        """Starts the node's podswitch and waits until its socket answers. Gives the seconds that it took."""
        config = self.write("vxlan", self.config())
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = self.namespace.spawn(PODSWITCH, "run", "--config", config, stderr=log, stdout=log)
        return wait_until(f"{self.name}'s podswitch answers", self._answers)

    def _answers(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.name}'s podswitch ended with {self.process.returncode}")
        return os.path.exists(self.socket) and self.cli("show", "status", check=False).returncode == 0

    def cli(self, *words, check=True):
        """The podswitch command on this node."""
        return run(PODSWITCH, "--socket", self.socket, *words, check=check)

    def json(self, *words):
        """What a podswitch command prints with --json."""
        return json.loads(self.cli(*words, "--json").stdout)

    def cni(self, command, pod):
        """Calls the CNI plugin for a pod, as the node's container runtime would. Gives what it printed."""
        return run(
            *self.namespace.argv(PLUGIN), text=json.dumps(NETWORK), PODSWITCH_SOCKET=self.socket,
            CNI_COMMAND=command, CNI_CONTAINERID=pod.name, CNI_NETNS=pod.namespace.path,
            CNI_IFNAME="eth0", CNI_PATH=os.path.dirname(PLUGIN),
        ).stdout  # fmt: skip

    def plug_in(self, pod):
        """Gives a pod its interface and addresses."""
        addresses = [ip["address"].split("/")[0] for ip in json.loads(self.cni("ADD", pod))["ips"]]
        pod.ip4 = next(address for address in addresses if ":" not in address)
        pod.ip6 = next(address for address in addresses if ":" in address)

    def stop(self):
        """Ends the node's podswitch as a service manager would. Gives its exit code."""
        return stop(self.process) if self.process else None

    def bpf_pins(self):
        """Where its podswitch keeps its pins."""
        return bpf_pins(self.namespace.path)

    def last_log_lines(self):
        """What the daemon said last, for a failure's report."""
        try:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                return "".join(log.readlines()[-LOG_LINES:])
        except FileNotFoundError:
            return ""


class Cluster:
    """All of it. As a context manager it removes what it made, unless it is told to keep it."""

    def __init__(self):
        self.prefix = f"psd-{os.getpid()}-"
        self.directory = tempfile.mkdtemp(prefix=self.prefix)
        self.keep = False
        self.nodes, self.pods, self.others, self.processes = [], [], [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if not self.keep:
            self.remove()

    def build(self):
        """Makes namespaces and links, and sets up the kernels at the other ends."""
        middle = self._other("wire")
        middle.ip("link", "add", "wire", "type", "bridge", "mcast_snooping", "0")
        middle.ip("link", "set", "wire", "up")
        for number in (1, 2):
            node = Node(self.prefix, self.directory, number)
            self.nodes.append(node)
            wire(node.namespace, "uplink0", middle, f"node{number}")
            middle.ip("link", "set", f"node{number}", "master", "wire")
            self.pods += [Pod(self.prefix, number, 1), Pod(self.prefix, number, 2)]
        middle.ip("addr", "add", f"{WIRE4}/24", "dev", "wire")
        middle.ip("addr", "add", f"{WIRE6}/64", "dev", "wire", "nodad")
        middle.sysctl("net.ipv4.ip_forward", 1)
        outside = self._other("outside")
        wire(outside, "eth0", middle, "outside")
        middle.ip("addr", "add", "198.51.100.1/24", "dev", "outside")
        outside.ip("addr", "add", f"{OUTSIDE4}/24", "dev", "eth0")
        outside.ip("route", "add", "default", "via", "198.51.100.1")
        for node in self.nodes:
            node.prepare()

    def _other(self, name):
        namespace = Namespace(self.prefix + name)
        self.others.append(namespace)
        return namespace

    @property
    def middle(self):
        """The wire's namespace."""
        return self.others[0]

    @property
    def outside(self):
        """The outside host's namespace."""
        return self.others[1]

    def pods_of(self, node):
        """The pods of one node."""
        return [pod for pod in self.pods if pod.node == node.number]

    def start(self, namespace, *argv, expect=None):
        """Starts a helper process and waits for its first line, if one is expected."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.PIPE, "text": True}
        process = namespace.spawn(*argv, **options)
        self.processes.append(process)
        if expect is not None and (line := process.stdout.readline().strip()) != expect:
            raise Failure(f"`{' '.join(argv)}` said {line!r}, not {expect!r}")
        return process

    def remove(self):
        """Ends every process and removes every namespace, file and pin of the demo."""
        for node in self.nodes:
            node.stop()
        for process in self.processes:
            stop(process, patience=2)
        for name in self._left():
            delete_namespace(name)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _left(self):
        # By prefix, not from the lists: an interrupt can come between making one and noting it.
        names = [line.split()[0] for line in run("ip", "netns", "list").stdout.splitlines() if line]
        return [name for name in names if name.startswith(self.prefix)]

    def leftovers(self):
        """What is still there of the demo: names of namespaces and files."""
        return self._left() + ([self.directory] if os.path.exists(self.directory) else [])
