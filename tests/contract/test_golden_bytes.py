"""Every event's bytes stay what subscribers know. `python tests/contract/test_golden_bytes.py` writes new goldens."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from messages import filled

from mendloop.core.contracts import CONTRACTS, Contract, decode

GOLDEN = Path(__file__).with_name("golden.json")


def _encoded(contract: Contract) -> str:
    return filled(contract.message()).SerializeToString(deterministic=True).hex()


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.event_type)
def test_filled_message_has_the_golden_bytes(contract: Contract) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert _encoded(contract) == golden[contract.event_type]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.event_type)
def test_golden_bytes_are_read_back_whole(contract: Contract) -> None:
    golden = bytes.fromhex(json.loads(GOLDEN.read_text())[contract.event_type])
    message = decode(contract.event_type, golden)
    assert message == filled(contract.message())
    assert all(message.HasField(f.name) for f in message.DESCRIPTOR.fields if f.has_presence)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({c.event_type: _encoded(c) for c in CONTRACTS}, indent=1) + "\n")
