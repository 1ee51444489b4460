"""Writes what the chart takes from the code: topics and their readers, and the names of settings for the schema.

`make chart` runs it; a test fails where the files are behind the code.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from mendloop.core.contracts import SERVICES, all_topics, consumed_by
from mendloop.core.settings import PREFIX, ServiceSettings

CHART = Path(__file__).resolve().parents[2] / "charts" / "mendloop"
CONTRACTS, SCHEMA = CHART / "files" / "contracts.json", CHART / "values.schema.json"
SET_BY_CHART = frozenset(
    (
        *("bus", "bus_options", "artifacts_uri", "sealed_artifacts_uri", "work_dir", "member", "database_url"),
        *("metrics_host", "metrics_port", "metrics_port_file", "host", "port", "port_file", "allowed_hosts"),
        *("exit_when_idle_s", "otlp_endpoint"),
    )
)
"""Settings that values name otherwise: `config` refuses them, and secrets too."""


def contracts() -> str:
    """Topics and who reads which; the gateway reads without a consumer group."""
    readers = {service: list(consumed_by(service)) for service in SERVICES if service != "gateway"}
    return json.dumps({"consumed": readers, "topics": list(all_topics())}, indent=2) + "\n"


def setting_names() -> list[str]:
    """MENDLOOP_ variables that `config` may hold, sorted."""
    names: set[str] = set()
    for service in SERVICES:
        module = importlib.import_module(f"mendloop.{service.replace('-', '_')}.settings")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, ServiceSettings):
                secret = {name for name, field in value.model_fields.items() if "SecretStr" in str(field.annotation)}
                names |= set(value.model_fields) - secret
    return sorted(PREFIX + name.upper() for name in names - SET_BY_CHART)


def schema() -> str:
    """The schema with today's setting names."""
    document = json.loads(SCHEMA.read_text())
    document["definitions"]["config"]["propertyNames"]["enum"] = setting_names()
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    CONTRACTS.write_text(contracts())
    SCHEMA.write_text(schema())
