"""The web page: a shell for every path of it, and its assets from the package. Knows files and headers; knows no run.

Assets are read once at start and kept with their compressed form. Their folder in a URL is the hash of all of them, so
that a browser may keep them for good and a new release is a new folder; under any other they are checked by ETag.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
SHELL_PATHS = ("/", "/runs/{run_id}", "/runs/{run_id}/{tab:path}", "/dead-letters", "/subscriptions")
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
}
_COMPRESSED = frozenset({"html", "css", "js", "svg"})
_SHELL = "index.html"
_PRELOADS_MARK, _FOLDER_MARK = "%PRELOADS%", "%ASSETS%"
_NO_MODULE = frozenset({"js/theme.js"})


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent: plain, and compressed where that is worth it."""

    content: bytes
    compressed: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, name: str, content: bytes) -> Asset:
        """The asset of a file."""
        kind = name.rpartition(".")[2]
        compressed = gzip.compress(content, mtime=0) if kind in _COMPRESSED else b""
        return cls(content, compressed, _TYPES[kind], f'W/"{hashlib.sha256(content).hexdigest()[:32]}"')

    def response(self, request: Request, *, cache_control: str) -> Response:
        """200, or 304 where the browser has it."""
        headers = {"ETag": self.etag, "Cache-Control": cache_control, "Content-Security-Policy": CSP}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if not self.compressed:
            return Response(self.content, media_type=self.media_type, headers=headers)
        headers["Vary"] = "Accept-Encoding"
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(self.content, media_type=self.media_type, headers=headers)
        return Response(self.compressed, media_type=self.media_type, headers={**headers, "Content-Encoding": "gzip"})


def shell_routes() -> APIRouter:
    """The page's routes. They carry no data, so that they need no key: what they show comes from /v1."""
    contents = dict(_files(files("mendloop.gateway") / "page"))
    release = hashlib.sha256(b"".join(name.encode() + contents[name] for name in sorted(contents))).hexdigest()[:12]
    shell = Asset.of(_SHELL, _shell(contents.pop(_SHELL).decode(), names=contents, folder=f"/assets/{release}"))
    assets = {name: Asset.of(name, content) for name, content in contents.items()}
    routes = APIRouter(include_in_schema=False)

    async def show(request: Request) -> Response:
        return shell.response(request, cache_control="no-cache")

    for path in SHELL_PATHS:
        routes.add_api_route(path, show, methods=["GET", "HEAD"])

    @routes.api_route("/assets/{name:path}", methods=["GET", "HEAD"])
    async def asset(request: Request, name: str) -> Response:
        folder, _, rest = name.partition("/")
        found = assets.get(rest) or assets.get(name)
        if found is None:
            raise HTTPException(404, f"the page has no file {name[:100]!r}")
        kept = folder == release
        return found.response(request, cache_control="public, max-age=31536000, immutable" if kept else "no-cache")

    return routes


def _shell(text: str, *, names: Iterable[str], folder: str) -> bytes:
    """The shell with its places filled in. Every module is named, so that a browser need not find them one by one."""
    modules = sorted(name for name in names if name.endswith(".js") and name not in _NO_MODULE)
    preloads = "\n".join(f'<link rel="modulepreload" href="{_FOLDER_MARK}/{name}">' for name in modules)
    return text.replace(_PRELOADS_MARK, preloads).replace(_FOLDER_MARK, folder).encode()


def _files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    """Name and content of every file that is sent; licences and notes stay in the package."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files(entry, f"{prefix}{entry.name}/")
        elif entry.name.rpartition(".")[2] in _TYPES:
            yield prefix + entry.name, entry.read_bytes()
