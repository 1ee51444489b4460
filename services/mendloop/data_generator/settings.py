"""Settings of the data generator. It has no field for the sealed store: nothing here can lead to a sealed item."""

from __future__ import annotations

from pydantic import Field

from mendloop.core.settings import ServiceSettings
from mendloop.data_generator.domain.collection import Limits

_DEFAULT = Limits()


class Settings(ServiceSettings):
    """Limits that end every source of candidates."""

    embedder: str = Field("auto", description="Vectors for the axis cluster, as the evaluator's: auto or a directory.")
    candidate_limit: int = Field(_DEFAULT.candidates, ge=1, description="Candidates looked at per source and slice.")
    survivor_limit: int = Field(_DEFAULT.survivors, ge=1, description="Candidates among which the selection chooses.")
    fruitless_limit: int = Field(_DEFAULT.fruitless, ge=1, description="Dropped candidates in a row that end a source.")
    source_stall_s: float = Field(120.0, gt=0, description="Seconds without a candidate after which a source is left.")

    @property
    def limits(self) -> Limits:
        """The limits as the domain knows them."""
        return Limits(self.candidate_limit, self.survivor_limit, self.fruitless_limit)
