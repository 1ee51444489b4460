"""Loads the page templates of this package; everything that comes from a run is escaped."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, Template


def page_template(name: str) -> Template:
    """The template of this name; templates include one another by name."""
    loader = FunctionLoader(lambda part: files("mendloop.report").joinpath(part).read_text(encoding="utf-8"))
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(name)
