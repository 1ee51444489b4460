"""The probes that exist, one line each; their cost class orders them. The one place that knows all of them."""

from __future__ import annotations

from mendloop.diagnostician.adapters.looking import Looking
from mendloop.diagnostician.adapters.probes.attribution import AttributionProbe
from mendloop.diagnostician.adapters.probes.earlier_checkpoint import EarlierCheckpoint
from mendloop.diagnostician.adapters.probes.first_steps import FirstSteps
from mendloop.diagnostician.adapters.probes.label_noise import LabelNoise
from mendloop.diagnostician.adapters.probes.linear_probe import LinearProbe
from mendloop.diagnostician.adapters.probes.longer_budget import LongerBudget
from mendloop.diagnostician.adapters.probes.more_training import MoreTraining
from mendloop.diagnostician.adapters.probes.open_book import OpenBook
from mendloop.diagnostician.adapters.probes.paraphrase import Paraphrase
from mendloop.diagnostician.adapters.probes.pass_at_k import PassAtK
from mendloop.diagnostician.adapters.probes.patching import Patching
from mendloop.diagnostician.adapters.probes.reformat import Reformat
from mendloop.diagnostician.adapters.probes.target_agreement import TargetAgreement
from mendloop.diagnostician.adapters.probes.template_parity import TemplateParity
from mendloop.diagnostician.adapters.probes.token_loss import TokenLoss
from mendloop.diagnostician.adapters.probes.training_fit import TrainingFit
from mendloop.diagnostician.domain.probes.corpus_coverage import CorpusCoverage
from mendloop.diagnostician.domain.probes.forced_stop import ForcedStop
from mendloop.diagnostician.domain.probes.label_audit import LabelAudit
from mendloop.diagnostician.domain.probes.leakage import Leakage
from mendloop.diagnostician.domain.probes.loss_curve import LossCurve
from mendloop.diagnostician.domain.probes.rescoring import Rescoring
from mendloop.diagnostician.domain.probes.step_check import StepCheck
from mendloop.diagnostician.domain.probes.step_coverage import StepCoverage
from mendloop.diagnostician.domain.probes.stored_variants import StoredVariants
from mendloop.diagnostician.domain.probes.target_check import TargetCheck
from mendloop.diagnostician.domain.probing import Probe


def all_probes(*, corpus_sample: int = 64, fit_sample: int = 24) -> tuple[Probe, ...]:
    """Every probe. corpus_sample: training examples whose loss is measured; fit_sample: those to be reproduced."""
    look = Looking()  # both probes that look inside share one loaded model
    return (
        LabelAudit(),
        StoredVariants(),
        StepCheck(),
        StepCoverage(),
        LossCurve(),
        Leakage(),
        TargetCheck(),
        ForcedStop(),
        Rescoring(),
        CorpusCoverage(),
        TokenLoss(size=corpus_sample),
        LinearProbe(look=look),
        TrainingFit(size=fit_sample),
        LabelNoise(size=fit_sample),
        LongerBudget(),
        TemplateParity(size=fit_sample),
        Reformat(),
        Paraphrase(),
        EarlierCheckpoint(),
        FirstSteps(),
        PassAtK(),
        TargetAgreement(),
        OpenBook(),
        MoreTraining(),
        Patching(look=look),
        AttributionProbe(),
    )
