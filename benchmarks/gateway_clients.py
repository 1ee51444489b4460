"""The other side of benchmarks/gateway.py, as a process of its own: event streams, gRPC streams, a webhooks' receiver.

Commands come as lines on standard input: `outage SECONDS` (half of the streams leave and the receiver refuses for that
long) and `stop`, after which receipts are printed as JSON: {name: [[event id, time.monotonic() of its receipt], ...]}.
`ready`, `out` and `back` on standard output tell what is so.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from urllib.parse import urlsplit

import grpc

from mendloop.client.calls import events
from mendloop.client.stream import Place
from mendloop.v1 import loop_service_pb2 as pb
from mendloop.v1.loop_service_pb2_grpc import LoopServiceStub

Receipts = dict[str, list[tuple[str, float]]]
WAIT_S = 0.2
CHANNEL = (("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 500))
PARAMS = {"runs": (), "types": ("EvalFailed",), "causes": (), "slices": ()}


class Side:
    """Receipts of all streams and hooks; open decides whether the receiver answers."""

    def __init__(self, url: str, token: str) -> None:
        parsed = urlsplit(url)
        self.host, self.port, self.token = parsed.hostname or "", parsed.port or 80, token
        self.receipts: Receipts = defaultdict(list)
        self.is_open = True
        self.connected: set[str] = set()
        self._places: dict[str, Place] = {}
        self._cursors: dict[str, str] = defaultdict(str)

    async def stream(self, name: str) -> None:
        """Follow the events for ever; a broken connection goes on behind the last event, as the SDK does it. A stream
        of the same name that ended goes on where it was."""
        place = self._places.setdefault(name, Place(events(**PARAMS, after="now")))  # type: ignore[arg-type]
        while True:
            try:
                await self._connection(name, place)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                self.connected.discard(name)
            await asyncio.sleep(WAIT_S)

    async def _connection(self, name: str, place: Place) -> None:
        request = place.request()
        query = "&".join(f"{key}={value}" for key, value in request.params)
        lines = [f"GET {request.path}?{query} HTTP/1.0", f"host: {self.host}:{self.port}"]
        lines += [f"{key}: {value}" for key, value in request.headers.items()]
        lines += [f"authorization: Bearer {self.token}"] if self.token else []
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode())
            status = await reader.readline()
            if b" 200 " not in status:
                raise ConnectionError(f"refused: {status!r}")
            while (await reader.readline()).strip():
                pass
            while chunk := await reader.read(65536):
                now = time.monotonic()
                self.receipts[name] += [(event.event_id, now) for event in place.feed(chunk)]
                self.connected.add(name)
        finally:
            writer.close()

    async def grpc_stream(self, name: str, stub: LoopServiceStub) -> None:
        """The same over gRPC."""
        metadata = (("authorization", f"Bearer {self.token}"),)
        while True:
            request = pb.StreamEventsRequest(cursor=self._cursors[name], types=PARAMS["types"])
            try:
                async for answer in stub.StreamEvents(request, metadata=metadata):
                    self._cursors[name] = answer.cursor
                    self.connected.add(name)
                    if answer.HasField("event"):
                        self.receipts[name].append((answer.headers["ce_id"], time.monotonic()))
            except grpc.aio.AioRpcError:
                pass
            finally:
                self.connected.discard(name)
            await asyncio.sleep(WAIT_S)

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection of the gateway's courier."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
                await reader.readexactly(int(headers["content-length"]))
                if self.is_open:
                    self.receipts[first.split()[1]].append((headers["webhook-id"], time.monotonic()))
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                else:
                    writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the gateway went, or the benchmark is over
        finally:
            writer.close()


async def main(url: str, token: str, stream_count: int, grpc_address: str, grpc_count: int) -> None:
    """Run until `stop`."""
    side = Side(url, token)
    server = await asyncio.start_server(side.receive, "127.0.0.1", 0, backlog=256)
    stub: LoopServiceStub = LoopServiceStub(grpc.aio.insecure_channel(grpc_address, options=CHANNEL))

    def begin(name: str) -> asyncio.Task[None]:
        follow = side.grpc_stream(name, stub) if name.startswith("grpc") else side.stream(name)
        return asyncio.create_task(follow)

    names = [f"stream-{n}" for n in range(stream_count)] + [f"grpc-{n}" for n in range(grpc_count)]
    streams = {name: begin(name) for name in names}
    while len(side.connected) < len(names):
        await asyncio.sleep(0.05)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while True:
        command = (await loop.run_in_executor(None, sys.stdin.readline)).split()
        if not command or command[0] == "stop":
            break
        left = names[::2]
        side.is_open = False
        for name in left:
            streams[name].cancel()
        print("out", flush=True)
        await asyncio.sleep(float(command[1]))
        side.is_open = True
        for name in left:
            streams[name] = begin(name)
        print("back", flush=True)
    print(json.dumps(side.receipts), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])))
