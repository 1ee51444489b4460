"""Settings of the evaluator. Only __main__ builds them."""

from __future__ import annotations

from pydantic import Field

from mendloop.core.settings import ServiceSettings


class EvaluatorSettings(ServiceSettings):
    """What the evaluator needs beside the shared settings."""

    sealed_artifacts_uri: str = Field(
        "file://.mendloop/sealed", description="Where sealed items and their outcomes lie (fsspec URI or path)."
    )
