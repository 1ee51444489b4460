"""Settings of the evaluator. Only __main__ builds them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from mendloop.core.settings import ServiceSettings


class EvaluatorSettings(ServiceSettings):
    """What the evaluator needs beside the shared settings."""

    sealed_artifacts_uri: str = Field(
        "file://.mendloop/sealed", description="Where sealed items and their outcomes lie (fsspec URI or path)."
    )
    embedder: str = Field(
        "auto", description="Vectors for the axis cluster: auto (packaged sentence model), tfidf, or a directory."
    )
    vllm_url: str = Field("", description="vLLM server that serves the checkpoint; empty starts one where needed.")
    vllm_api_key: SecretStr | None = Field(None, description="Key of that server.")
    vllm_python: Path | None = Field(
        None, description="Interpreter of vLLM's environment; none takes that of the evaluator."
    )
    vllm_arguments: tuple[str, ...] = Field((), description="Further arguments of the server, as a JSON list.")
    vllm_dtype: str = Field("", description="Numeric type of the server; empty takes that of the checkpoint.")
