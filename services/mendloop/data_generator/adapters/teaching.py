"""The language teacher of a recipe, hired for one plan: its sources, its checks, and what it costs."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mendloop.artifacts.store import ArtifactStore
from mendloop.axes.annotate import CLUSTER
from mendloop.core.errors import InvalidRecipe, Permanent
from mendloop.core.events import stable_hash
from mendloop.core.records import Example, Item
from mendloop.core.task_hooks import Rewording
from mendloop.core.tasks import Conditions, Task
from mendloop.core.teaching_settings import TeacherSettings
from mendloop.data_generator.adapters.agreement import Agreement
from mendloop.data_generator.adapters.correspondence import Correspondence
from mendloop.data_generator.adapters.critic import Answers, Critic
from mendloop.data_generator.adapters.language_teacher import Habits, LanguageTeacher
from mendloop.data_generator.adapters.rewording import RewordingSource
from mendloop.data_generator.adapters.second_judge import Both, SecondJudge
from mendloop.data_generator.domain.funnel import GARBAGE_ERRORS
from mendloop.data_generator.domain.lesson import Seeds, seeds_of
from mendloop.data_generator.domain.window import PassRateWindow
from mendloop.data_generator.ports import Assignment, Cost, Source, Student, Teaching
from mendloop.models.chat import ChatEndpoint, Said

PLACED = 2_000
"""Examples of the corpus that are placed on the axis cluster to find seeds: each is embedded."""
_NAMES = {"write": "teacher", "rewrite": "rewriter"}


def hired(
    job: Assignment,
    *,
    store: ArtifactStore,
    pause: Callable[[float], None] = time.sleep,
    on_result: Callable[[str], None] = lambda result: None,
) -> Teaching:
    """What the recipe's teacher gives, the task's rewordings and the window, where it asks for them; else nothing."""
    recipe, own = job.spec.recipe, _own_sources(job)
    if recipe.teacher is None:
        return Teaching(own, window=_window(job), cost=lambda: _cost(None, job.student))
    letters = _correspondence(job, recipe.teacher, store=store, say=partial(_say, recipe.teacher, pause, on_result))
    agreement = _agreement(job, recipe.teacher, letters)
    judge = _second_judge(job, recipe.teacher, letters, store=store, pause=pause)
    return Teaching(
        (*own, *_teachers(job, recipe.teacher, letters)),
        place=recipe.teacher.asked,
        confirms=Both(agreement, judge.check) if judge else agreement,
        pairs=_critic(job, recipe.teacher, letters),
        window=_window(job),
        cost=lambda: _cost(letters, job.student, judge.letters if judge else None),
        notes=judge.check.notes if judge else tuple,
    )


class _Hired(NamedTuple):
    """A second judge, and what it is asked by."""

    check: SecondJudge
    letters: Correspondence


def _second_judge(
    job: Assignment,
    settings: TeacherSettings,
    letters: Correspondence,
    *,
    store: ArtifactStore,
    pause: Callable[[float], None],
) -> _Hired | None:
    """The recipe's second judge; its tokens count against the teacher's limit."""
    judge = settings.judge
    if judge is None:
        return None
    own = {"url": judge.url, "model": judge.model, "api_key_file": judge.api_key_file}
    asked = settings.model_copy(update={**own, "temperature": 0.0, "max_tokens": judge.max_tokens})
    posted = Correspondence(
        partial(_say, asked, pause, _uncounted, role="judge"),
        store=store,
        plan_id=job.plan_id,
        url=judge.url,
        concurrency=settings.concurrency,
        token_limit=_token_limit(job, settings),
        place="teacher.judge",
        spent_elsewhere=lambda: letters.token_count,
    )
    check = SecondJudge(posted, judge, corpus=job.corpus, is_same=partial(_is_same, job.task), shots=settings.shots)
    return _Hired(check, posted)


def _uncounted(result: str) -> None:
    """A judge is no teacher: its calls are in no metric of teachers."""


def _token_limit(job: Assignment, settings: TeacherSettings) -> int:
    return min(settings.token_limit, job.token_limit or settings.token_limit)


def _correspondence(
    job: Assignment, settings: TeacherSettings, *, store: ArtifactStore, say: Callable[[str, int], Said]
) -> Correspondence:
    return Correspondence(
        say,
        store=store,
        plan_id=job.plan_id,
        url=settings.url,
        concurrency=settings.concurrency,
        token_limit=_token_limit(job, settings),
    )


def _teachers(job: Assignment, settings: TeacherSettings, letters: Correspondence) -> list[LanguageTeacher]:
    return [
        LanguageTeacher(
            letters,
            name=f"{_NAMES[way]}:{settings.model}",
            habits=_habits(settings),
            seeds=partial(_seeds, job),
            rewrites=way == "rewrite",
        )
        for way in settings.ways
    ]


def _agreement(job: Assignment, settings: TeacherSettings, letters: Correspondence) -> Agreement:
    return Agreement(
        letters,
        corpus=job.corpus,
        is_same=partial(_is_same, job.task),
        shots=settings.shots,
        answers=settings.answers,
        share=settings.agreement,
    )


def _critic(job: Assignment, settings: TeacherSettings, letters: Correspondence) -> Critic:
    return Critic(
        letters,
        name=f"critic:{settings.model}",
        prompts_a_time=settings.variants_per_seed,
        fruitless_limit=settings.fruitless_limit,
        answers=_violations(job, settings),
    )


def _violations(job: Assignment, settings: TeacherSettings) -> Answers | None:
    if settings.violations == "teacher":
        return None
    student = _student(job, wanted_by="teacher.violations")
    return lambda prompts, seed: student.answers(prompts, temperature=settings.temperature, seed=seed)


def _window(job: Assignment) -> PassRateWindow | None:
    window = job.spec.recipe.student_window
    if window is None:
        return None
    student = _student(job, wanted_by="student_window")

    def answers(prompt: str) -> list[str]:
        seed = int(stable_hash("pass-rate", prompt)[:8], 16)
        return student.answers([prompt] * window.samples, temperature=window.temperature, seed=seed)

    return PassRateWindow(window.low, window.high, answers, partial(_is_right, job.task))


def _student(job: Assignment, *, wanted_by: str) -> Student:
    if job.student is None:
        raise InvalidRecipe(f"{wanted_by} asks the checkpoint that failed, and this data generator loads none")
    return job.student


def _own_sources(job: Assignment) -> tuple[Source, ...]:
    if not job.spec.recipe.rewordings:
        return ()
    if not isinstance(job.task, Rewording):
        raise InvalidRecipe(f"task {job.spec.recipe.task!r} cannot say its prompts in other words: remove rewordings")
    return (RewordingSource(job.task.rewordings, task_name=job.spec.recipe.task, seeds=partial(_seeds, job)),)


def _say(
    settings: TeacherSettings,
    pause: Callable[[float], None],
    on_result: Callable[[str], None],
    text: str,
    seed: int,
    *,
    role: str = "teacher",
) -> Said:
    return ChatEndpoint(
        settings.url,
        settings.model,
        role=role,
        api_key=_key(settings.api_key_file, place="teacher" if role == "teacher" else "teacher.judge"),
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        timeout_s=settings.timeout_s,
        attempts=settings.attempts,
        pause=pause,
        on_result=on_result,
    ).say(text, seed=seed)


def _key(path: Path | None, *, place: str) -> str:
    """Read for each question: a key that is renewed counts from then on."""
    try:
        return path.read_text().strip() if path else ""
    except OSError as error:
        raise Permanent(f"{place}.api_key_file {path} cannot be read: {error.strerror}") from error


def _habits(settings: TeacherSettings) -> Habits:
    return Habits(
        shots=settings.shots,
        variants_per_seed=settings.variants_per_seed,
        tries_per_seed=settings.tries_per_seed,
        concurrency=settings.concurrency,
        fruitless_limit=settings.fruitless_limit,
    )


def _seeds(job: Assignment, conditions: Conditions, seed: int) -> Seeds:
    corpus = job.corpus
    if job.places is not None and any(axis == CLUSTER for axis, _ in conditions):
        some = random.Random(seed).sample(corpus, min(PLACED, len(corpus)))
        corpus = job.places.placed(some)
    return seeds_of(corpus, conditions, held_out=job.held_out, seed=seed)


def _is_same(task: Task, example: Example, answer: str) -> bool:
    """Word for word, or by the task's lenient scorer."""
    if not answer or answer.split() == example.completion.split():
        return bool(answer)
    try:
        return task.rescore(Item("candidate", example.prompt, example.completion, "search"), answer).value >= 1
    except GARBAGE_ERRORS:
        return False


def _is_right(task: Task, example: Example, output: str) -> bool:
    """By the task's program where it confirms the example's own answer, else by comparison with that."""
    if _verifies(task, example.prompt, example.completion):
        return bool(output) and _verifies(task, example.prompt, output)
    return _is_same(task, example, output)


def _verifies(task: Task, prompt: str, output: str) -> bool:
    try:
        return task.verify(prompt, output)
    except GARBAGE_ERRORS:
        return False


def _cost(letters: Correspondence | None, student: Student | None, judge: Correspondence | None = None) -> Cost:
    own = student.token_count if student else 0
    asked = [one for one in (letters, judge) if one is not None]
    return Cost(own + sum(one.token_count for one in asked), sum(one.unmetered_count for one in asked))
