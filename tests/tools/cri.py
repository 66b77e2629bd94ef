#!/usr/bin/python3
"""Talks to a container runtime as a kubelet does, for the tests.

cri.py image FILE     writes an image of static busybox, as `docker save` does, for `ctr images import`
cri.py drive SOCKET   reads batches of calls from stdin, one JSON list a line, each call as
                      {"method": "RunPodSandbox", "request": {...}}; makes the calls of a batch at once
                      and answers with one line: a list of {"result": {...}} or {"error": "..."}
"""

import hashlib
import io
import json
import pathlib
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor

NAME = "localhost/podswitch-test:1"
BUSYBOX = "/bin/busybox"
APPLETS = ["sh", "sleep", "ping", "wget", "httpd", "nc", "ip", "cat"]
PATIENCE = 60


def write_image(path):
    """One layer, one binary."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    layer = layer.getvalue()
    config = json.dumps({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}])
    with tarfile.open(path, "w") as tar:
        for name, data in [("config.json", config), ("layer.tar", layer),
                           ("manifest.json", manifest.encode())]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


class Runtime:
    """A runtime's service, by the names of its methods."""

    def __init__(self, socket):
        import grpc
        from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
        from grpc_tools import protoc

        here = pathlib.Path(__file__).parent
        with tempfile.NamedTemporaryFile() as out:
            if protoc.main(["protoc", f"-I{here}", f"--descriptor_set_out={out.name}", "cri.proto"]):
                sys.exit("protoc failed")
            files = descriptor_pb2.FileDescriptorSet.FromString(out.read())
        pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            pool.Add(file)
        self.service = pool.FindServiceByName("runtime.v1.RuntimeService")
        self.factory = message_factory.MessageFactory(pool)
        self.format, self.grpc = json_format, grpc
        self.channel = grpc.insecure_channel(f"unix://{socket}")

    def call(self, call):
        method = self.service.methods_by_name[call["method"]]
        request = self.factory.GetPrototype(method.input_type)
        answer = self.factory.GetPrototype(method.output_type)
        stub = self.channel.unary_unary(
            f"/{self.service.full_name}/{method.name}",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            message = self.format.ParseDict(call["request"], request())
            result = stub(message, timeout=PATIENCE, wait_for_ready=call.get("wait", False))
        except self.grpc.RpcError as error:
            return {"error": error.details()}
        result = self.format.MessageToDict(
            result, preserving_proto_field_name=True, including_default_value_fields=True)
        if method.name == "ExecSync":
            import base64
            for key in ("stdout", "stderr"):
                result[key] = base64.b64decode(result[key]).decode(errors="replace")
        return {"result": result}


def drive(socket):
    runtime = Runtime(socket)
    with ThreadPoolExecutor(max_workers=16) as pool:
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(list(pool.map(runtime.call, json.loads(line)))), flush=True)


if __name__ == "__main__":
    {"image": write_image, "drive": drive}[sys.argv[1]](sys.argv[2])
