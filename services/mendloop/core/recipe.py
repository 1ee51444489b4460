"""The recipe: one typed YAML file that says what a run measures, trains, may spend and must not break."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mendloop.core.errors import InvalidRecipe

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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

    new_examples: Count = Field(64, description="Examples that may be added.")
    train_tokens: Count = Field(20_000_000, description="Tokens that candidate trainings may process.")
    wall_s: float = Field(3600, gt=0, description="Wall-clock seconds of the run.")


class GateSettings(_Section):
    """What a candidate must show."""

    alpha: float = Field(0.05, gt=0, lt=1, description="Error rate of each family of tests.")
    margin: Share = Field(0.05, description="Most accuracy that a protected slice may lose.")
    protected: list[str] = Field(default_factory=list, description="Axes whose values are protected; empty: all axes.")


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
    decontamination: DecontaminationSettings = Field(default_factory=lambda: DecontaminationSettings())
    curation: CurationSettings = Field(default_factory=lambda: CurationSettings())
    fix: TrainSettings = Field(default_factory=lambda: TrainSettings(), description="Training of data candidates.")
    replay_share: Share = Field(0.7, description="Share of the old corpus in a data candidate's training.")
    budget: BudgetSettings = Field(default_factory=lambda: BudgetSettings())
    gates: GateSettings = Field(default_factory=lambda: GateSettings())
    rounds: int = Field(1, ge=1, description="Most rounds of intervention.")
    approval: bool = Field(False, description="Whether a person approves each intervention.")


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
