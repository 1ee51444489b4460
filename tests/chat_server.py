"""A local HTTP server that answers like an OpenAI-compatible chat endpoint, by a function of what it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class ChatServer:
    """Use as a context manager. answer gets the prompt and the whole request; refusals are answered 503 first."""

    def __init__(self, answer: Callable[[str, dict[str, Any]], str], *, refusals: int = 0) -> None:
        self.answer = answer
        self.refusals = refusals
        self.asked: list[dict[str, Any]] = []
        outer = self

        class Chat(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.refusals > 0:
                    outer.refusals -= 1
                    self._say(503, {"error": {"message": "busy"}})
                    return
                outer.asked.append({**request, "authorization": self.headers.get("Authorization")})
                said = outer.answer(request["messages"][0]["content"], request)
                self._say(200, {"choices": [{"message": {"content": said}}]})

            def _say(self, status: int, document: dict[str, Any]) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
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
