"""The web page in a real Chromium before a real gateway: what people do with it, live, by keyboard, for all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page_browser
import page_evidence
import page_story
import page_world
import pytest
from page_browser import Site, tab
from page_story import FAILED, PROMOTED, WAITING, WORKING
from run_events import START, sent

from mendloop.artifacts.store import ArtifactStore
from mendloop.core.wire import slice_message
from mendloop.v1 import diagnosis_pb2, intervention_pb2

RUN, WAITS = f"/runs/{PROMOTED}", f"/runs/{WAITING}"
JUMP = slice_message([("verb", "jump")]).slice_id
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with page_browser.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    store = ArtifactStore(folder / "artifacts")
    events = [event for story in page_world.stories(store) for event in story.events]
    with page_browser.site(folder, events, store=store) as started:
        yield started


@pytest.fixture
def page(browser: Any, place: Site) -> Iterator[Any]:
    with tab(browser, place) as opened:
        yield opened


@pytest.fixture(scope="module")
def axe() -> str:
    package = pytest.importorskip("axe_playwright_python", reason="axe is missing: pip install axe-playwright-python")
    return (Path(package.__file__).parent / "axe.min.js").read_text()


def seen(page: Any, text: str) -> None:
    """Wait until a text is on the page."""
    page.get_by_text(text).first.wait_for()


def shows_heading(page: Any, words: str) -> None:
    """Wait until a heading is on the page."""
    page.get_by_role("heading", name=words).first.wait_for()


def test_from_the_list_to_an_approval_that_everybody_sees_at_once(browser: Any, page: Any, place: Site) -> None:
    with tab(browser, place) as other:
        page.get_by_role("link", name="scan-turns").first.click()
        shows_heading(page, "A plan waits for approval")
        assert page.get_by_text("64 of 256 left").is_visible()
        page.get_by_role("button", name="Approve…").click()
        page.get_by_role("button", name="Approve plan").click()
        seen(page, "Write a reason")
        page.get_by_label("Reason (required)").fill("The corpus has none of it.")
        if page.get_by_label("Your name").is_visible():
            page.get_by_label("Your name").fill("Katherine Johnson")
        page.get_by_role("button", name="Approve plan").click()
        page.get_by_role("heading", name="A plan waits for approval").wait_for(state="detached")

        plan = intervention_pb2.InterventionPlanned(
            position={"run_id": WAITING, "round": 1},
            plan_id=f"{WAITING}-p1",
            kind=diagnosis_pb2.INTERVENTION_KIND_DATA,
            rationale="108 of 118 failed items lack training data",
        )
        place.publish([sent(plan, second=1e8, event_id="approved-plan")])
        page.locator("main .badge", has_text="Generating").wait_for()
        other.locator("tr", has_text=WAITING).locator(".badge", has_text="Generating").wait_for()
    page.get_by_role("link", name="Plans").click()
    seen(page, "“The corpus has none of it.”")


def test_every_part_of_a_run_is_one_address(page: Any) -> None:
    for address, words in (
        ("", "The loop"),
        ("/slices?q=jump", "Slices"),
        (f"/diagnoses/0/{JUMP}", "Evidence"),
        ("/plans", "Round 2: Data"),
        ("/gates?failed=1", "Round 1"),
        ("/outcomes?status=fixed&round=2", "Outcomes"),
        ("/data", "Examples"),
        ("/lineage", "Lineage"),
        ("/events?type=LoopFinished", "Events"),
        ("/letters", "Dead letters"),
    ):
        page.goto(RUN + address)
        shows_heading(page, words)
        assert page.get_by_role("alert").filter(has_text="could not be loaded").count() == 0, address


def test_filter_stands_in_the_address_and_comes_back_with_it(page: Any) -> None:
    page.goto(f"{RUN}/slices")
    page.get_by_label("Search").fill("around")
    page.wait_for_url("**/slices?q=around")
    rows = page.locator("tbody tr")
    rows.filter(has_text="verb=jump").wait_for(state="detached")
    page.reload()
    seen(page, "turn=around right")
    assert (page.get_by_label("Search").input_value(), rows.count()) == ("around", 2)
    page.get_by_role("link", name="Gates").click()
    shows_heading(page, "Round 2")
    page.go_back()
    seen(page, "turn=around right")
    assert page.get_by_label("Search").input_value() == "around"


def test_numbers_stand_with_n_and_interval(page: Any) -> None:
    page.goto(f"{RUN}/slices")
    row = page.locator("tbody tr", has_text="verb=jump")
    right, n = page_story.score(page_story.outcomes(3, page_story.ROUND_RATES[2]), verb="jump")
    assert re.search(rf"{100 * right / n:.1f}\s%\s+[\d.]+–[\d.]+\s%, n\s=\s{n}\b", row.inner_text())


def test_outcomes_are_compared_with_target_and_checkpoint_before(page: Any) -> None:
    page.goto(f"{RUN}/outcomes?status=wrong&round=0")
    page.locator(".outcome summary").first.click()
    assert page.locator(".outcome del").count() + page.locator(".outcome ins").count() > 0
    page.goto(f"{RUN}/outcomes?status=fixed&round=2")
    page.locator(".outcome summary").first.click()
    seen(page, "Before, wrong")
    page.get_by_role("button", name="Show more").click()
    page.locator(".outcome").nth(60).wait_for()


def test_diagnosis_shows_probes_heat_map_and_attributed_examples(page: Any) -> None:
    page.goto(f"{RUN}/diagnoses/0/{JUMP}")
    seen(page, "Forced stop")
    page.get_by_role("img", name="Heat map of 4 layers").nth(1).wait_for()
    page.get_by_role("region", name="training examples, sample a, table").wait_for()


def test_dead_letter_is_replayed_with_a_reason(page: Any) -> None:
    asked: list[dict[str, str]] = []

    def replay(route: Any) -> None:
        asked.append(route.request.post_data_json)
        route.fulfill(status=202, json={})

    page.route("**/v1/dead-letters/*/replay", replay)
    page.goto(f"/runs/{FAILED}/letters")
    page.get_by_role("button", name="Replay…").click()
    page.get_by_label("Reason (required)").fill("The tokenizer is there now.")
    page.get_by_role("button", name="Replay event").click()
    seen(page, "The event is on its way again")
    assert asked[0]["reason"] == "The tokenizer is there now."


def test_everything_is_within_reach_of_the_keyboard(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("scan-jump")
    page.wait_for_url("**/?q=scan-jump")
    page.locator("tbody tr", has_text=WORKING).wait_for(state="detached")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    shows_heading(page, "scan-jump")
    page.keyboard.press("]")
    page.wait_for_url(f"**{RUN}/slices")
    page.keyboard.press("g")
    page.keyboard.press("d")
    shows_heading(page, "Dead letters")


def test_single_keys_can_be_switched_off(page: Any) -> None:
    page.keyboard.press("?")
    page.get_by_label("Single keys work as shortcuts").uncheck()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("dialog").wait_for(state="hidden")
    page.keyboard.press("?")
    assert not page.get_by_role("dialog").is_visible()


LOOKS = {
    "light": ("/", WAITS, f"{RUN}/diagnoses/0/{JUMP}", f"{RUN}/gates", f"{RUN}/lineage"),
    "dark": (RUN, f"{RUN}/outcomes?round=1", f"{RUN}/data"),
    "phone": ("/", RUN, f"{RUN}/gates", f"/runs/{FAILED}/letters"),
}


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_serious(browser: Any, place: Site, axe: str, look: str) -> None:
    bad, wide = [], []
    with tab(browser, place, phone=look == "phone", dark=look == "dark") as page:
        for address in LOOKS[look]:
            page.goto(address)
            page.wait_for_selector("main .card, main table")
            page.locator(".skeleton").first.wait_for(state="detached")
            page.evaluate(axe)
            found = page.evaluate("axe.run({resultTypes: ['violations']}).then((result) => result.violations)")
            bad += [(address, one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in SERIOUS]
            width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            wide += [address] if width > 0 else []
    assert bad == []
    assert wide == [], "nothing scrolls sideways but tables and pictures by themselves"


def test_page_catches_up_after_the_gateway_was_away(browser: Any, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    story = page_world.waiting_story(store, START)
    with page_browser.site(tmp_path, story.events, store=store) as place, tab(browser, place) as page:
        page.goto(WAITS)
        page.locator(".live.live").wait_for()
        place.stop()
        page.locator(".live.lost").wait_for()
        story.tell(page_evidence.diagnosis(story, "late", ("verb", "jump"), round=1))
        place.publish(story.events[-1:])
        place.start()
        page.locator(".live.live").wait_for()
        page.locator(".tabs a", has_text="Diagnoses").get_by_text("3").wait_for()


def test_who_is_not_signed_in_is_asked_for_the_token(page: Any) -> None:
    said: dict[str, str] = {}

    def refuse(route: Any) -> None:
        if said.get("token"):
            route.fulfill(json={"runs": [], "next_cursor": "", "total": 0})
        else:
            route.fulfill(status=401, content_type="application/problem+json", body=json.dumps({"detail": "no"}))

    def session(route: Any) -> None:
        if route.request.method == "POST":
            said.update(route.request.post_data_json)
        route.fulfill(json={"csrf_token": "c5"})

    page.route("**/v1/runs?*", refuse)
    page.route("**/v1/session", session)
    page.route("**/v1/runs/*/cancel", lambda route: (said.update(route.request.headers), route.fulfill(json={})))
    page.goto("/")
    page.get_by_role("dialog", name="Sign in").wait_for()
    page.get_by_label("Token").fill("t0ken")
    page.get_by_role("button", name="Sign in").click()
    seen(page, "No run yet.")
    page.goto(f"/runs/{WORKING}")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_label("Reason (required)").fill("wrong recipe")
    page.get_by_role("button", name="Cancel run").click()
    seen(page, "The run is asked to end")
    assert (said["token"], said["x-csrf-token"]) == ("t0ken", "c5")
