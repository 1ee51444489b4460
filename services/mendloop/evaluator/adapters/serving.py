"""vLLM as an evaluator's settings want it: a server of its own, or one that is given. Knows settings and servers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from mendloop.evaluator.settings import EvaluatorSettings
from mendloop.models.vllm_server import ServerOptions
from mendloop.models.vllm_serving import GivenServer, OwnServer


def serving_of(settings: EvaluatorSettings, *, environment: Mapping[str, str]) -> OwnServer | GivenServer:
    """What serves checkpoints; nothing is started before the first is asked for.

    environment is the process's own; our MENDLOOP_ variables are not passed on: a model's code needs none of them.
    """
    if settings.vllm_url:
        key = settings.vllm_api_key.get_secret_value() if settings.vllm_api_key else ""
        return GivenServer(settings.vllm_url, api_key=key, dtype=settings.vllm_dtype)
    has_gpu = torch.cuda.is_available()
    options = ServerOptions(
        python=settings.vllm_python or Path(sys.executable),
        log_dir=settings.work_dir / "vllm",
        dtype=settings.vllm_dtype,
        arguments=settings.vllm_arguments,
        is_on_cpu=not has_gpu,
    )
    passed_on = {key: value for key, value in environment.items() if not key.startswith("MENDLOOP_")}
    return OwnServer(options, environment=passed_on, uses_gpu=has_gpu)
