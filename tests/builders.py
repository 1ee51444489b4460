"""Builds values for tests with good defaults; a test names only what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.bus.runtime import Event
from mendloop.core.recipe import Recipe
from mendloop.core.records import Example, Item, Outcome, Split, StopReason
from mendloop.core.run_spec import RunSpec

NO_ARTIFACT = Artifact("file:///nowhere", "0" * 64, 0, "application/octet-stream")


def event(message: Message, *, event_id: str = "e1", is_stopping: bool = False) -> Event:
    """A message as a handler gets it."""
    return Event(message, event_id, "", lambda: is_stopping)


def item(
    item_id: str = "i1", *, prompt: str = "walk", target: str = "I_WALK", split: Split = "search", **axes: str
) -> Item:
    """An evaluation item; keyword arguments are axis values."""
    return Item(item_id, prompt, target, split, axes={axis: (value,) for axis, value in axes.items()})


def example(prompt: str = "run", *, completion: str = "I_RUN", source: str = "corpus", **axes: str) -> Example:
    """A training example; keyword arguments are axis values."""
    return Example(prompt, completion, source, axes={axis: (value,) for axis, value in axes.items()})


def outcome(
    item_id: str = "i1",
    *,
    split: Split = "search",
    prompt: str = "walk",
    output: str | None = None,
    target: str = "I_WALK",
    score: float = 1.0,
    stop_reason: StopReason = "eos",
    axes: Mapping[str, tuple[str, ...]] | None = None,
) -> Outcome:
    """What a checkpoint did with one item: right unless the score says otherwise."""
    said = output if output is not None else (target if score == 1.0 else "I_LOOK")
    return Outcome(
        item_id=item_id,
        split=split,
        prompt=prompt,
        output=said,
        target=target,
        score=score,
        prompt_token_count=len(prompt.split()),
        output_token_count=len(said.split()) + (stop_reason == "eos"),
        stop_reason=stop_reason,
        extraction="exact" if score == 1.0 else "none",
        target_logprob=-0.1 if score == 1.0 else -9.0,
        repeat_index=0,
        axes=axes or {},
    )


def recipe(**changes: Any) -> Recipe:
    """A small valid recipe; keyword arguments replace top-level fields."""
    document: dict[str, Any] = {
        "name": "tiny",
        "task": "scan",
        "template": "IN: {prompt} OUT:",
        "base": {"model": "package:scan/base"},
        "suite": {"axes": ["verb"], "search": 40, "confirm": 20, "sealed": 20, "shards": 2},
        **changes,
    }
    return Recipe.model_validate(document)


def run_spec(store: ArtifactStore, *, sealed_store: ArtifactStore | None = None, **parts: Any) -> RunSpec:
    """A run specification over stored rows. Parts: recipe, base, corpus, pool, items, sealed, fingerprints, twins."""
    sealed, twins = parts.get("sealed", []), parts.get("twins", [])
    return RunSpec(
        recipe=parts.get("recipe") or recipe(),
        base=parts.get("base", NO_ARTIFACT),
        corpus=put_rows(store, parts.get("corpus", [example()]), kind=Example),
        pool=put_rows(store, parts["pool"], kind=Example) if parts.get("pool") else None,
        items=put_rows(store, parts.get("items", [item()]), kind=Item),
        sealed_items=put_rows(sealed_store, sealed, kind=Item) if sealed and sealed_store else None,
        fingerprints=store.put(
            b'{"algorithm": "sha256", "fingerprints": %s}'
            % str(parts.get("fingerprints", [])).replace("'", '"').encode(),
            media_type="application/json",
        ),
        twins=put_rows(sealed_store, twins, kind=Item) if twins and sealed_store else None,
    )
