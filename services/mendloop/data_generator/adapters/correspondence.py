"""Letters to a teacher and its replies: kept with the plan, so that a plan that starts again asks nothing twice.

Knows an endpoint, a store and what replies cost; knows no example.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from mendloop.artifacts.store import ArtifactStore
from mendloop.core.errors import MendloopError, Permanent, Retryable
from mendloop.core.events import stable_hash
from mendloop.data_generator.ports import SourceGaveUp
from mendloop.models.chat import Said

KEPT = "teacher-replies"
ADVICE = "start it, or correct {place}.url, or raise teacher.timeout_s"


@dataclass(frozen=True, slots=True)
class Letter:
    """One question. The seed draws the reply."""

    text: str
    seed: int


class Correspondence:
    """What one plan asks of one teacher. The same plan gets the same replies, whatever the teacher would say now."""

    def __init__(
        self,
        say: Callable[[str, int], Said],
        *,
        store: ArtifactStore,
        plan_id: str,
        url: str,
        concurrency: int,
        token_limit: int,
        place: str = "teacher",
        spent_elsewhere: Callable[[], int] = lambda: 0,
    ) -> None:
        """place: where the recipe names it. spent_elsewhere: tokens of others that count against the same limit."""
        self._place, self._spent_elsewhere = place, spent_elsewhere
        self._say, self._store, self._plan_id, self._url = say, store, plan_id, url
        self._concurrency, self._token_limit = concurrency, token_limit
        self._lock = threading.Lock()
        self.token_count = 0
        """Tokens that the teacher generated for this plan, in an earlier attempt too."""
        self.unmetered_count = 0
        """Replies of which the server did not say what they cost."""

    def replies(self, letters: Sequence[Letter]) -> list[Said | None]:
        """One reply a letter, in order; None where the teacher is away, busy or broken for this one alone.

        Raises SourceGaveUp where it answers none of them, refuses, or has spent its tokens.
        """
        spent = self.token_count + self._spent_elsewhere()
        if spent >= self._token_limit:
            raise SourceGaveUp(
                f"the {self._place.rpartition('.')[2]} at {self._url} generated {spent} tokens for this plan and"
                f" its limit is {self._token_limit}"
            )
        with ThreadPoolExecutor(min(self._concurrency, len(letters))) as pool:
            got = list(pool.map(self._reply, letters))
        faults = [one for one in got if isinstance(one, MendloopError)]
        refusal = next((fault for fault in faults if isinstance(fault, Permanent)), None)
        if refusal is not None:
            raise SourceGaveUp(f"{refusal}; correct {self._place}.model, its key or its url") from refusal
        if len(faults) == len(got):
            raise SourceGaveUp(f"{faults[0]}; {ADVICE.format(place=self._place)}") from faults[0]
        return [one if isinstance(one, Said) else None for one in got]

    def _reply(self, letter: Letter) -> Said | MendloopError:
        name = stable_hash("teacher-reply", self._plan_id, self._url, str(letter.seed), letter.text)
        kept = self._store.get_doc(KEPT, name)
        if kept is not None:
            said = Said(**json.loads(kept))
        else:
            try:
                said = self._say(letter.text, letter.seed)
            except (Retryable, Permanent) as error:
                return error
            self._store.put_doc(KEPT, name, json.dumps(asdict(said)).encode())
        with self._lock:
            self.token_count += said.token_count or 0
            self.unmetered_count += said.token_count is None
        return said
