"""The page's shell and assets: headers, caching, and that every module finds what it imports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from gateways import gateway

from mendloop.gateway.adapters.page import CSP

PAGE = Path(__file__).resolve().parents[3] / "services" / "mendloop" / "gateway" / "page"
MODULES = sorted((PAGE / "js").rglob("*.js"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return TestClient(gateway(tmp_path_factory.mktemp("gateway")).app)  # its routes need no running feed


@pytest.mark.parametrize(
    "path", ["/", "/runs/r1", "/runs/r1/diagnoses/0/a%2Fb?q=jump", "/dead-letters", "/subscriptions"]
)
def test_every_address_of_the_page_gives_the_shell_under_a_strict_policy(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers.get_list("content-security-policy") == [CSP]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "%" not in answer.text


def test_shell_has_nothing_that_the_policy_refuses(client: TestClient) -> None:
    shell = client.get("/").text
    assert not re.search(r"<style|style=|<script(?![^>]*\bsrc=)|\bon\w+=|https?://", shell)


def test_data_keeps_the_policy_that_lets_nothing_load(client: TestClient) -> None:
    answer = client.get("/openapi.json")
    assert answer.headers.get_list("content-security-policy") == ["default-src 'none'; frame-ancestors 'none'"]
    assert not any("assets" in path or path == "/" for path in answer.json()["paths"])


def test_asset_of_this_release_is_kept_for_good_and_any_other_is_asked_for(client: TestClient) -> None:
    folder = re.search(r"(/assets/[0-9a-f]{12})/", client.get("/").text)
    assert folder
    kept, other = client.get(f"{folder[1]}/js/main.js"), client.get("/assets/0123456789ab/js/main.js")
    assert "immutable" in kept.headers["cache-control"]
    assert other.headers["cache-control"] == "no-cache"
    assert (kept.headers["content-encoding"], kept.text) == ("gzip", (PAGE / "js" / "main.js").read_text())
    again = client.get("/assets/js/main.js", headers={"If-None-Match": kept.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_asset_is_sent_plain_to_who_takes_no_gzip(client: TestClient) -> None:
    answer = client.get("/assets/css/base.css", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in answer.headers
    assert answer.text == (PAGE / "css" / "base.css").read_text()


@pytest.mark.parametrize(
    "name", ["js/nothing.js", "../page.py", "%2e%2e/page.py", "package.json", "vendor/htm.LICENSE"]
)
def test_what_is_no_asset_is_not_given_out(client: TestClient, name: str) -> None:
    answer = client.get(f"/assets/{name}")
    assert answer.status_code == 404
    assert "def shell_routes" not in answer.text


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PAGE).as_posix())
def test_module_is_short_and_imports_what_exists(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 250
    assert text.startswith("// "), "says in its first line what it is"
    for found in re.findall(r'from "([^"]+)"', text):
        assert (path.parent / found).resolve().is_file(), found
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|dangerouslySetInnerHTML|eval\(|https?://", text)
