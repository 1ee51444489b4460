from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from chat_server import ChatServer, Reply

from mendloop.core.errors import Permanent, Retryable
from mendloop.models import chat
from mendloop.models.chat import ChatEndpoint, Said


def endpoint(url: str, **settings: object) -> ChatEndpoint:
    return ChatEndpoint(url, "m", role="teacher", pause=lambda seconds: None, **settings)  # type: ignore[arg-type]


@contextmanager
def dripping() -> Iterator[str]:
    """A server that sends a byte every 50 ms and never ends."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not done.wait(0.05):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return

        threading.Thread(target=drip, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        done.set()


def test_an_answer_comes_with_what_it_cost_and_whether_it_was_cut() -> None:
    with ChatServer(lambda prompt, request: Reply("hello", token_count=3, is_cut=True)) as server:
        assert endpoint(server.url).say("?") == Said("hello", 3, True)
        assert endpoint(server.url).answers(["a", "b"]) == ["hello", "hello"]


def test_an_answer_without_usage_has_no_token_count() -> None:
    with ChatServer(lambda prompt, request: "hello") as server:
        assert endpoint(server.url).say("?") == Said("hello", None, False)


def test_an_answer_that_drips_is_left_at_the_deadline() -> None:
    with dripping() as url, pytest.raises(Retryable, match="not complete in time"):
        endpoint(url, timeout_s=0.3).say("?")


def test_an_endless_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "MOST_BYTES", 1000)
    with (
        ChatServer(lambda prompt, request: "x" * 2000) as server,
        pytest.raises(Permanent, match="more than 1000 bytes"),
    ):
        endpoint(server.url).say("?")


def test_what_is_no_address_is_permanent() -> None:
    with pytest.raises(Permanent, match="check the url"):
        endpoint("nowhere").say("?")
