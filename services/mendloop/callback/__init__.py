"""An evaluation loop for anybody's Hugging Face Trainer: `Trainer(..., callbacks=[MendloopCallback("recipe.yaml")])`.

Owns measuring a model while it trains, on the evaluator's own path, and telling EvalCompleted and EvalFailed.
Needs no service: its bus and its store lie in a folder; a setting sends the events to Kafka instead.
Promises: the training ends with the same bytes as without it, and no error of an evaluation ends the training.
"""

from __future__ import annotations

from mendloop.callback.adapters.hf_callback import MendloopCallback

__all__ = ["MendloopCallback"]
