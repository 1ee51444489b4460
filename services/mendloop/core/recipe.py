"""The recipe: one typed YAML file that says what a run measures, trains, may spend and must not break."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_serializer, model_validator

from mendloop.core.arms import Arm, Arms, Dump, arm_of, without_unused
from mendloop.core.errors import InvalidRecipe
from mendloop.core.group_settings import GroupDroSettings
from mendloop.core.sections import Count, Share
from mendloop.core.sections import Section as _Section
from mendloop.core.teaching_settings import StudentWindow, TeacherSettings


class TrainSettings(_Section):
    """How a training runs. A training fix patches these by name, e.g. train.eos_in_loss."""

    steps: int = Field(200, ge=1, description="Optimizer steps.")
    batch_size: int = Field(64, ge=1, description="Examples per step.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate (AdamW, linear decay).")
    warmup_steps: Count = Field(10, description="Steps of linear warm-up.")
    weight_decay: float = Field(0.01, ge=0)
    eos_in_loss: bool = Field(True, description="Whether the end-of-sequence token carries loss.")
    prompt_in_loss: bool = Field(False, description="Whether prompt tokens carry loss.")
    on_unhealthy: Literal["refuse", "warn"] = Field(
        "refuse", description="What a failed health check of the training data does before any step."
    )
    save_steps: int = Field(50, ge=1, description="Steps between resume points.")
    max_tokens: int = Field(96, ge=8, description="Examples are cut to this many tokens; cuts are counted.")
    method: Literal["full", "lora"] = Field(
        "full", description="All weights, or low-rank adapters that are merged into the checkpoint at the end."
    )
    lora_rank: int = Field(16, ge=1, description="Rank of each adapter.")
    lora_alpha: int = Field(32, ge=1, description="Adapters are scaled by lora_alpha / lora_rank.")
    lora_targets: tuple[str, ...] = Field(
        (), description="Endings of the names of modules that get an adapter; empty: every linear layer but the last."
    )
    objective: Literal["sft", "pretrain", "dpo"] = Field(
        "sft", description="Completions; whole texts (continued pre-training); or preferences (DPO)."
    )
    dpo_beta: float = Field(0.1, gt=0, description="How strongly DPO holds the model to the one that it starts from.")
    packing: bool = Field(
        False, description="Put a step's examples into as few rows of max_tokens as they need; none sees another."
    )
    held_out_share: float = Field(0.0, ge=0, lt=1, description="Share of corpus and batch that only measures the loss.")
    held_out_every: int = Field(50, ge=1, description="Steps between two losses of the held-out part.")
    patience: Count = Field(
        0, description="Held-out losses in a row without a new lowest one that end the training; 0: none does."
    )

    group_dro: GroupDroSettings | None = Field(
        None, description="Weights on the loss of groups of examples, by how far they are above the start; null: none."
    )

    @model_serializer(mode="wrap")
    def _dumped(self, dump: Dump) -> dict[str, Any]:
        """Without group_dro where there is none: documents and hashes stay those of before the field."""
        values: dict[str, Any] = dump(self)
        return {name: value for name, value in values.items() if name != "group_dro" or value is not None}

    @model_validator(mode="after")
    def _check_objective(self) -> TrainSettings:
        if self.patience and not self.held_out_share:
            raise ValueError("patience watches the held-out loss, but held_out_share is 0; set it, e.g. to 0.05")
        if self.packing and self.objective == "dpo":
            raise ValueError("packing joins examples into rows, and DPO compares whole ones; set packing to false")
        if self.objective == "dpo" and self.prompt_in_loss:
            raise ValueError("DPO compares completions of one prompt; set prompt_in_loss to false")
        if self.group_dro and self.objective == "dpo":
            raise ValueError("group_dro weighs the losses of examples, and DPO learns from pairs; remove either")
        if self.group_dro and self.packing:
            raise ValueError(
                "group_dro weighs rows, and packing joins examples of several groups; set packing to false"
            )
        return self


class BaseSettings(_Section):
    """The checkpoint that the run measures first."""

    model: str = Field(description="A checkpoint directory, or package:NAME for one that ships.")
    train: TrainSettings | None = Field(None, description="Continue training on the corpus before measuring.")


class ReaderAxis(_Section):
    """An axis whose value a language model reads off each item."""

    axis: str = Field(min_length=1, description="Name of the axis; suite.axes has it too.")
    question: str = Field(min_length=1, description="What is asked about an item.")
    values: dict[str, str] = Field(min_length=2, description="The closed list of answers, and what each means.")


class AxesReader(_Section):
    """The language model that reads axes, and the labelled items by which its agreement with people is measured."""

    url: str = Field(description="OpenAI-compatible endpoint, e.g. http://HOST:PORT/v1.")
    model: str = Field(description="Name of the model there.")
    api_key_file: Path | None = Field(None, description="File with the endpoint's key, where the recipe is submitted.")
    axes: list[ReaderAxis] = Field(min_length=1)
    labelled: Path = Field(
        description="JSONL of items that people labelled: prompt, target (optional), axes {axis: value}; 30 or more"
        " an axis; relative to where the recipe is submitted."
    )
    floor: float = Field(
        0.6, ge=0, le=1, description="Least lower end of kappa's 95 % interval; an axis below it is refused."
    )
    max_tokens: int = Field(16, ge=1, description="Most tokens of an answer.")
    timeout_s: float = Field(60.0, gt=0, description="Seconds that an answer may take.")
    concurrency: int = Field(8, ge=1, le=256, description="Questions at a time.")


class SuiteSettings(_Section):
    """What is measured."""

    search: int = Field(600, ge=20, description="Items in which weak slices are searched.")
    confirm: int = Field(300, ge=20, description="Items on which a weak slice must show again.")
    sealed: int = Field(300, ge=0, description="Items that only gates see, and only as counts.")
    twins: bool = Field(
        False, description="Whether each round also measures fresh twins of the target items; the family draws them."
    )
    axes: list[str] = Field(min_length=1, description="Axes whose values are combined into slices.")
    axis_rules: list[dict[str, Any]] = Field(
        default_factory=list, description="Axes by rule: axis, field, and values, capture or count (expressions)."
    )
    axes_reader: AxesReader | None = Field(None, description="Axes that a language model reads off the items.")
    max_depth: int = Field(2, ge=1, le=4, description="Most conditions in one slice.")
    weak_below: Share = Field(0.8, description="A slice is weak where its accuracy is below this.")
    min_items: int = Field(20, ge=5, description="Fewest items of a slice on the search split.")
    fdr: float = Field(0.05, gt=0, lt=1, description="False discovery rate (Benjamini-Hochberg).")
    max_slices: int = Field(4, ge=1, description="Most weak slices that one evaluation reports.")
    max_new_tokens: int = Field(64, ge=1, description="Generation limit.")
    shards: int = Field(2, ge=1, description="Pieces that replicas score in parallel.")
    backend: Literal["transformers", "vllm"] = Field(
        "transformers", description="What runs the model; vllm pays off for large models on a GPU."
    )
    temperature: float = Field(0.0, ge=0, description="0 takes the likeliest token; above it, outputs are drawn.")
    top_p: float = Field(1.0, gt=0, le=1, description="Draw only from the likeliest tokens with this probability.")
    repeats: int = Field(1, ge=1, le=1024, description="Draws of each item; needs a temperature above 0.")
    seed: Count = Field(0, description="Seed of the draws; the items come from the recipe's own seed.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the task family.")

    @model_validator(mode="after")
    def _check_draws(self) -> SuiteSettings:
        if self.repeats > 1 and not self.temperature:
            raise ValueError(
                f"repeats is {self.repeats} with temperature 0: the same output that many times; "
                "set suite.temperature above 0, or repeats to 1"
            )
        return self

    @model_validator(mode="after")
    def _check_reader(self) -> SuiteSettings:
        unused = [one.axis for one in (self.axes_reader.axes if self.axes_reader else ()) if one.axis not in self.axes]
        if unused:
            raise ValueError(f"axes_reader reads {', '.join(unused)}, which suite.axes does not have; add or remove it")
        return self


class PriceSettings(_Section):
    """What a unit of metered work costs, in one currency."""

    gpu_hour: float = Field(0.0, ge=0, description="Price of an hour of one GPU.")
    teacher_mtokens: float = Field(0.0, ge=0, description="Price of a million tokens of the teacher.")
    currency: str = Field("", max_length=16, description="Unit of all prices and of budget.money, for people.")


class DecontaminationSettings(_Section):
    """What is taken out of corpus, pool and batches beside prompts that are evaluation items."""

    ngram_words: Count = Field(
        0, description="An example with runs of this many words of an item is contaminated; 0: prompts alone; usual: 8."
    )
    ngram_share: float = Field(0.7, gt=0, le=1, description="Share of one item's runs that an example must hold.")


class RetrievalSettings(_Section):
    """Rows of the pool that are most like the slice's search items, asked for before the pool by axis values alone."""

    mode: Literal["hybrid", "bm25", "vectors"] = Field("hybrid", description="What likeness is; hybrid fuses both.")
    queries: int = Field(16, ge=1, le=256, description="Items of the slice whose prompts are the queries.")
    top: int = Field(1000, ge=1, description="Most rows that it finds for one slice.")


class CurationSettings(_Section):
    """What a data round does to the corpus that it replays, beside adding examples."""

    repair: Literal["off", "slices", "whole"] = Field(
        "off",
        description="Wrong labels are answered anew and verified, or their rows removed: of the slices whose data is"
        " diagnosed as corrupted, or of the whole corpus.",
    )
    reweight: Share = Field(
        0.0, description="Share of the replay that goes to the clusters in which the round's slices lie."
    )
    clusters: int = Field(8, ge=1, le=64, description="Most clusters of the corpus.")


class BudgetSettings(_Section):
    """What the run may spend; reserved before work starts."""

    new_examples: Count = Field(64, description="Examples that may be added; controls have as many of their own.")
    train_tokens: Count = Field(20_000_000, description="Tokens that candidate trainings may process.")
    wall_s: float = Field(3600, gt=0, description="Wall-clock seconds of the run.")
    gpu_s: float | None = Field(None, ge=0, description="GPU-seconds of the whole run; default: any number.")
    teacher_tokens: int | None = Field(
        None, ge=0, description="Tokens that teachers may generate; default: any number."
    )
    money: float | None = Field(None, ge=0, description="Metered work at budget.prices; default: any amount.")
    prices: PriceSettings = Field(default_factory=lambda: PriceSettings())

    @model_validator(mode="after")
    def _check_prices(self) -> BudgetSettings:
        if self.money is not None and not (self.prices.gpu_hour or self.prices.teacher_mtokens):
            raise ValueError("money is limited, but nothing has a price: set budget.prices, or remove budget.money")
        return self


class AllocationSettings(_Section):
    """How a round's new examples are split over the weak slices."""

    strategy: Literal["by_failures", "expected_gain"] = Field(
        "by_failures", description="By failed items, or by the gain that past rounds of the run let expect."
    )
    floor: float | None = Field(
        None,
        ge=0,
        description="The run stops where a round is expected to put right fewer failed items; default: never.",
    )


class GateSettings(_Section):
    """What a candidate must show."""

    alpha: float = Field(0.05, gt=0, lt=1, description="Error rate of each family of tests.")
    margin: Share = Field(0.05, description="Most accuracy that a protected slice may lose.")
    protected: list[str] = Field(default_factory=list, description="Axes whose values are protected; empty: all axes.")
    sealed_queries: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Candidates, over all runs, that one set of sealed items may judge; default: any.",
    )


class Recipe(_Section):
    """A whole run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    task: str = Field(description="Task family, e.g. scan.")
    seed: int = 0
    template: str = Field("{prompt}", description="How a prompt is put to the model; contains {prompt}.")
    base: BaseSettings
    corpus: dict[str, Any] = Field(default_factory=dict, description="Options of the training corpus.")
    pool: dict[str, Any] = Field(default_factory=dict, description="Options of the pool that data is retrieved from.")
    retrieval: RetrievalSettings | None = Field(None, description="How the pool is searched; null: by axis values.")
    suite: SuiteSettings
    teacher: TeacherSettings | None = Field(None, description="A language model that makes examples for weak slices.")
    decontamination: DecontaminationSettings = Field(default_factory=lambda: DecontaminationSettings())
    curation: CurationSettings = Field(default_factory=lambda: CurationSettings())
    fix: TrainSettings = Field(default_factory=lambda: TrainSettings(), description="Training of data candidates.")
    student_window: StudentWindow | None = Field(None, description="Which pass rates of the student a candidate has.")
    rewordings: bool = Field(
        False, description="Whether seeds that the task family says in other words are candidates, after its teacher."
    )
    step_data: bool = Field(
        False,
        description="Whether new examples must exercise the operation at which most failed outputs go wrong first.",
    )
    replay_share: Share = Field(0.7, description="Share of the old corpus in a data candidate's training.")
    budget: BudgetSettings = Field(default_factory=lambda: BudgetSettings())
    allocation: AllocationSettings = Field(default_factory=lambda: AllocationSettings())
    gates: GateSettings = Field(default_factory=lambda: GateSettings())
    rounds: int = Field(1, ge=1, description="Most rounds of intervention.")
    approval: bool = Field(False, description="Whether a person approves each intervention.")
    review: bool = Field(False, description="Whether people review each new batch before it is trained on.")
    arms: Arms = Field(default_factory=list)

    @model_serializer(mode="wrap")
    def _dumped(self, dump: Dump) -> dict[str, Any]:
        return without_unused(dump(self))

    @property
    def control_arms(self) -> tuple[Arm, ...]:
        """The controls of a data round, in their order."""
        return tuple(arm_of(setting) for setting in self.arms)

    @property
    def asks_student(self) -> bool:
        """Whether the data generator draws answers of the checkpoint that failed."""
        return self.student_window is not None or (self.teacher is not None and self.teacher.violations == "student")


def parse_recipe(text: str, *, source: str) -> Recipe:
    """The recipe in a YAML text. Raises InvalidRecipe with line, field, value and what to do."""
    try:
        node = yaml.compose(text)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidRecipe(f"{source} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise InvalidRecipe(f"{source} holds {type(data).__name__}, not a mapping of recipe fields")
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = [_complaint(fault, node=node, source=source) for fault in error.errors()]
        raise InvalidRecipe("\n".join(lines)) from error


def load_recipe(path: Path) -> Recipe:
    """The recipe in a file. Raises InvalidRecipe where it is missing or wrong."""
    try:
        text = path.read_text()
    except OSError as error:
        raise InvalidRecipe(f"cannot read the recipe {path}: {error.strerror}") from error
    return parse_recipe(text, source=str(path))


def _complaint(fault: Any, *, node: yaml.Node | None, source: str) -> str:
    path = fault["loc"]
    line = _line_of(node, path)
    name = ".".join(str(part) for part in path)
    advice = "remove it or correct its name" if fault["type"] == "extra_forbidden" else "correct it"
    value = "" if fault["type"] == "missing" else f" (value: {fault['input']!r})"
    if fault["type"] == "missing":
        advice = "add it"
    return f"{source}:{line}: {name}: {fault['msg']}{value}; {advice}"


def _line_of(node: yaml.Node | None, path: tuple[str | int, ...]) -> int:
    """The line of a field, or of its nearest parent that stands in the file."""
    line = 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
