"""A local HTTP server that answers like an OpenAI-compatible chat endpoint, by a function of what it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass(frozen=True)
class Reply:
    """An answer with what a server may say beside it. raw: the whole body, instead of a chat completion."""

    text: str = ""
    status: int = 200
    token_count: int | None = None
    is_cut: bool = False
    raw: bytes | None = None

    def body(self) -> bytes:
        """The bytes that are sent."""
        if self.raw is not None:
            return self.raw
        choice = {"message": {"content": self.text}, "finish_reason": "length" if self.is_cut else "stop"}
        usage = {} if self.token_count is None else {"usage": {"completion_tokens": self.token_count}}
        return json.dumps({"choices": [choice], **usage}).encode()


class ChatServer:
    """Use as a context manager. answer gets the prompt and the whole request; refusals are answered 503 first."""

    def __init__(self, answer: Callable[[str, dict[str, Any]], str | Reply], *, refusals: int = 0) -> None:
        self.answer = answer
        self.refusals = refusals
        self.asked: list[dict[str, Any]] = []
        outer = self

        class Chat(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.refusals > 0:
                    outer.refusals -= 1
                    self._say(Reply(status=503, raw=b'{"error": {"message": "busy"}}'))
                    return
                outer.asked.append({**request, "authorization": self.headers.get("Authorization")})
                said = outer.answer(request["messages"][0]["content"], request)
                self._say(said if isinstance(said, Reply) else Reply(said))

            def _say(self, reply: Reply) -> None:
                body = reply.body()
                self.send_response(reply.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(ConnectionError):  # who asked may have left
                    self.wfile.write(body)

            def log_message(self, *values: Any) -> None:
                """Silence."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> ChatServer:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
