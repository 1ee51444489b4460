"""Turns what torch, safetensors and the operating system raise into Mendloop's errors."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from mendloop.core.errors import Permanent, Retryable

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TORCH_WRITER = ("inline_container.cc", "PytorchStreamWriter")
"""torch.save names its file writer and no reason; seen on a full tmpfs: "unexpected pos 576 vs 534"."""


@contextmanager
def full_disk_is_retryable(path: Path) -> Iterator[None]:
    """Raises Retryable where writing under path failed for lack of space; other errors pass.

    torch.save and safetensors report a full disk as errors of their own, with the reason only in their text.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _is_full_disk(error):
            raise
        raise Retryable(f"no space to write under {path} ({error}): free disk space") from error


@contextmanager
def bad_start_is_permanent(path: Path) -> Iterator[None]:
    """Raises Permanent where the start checkpoint under path cannot be loaded."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise Permanent(
            f"the start checkpoint {path} cannot be loaded: {type(error).__name__}: {reason}; store it again"
        ) from error


def _is_full_disk(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return True
        if any(f"os error {number}" in str(seen).lower() for number in _FULL):
            return True
        if isinstance(seen, RuntimeError) and any(name in str(seen) for name in _TORCH_WRITER):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
