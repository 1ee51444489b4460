"""One forward of a transformers causal model, whatever that model calls its arguments. Knows tensors; knows no text.

Shapes: B rows of a batch, T positions, V vocabulary.
"""

from __future__ import annotations

import inspect
from typing import Any

from transformers import DynamicCache


class Forward:
    """Logits of a model. Without a cache rows are padded on the right; with one, the first call pads on the left."""

    def __init__(self, model: Any) -> None:
        self.model = model
        known = inspect.signature(model.forward).parameters
        # transformers 5.24 renamed past_key_values
        self._cache_argument = "cache" if "cache" in known else "past_key_values"
        self._keeps_last = "logits_to_keep" in known
        self._takes_positions = "position_ids" in known

    @property
    def device(self) -> Any:
        """Where the model lies."""
        return self.model.device

    @property
    def vocabulary(self) -> int:
        """Width of the logits."""
        return int(self.model.config.vocab_size)

    def new_cache(self) -> Any:
        """An empty cache for cached()."""
        return DynamicCache(config=self.model.config)

    def plain(self, ids_BT: Any, *, mask_BT: Any, last: int) -> Any:
        """Logits [B, last, V] of the last positions, right-padding included."""
        return self._last(ids_BT, {"attention_mask": mask_BT, "use_cache": False}, last=last)

    def cached(self, ids_BT: Any, *, mask_BT: Any, positions_BT: Any, cache: Any, last: int) -> Any:
        """Logits [B, last, V] of ids that follow what the cache holds, and go into it; the mask is over both."""
        arguments = {"attention_mask": mask_BT, self._cache_argument: cache, "use_cache": True}
        if self._takes_positions:
            arguments["position_ids"] = positions_BT
        return self._last(ids_BT, arguments, last=last)

    def _last(self, ids_BT: Any, arguments: dict[str, Any], *, last: int) -> Any:
        if self._keeps_last:
            arguments["logits_to_keep"] = last
        return self.model(ids_BT, **arguments).logits[:, -last:]
