"""Do the earlier checkpoint and the model's own draws agree on one other answer than the target? Fills target_check.

Where no program can judge, agreement of several solvers against the target is the best sign of a wrong one. Two
checkpoints that share their training data may share an error: this is no proof.
"""

from __future__ import annotations

from mendloop.core.records import Item
from mendloop.diagnostician.adapters.probes.counterfactual import both, cannot, shares
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.probes.target_check import NAME as TARGET_CHECK
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.models.generation import Sampling, SamplingModel

NAME = "target_agreement"
AGREED = "agreed_other_share"
DRAWS = 3
TEMPERATURE = 0.8


class TargetAgreement:
    """Asks the start checkpoint once and the model a few times at random; all must say what the stored output said."""

    name = NAME
    cost_class = CostClass.GENERATED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample: share of failed items on which stored output, start checkpoint and every draw say the same."""
        rows = both(case)
        if case.earlier is None or not isinstance(case.model, SamplingModel) or not rows:
            why = "Agreement needs failed items, the start checkpoint, and a model that draws outputs at random."
            return cannot(case, TARGET_CHECK, (AGREED,), why)
        limit, stop = case.suite.max_new_tokens, case.task.stop_strings
        prompts = [case.template(row.item.prompt) for row in rows]
        before = case.earlier.generate(prompts, max_new_tokens=limit, stop=stop)
        seeds = tuple(case.seed + at for at in range(DRAWS * len(rows)))
        sampling = Sampling(TEMPERATURE, 1.0, seeds)
        drawn = case.model.sample(prompts * DRAWS, sampling=sampling, max_new_tokens=limit, stop=stop)
        agreed = set()
        for at, row in enumerate(rows):
            said = [before[at].text, *(drawn[at + turn * len(rows)].text for turn in range(DRAWS))]
            as_item = Item("stored-output", row.item.prompt, row.outcome.output.strip() or "-", row.item.split)
            if row.outcome.output.strip() and all(case.task.score(as_item, text).value >= 1 for text in said):
                agreed.add(row.item.item_id)
        words = f"got the same other answer from the start checkpoint and from {DRAWS} random draws."
        return tuple(shares(case, TARGET_CHECK, AGREED, agreed, words))
