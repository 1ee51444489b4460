"""Lays out the topics of a deployment: `python -m mendloop.bus.topics`. The same twice changes nothing.

`--print` asks no broker: it lists what an administrator would have to create by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from mendloop.bus.kafka_topics import lay_out, missing_topics
from mendloop.bus.topics import plans
from mendloop.core.errors import InvalidRecipe, MendloopError
from mendloop.core.settings import ServiceSettings


def main(arguments: Sequence[str] | None = None) -> None:
    """Create what is missing, set how long events stay, and say what differs and was left."""
    words = _parser().parse_args(arguments)
    try:
        settings = ServiceSettings.from_environment()
        kind, _, place = settings.bus.partition(":")
        if kind != "kafka" and not words.print:
            raise InvalidRecipe(f"MENDLOOP_BUS is {settings.bus!r}; only Kafka has topics to lay out")
        _lay_out(settings, words, place=place)
    except MendloopError as error:
        sys.exit(f"topics were not laid out: {error}")


def _lay_out(settings: ServiceSettings, words: argparse.Namespace, *, place: str) -> None:
    options = settings.bus_options
    wanted = plans(
        partition_count=int(options.get("partition_count", 8)),
        replication_factor=int(options.get("replication_factor", -1)),
        retention_days=words.retention_days,
        work_retention_days=words.work_retention_days,
    )
    if words.print:
        prefix = options.get("name_prefix", "")
        rows = [{**asdict(plan), "name": prefix + plan.name} for plan in wanted]
        print(json.dumps(rows, indent=1))
        return
    if words.missing:
        print("\n".join(missing_topics(place, wanted, options=options)))
        return
    layout = lay_out(place, wanted, options=options)
    print(f"{len(layout.created)} topic(s) created, {len(layout.retained)} got another retention")
    for difference in layout.left:
        print(f"left as it is: {difference}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mendloop.bus.topics", description=__doc__)
    parser.add_argument("--retention-days", type=float, default=90, help="how long facts stay; -1: for ever")
    parser.add_argument("--work-retention-days", type=float, default=7, help="how long shards and retries stay")
    parser.add_argument("--print", action="store_true", help="list the topics as JSON and create nothing")
    parser.add_argument("--missing", action="store_true", help="print the names of topics that are not there")
    return parser


if __name__ == "__main__":
    main()
