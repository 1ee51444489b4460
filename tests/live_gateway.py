"""A gateway behind a real socket, which can be stopped and started again on the same port."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from gateways import Parts


@contextmanager
def live(parts: Parts, *, port: int = 0) -> Iterator[str]:
    """The URL of a real uvicorn over the parts."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    server = uvicorn.Server(uvicorn.Config(parts.app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        assert parts.feed.wait_current(timeout_s=60)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        parts.feed.ask_stop()
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()
