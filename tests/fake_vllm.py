"""A small HTTP server that answers as vLLM does, from a tiny model in this process; a test may bend any answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

Bend = Callable[[dict[str, Any], dict[str, Any]], "tuple[int, Any] | None"]
"""(request, right answer) -> (status, other answer); None sends the right one. Status 0 closes the connection."""


class _Patient(ThreadingHTTPServer):
    request_queue_size = 128
    """Connections that may wait: with the usual five a busy machine resets some of thirty at once."""


@contextmanager
def fake_vllm(model: Any, tokenizer: Any, *, bend: Bend | None = None, max_model_len: int = 65) -> Iterator[str]:
    """The URL of a server that serves a transformers model under the name "tiny"."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, {"data": [{"id": "tiny", "max_model_len": max_model_len}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                answer = {"choices": [_choice(model, tokenizer, body)]}
                bent = bend(body, answer) if bend else None
            self._send(*(bent or (200, answer)))

        def _send(self, status: int, document: Any) -> None:
            if status == 0:
                self.close_connection = True
                return
            raw = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            """Nothing on the test's screen."""

    server = _Patient(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _choice(model: Any, tokenizer: Any, body: dict[str, Any]) -> dict[str, Any]:
    prompt, said = body["prompt"], []
    with torch.no_grad():
        table = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
        row, stop_reason = table[-1], None
        while True:
            said.append(int(row.argmax()))
            text = " " + tokenizer.decode(said)  # vLLM detokenises behind the prompt
            stop_reason = next((mark for mark in body.get("stop", []) if mark in text), None)
            ended = said[-1] in body.get("stop_token_ids", []) or stop_reason is not None
            if ended or len(said) >= body["max_tokens"]:
                break
            row = model(torch.tensor([[*prompt, *said]])).logits[0, -1]
    choice: dict[str, Any] = {
        "text": text,
        "token_ids": said,
        "finish_reason": "stop" if ended else "length",
        "stop_reason": stop_reason,
        "prompt_token_ids": prompt,
    }
    if "prompt_logprobs" in body:
        ranks = (table > table.gather(-1, torch.tensor([[*prompt[1:], 0]]).T)).sum(-1) + 1
        choice["prompt_logprobs"] = [None] + [
            {str(token): {"logprob": float(table[at, token]), "rank": int(ranks[at])}}
            for at, token in enumerate(prompt[1:])
        ]
        last = {f"token_id:{token}": float(table[-1, token]) for token in body["logprob_token_ids"]}
        choice["logprobs"] = {"top_logprobs": [last]}
    return choice
