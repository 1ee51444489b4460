"""No rule names a scenario: the verdict comes from measurements, whatever the task family."""

from __future__ import annotations

import re
from pathlib import Path

import mendloop.diagnostician
import mendloop.examples
from mendloop.core.tasks import find_task
from mendloop.examples.scan.grammar import CONJUNCTIONS, MANNERS, PRIMITIVES, REPETITIONS

# words of a grammar, and a family's name, that are also everyday English in a docstring
EVERYDAY = {"run", "look", "and", "after", "twice", "facts", "faults"}
OPENS_FILES = "case_folder.py"
"""A case from files names its task family, as a recipe does."""


def _folder(package: object) -> Path:
    return Path(next(iter(package.__path__)))  # type: ignore[attr-defined]


def test_no_module_of_the_service_names_a_task_family_a_recipe_or_a_word_of_one() -> None:
    examples = _folder(mendloop.examples)
    families = {path.name for path in examples.iterdir() if path.is_dir() and path.name != "__pycache__"}
    recipes = {path.stem for path in examples.rglob("*.y*ml")}
    words = ({*PRIMITIVES, *MANNERS, *REPETITIONS, *CONJUNCTIONS} | families | recipes) - EVERYDAY
    assert {"scan", "jump"} <= words
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, sorted(words)))})\b", re.IGNORECASE)
    modules = sorted(_folder(mendloop.diagnostician).rglob("*.py"))
    assert len(modules) > 20
    found = {f"{path.name}: {hit}" for path in modules for hit in pattern.findall(path.read_text())}
    assert not found


def test_the_service_knows_task_families_only_through_their_port() -> None:
    sources = {path.name: path.read_text() for path in _folder(mendloop.diagnostician).rglob("*.py")}
    assert not [
        name for name, text in sources.items() if "import mendloop.examples" in text or "from mendloop.examples" in text
    ]
    assert [name for name, text in sources.items() if find_task.__name__ in text] == [OPENS_FILES]
