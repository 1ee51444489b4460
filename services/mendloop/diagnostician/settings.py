"""Settings of the diagnostician."""

from __future__ import annotations

from pydantic import Field

from mendloop.core.settings import ServiceSettings


class Settings(ServiceSettings):
    """Sizes of the samples that probes look at."""

    failure_sample: int = Field(24, ge=6, description="Failed items in each of the two samples.")
    corpus_sample: int = Field(64, ge=10, description="Training examples whose loss is measured.")
    embedder: str = Field("auto", description="Vectors for the axis cluster, as the evaluator's: auto or a directory.")
    fit_sample: int = Field(24, ge=10, description="Training examples that the model has to reproduce.")
