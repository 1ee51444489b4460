"""A worker whose CPU calls itself a GPU: accelerate shards models on accelerators alone, torch on gloo too.

So the path of FSDP runs here, over two processes without a GPU.
"""

from __future__ import annotations

from typing import Any

from accelerate import DistributedType, PartialState

from mendloop.trainer.adapters import worker

_made = PartialState.__init__


def _relabelled(self: PartialState, *args: Any, **kwargs: Any) -> None:
    _made(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


if __name__ == "__main__":
    PartialState.__init__ = _relabelled
    worker.main()
