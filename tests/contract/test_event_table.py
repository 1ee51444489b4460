"""The published event table and the generated code say what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mendloop.core.contracts import CONTRACTS, all_topics

ROOT = Path(__file__).resolve().parents[2]


def _published_rows() -> list[tuple[str, str, str, str, str]]:
    rows = []
    for line in (ROOT / "protos" / "README.md").read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[1].startswith("mendloop."):
            rows.append((cells[0], cells[1], cells[2], cells[3], cells[4]))
    return rows


def test_published_table_is_the_contract() -> None:
    ours = [
        (
            contract.message.DESCRIPTOR.name,
            contract.topic,
            ", ".join(contract.producers),
            ", ".join(contract.consumers),
            "yes" if contract.is_public else "",
        )
        for contract in CONTRACTS
    ]
    assert _published_rows() == ours


def test_every_message_of_an_event_family_has_one_topic() -> None:
    assert len({contract.topic for contract in CONTRACTS}) == len(CONTRACTS)
    assert len(set(all_topics())) == len(all_topics())


def test_regenerating_the_protos_changes_nothing(tmp_path: Path) -> None:
    protos = sorted(str(p.relative_to(ROOT / "protos")) for p in (ROOT / "protos").rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", *protos]
    subprocess.run(command, cwd=ROOT / "protos", check=True)
    for fresh in tmp_path.rglob("*_pb2.py"):
        committed = ROOT / "services" / fresh.relative_to(tmp_path)
        assert committed.read_text() == fresh.read_text(), f"{committed.name} is stale: run `make protos`"


def test_topic_map_for_subscribers_names_every_topic_with_its_message_and_key() -> None:
    text = (ROOT / "docs" / "subscribe.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `mendloop.")]
    found = {tuple(cell.strip().strip("`") for cell in row.strip("|").split("|"))[:3] for row in rows}
    assert found == {
        (contract.topic, contract.message.DESCRIPTOR.name, contract.message.DESCRIPTOR.file.name.rpartition("/")[2])
        for contract in CONTRACTS
    }
