// What views need of a run's document that the document does not say in one place. Pure.
import { sliceName } from "../format.js";

export const mainRounds = (run) => run.rounds.filter((round) => !round.arm);
export const armRounds = (run) => run.rounds.filter((round) => round.arm);

export const measuredRounds = (run) => mainRounds(run).filter((round) => round.evaluation);

// Questions that wait for a person: [{round, planId, summary, price, isReview}].
export function waitingQuestions(run) {
  if (run.state === "finished") return [];
  return run.rounds.flatMap((round) => [
    ...asked(round, round.approval, false),
    ...asked(round, round.review, true),
  ]);
}

function asked(round, part, isReview) {
  if (!part?.question || part.answer) return [];
  const { text, price } = splitPrice(part.question.summary);
  return [{ round: round.round, planId: part.question.plan_id, summary: text, price, isReview, at: part.question.stamp.at }];
}

// The controller writes "why; holds 32 new_examples, 9000 train_tokens": the reason, and what the plan reserves.
export function splitPrice(summary) {
  const at = summary.lastIndexOf("; holds ");
  if (at < 0) return { text: summary, price: [] };
  const price = summary.slice(at + 8).split(", ").map((part) => {
    const [amount, resource] = part.split(" ");
    return { resource, amount: Number(amount) };
  });
  const isRead = price.every((part) => part.resource && Number.isFinite(part.amount));
  return isRead ? { text: summary.slice(0, at), price } : { text: summary, price: [] };
}

// Accuracy over the rounds: all items first, then each slice: [{key, name, isWeak, points}]. A point is an accuracy and its round.
export function trends(run) {
  const rounds = measuredRounds(run);
  const weak = weakSlices(run);
  const series = new Map([["", { key: "", name: "all items", isWeak: false, points: [] }]]);
  for (const { round, evaluation } of rounds) {
    series.get("").points.push({ round, ...evaluation.accuracy });
    for (const { slice, accuracy } of evaluation.slices) {
      if (!slice.conditions.length) continue; // the slice of all items is the first line
      if (!series.has(slice.slice_id)) {
        series.set(slice.slice_id, { key: slice.slice_id, name: sliceName(slice), isWeak: weak.has(slice.slice_id), points: [] });
      }
      series.get(slice.slice_id).points.push({ round, ...accuracy });
    }
  }
  return [...series.values()].filter((one) => one.points.some((point) => point.n));
}

// Ids of slices that were weak in any round of the main arm.
export function weakSlices(run) {
  return new Set(mainRounds(run).flatMap((round) => round.failures.map((failure) => failure.slice.slice_id)));
}

// The slices as /slices gives them, for a gateway that has no such endpoint.
export function slicesOf(run) {
  const newest = measuredRounds(run).slice(-1)[0];
  const weakNow = new Set(newest ? newest.failures.map((failure) => failure.slice.slice_id) : []);
  const causes = new Map(run.rounds.flatMap((r) => r.diagnoses.map((d) => [d.slice.slice_id, d])));
  const failures = new Map(mainRounds(run).flatMap((r) => r.failures.map((f) => [f.slice.slice_id, f])));
  const known = new Map(trends(run).filter((one) => one.key).map((one) => [one.key, one]));
  for (const [key, failure] of failures) {
    if (!known.has(key)) known.set(key, { key, name: sliceName(failure.slice), isWeak: true, points: failurePoints(failure, run) });
  }
  return [...known.values()].map((one) => ({
    slice_id: one.key, definition: one.name, is_weak: one.isWeak, is_weak_now: weakNow.has(one.key), cause: causes.get(one.key)?.cause || "",
    confidence: causes.get(one.key)?.confidence ?? null, trend: one.points.map((point) => ({ arm: "", ...point })),
  }));
}

function failurePoints(failure, run) {
  const found = mainRounds(run).find((r) => r.failures.includes(failure));
  return [...failure.trend.map((point) => ({ round: point.round, ...point.accuracy })), { round: found.round, ...failure.accuracy }];
}

// Limits with what was used when: [{resource, limit, used, points: [{at (ms), used}]}]. The base training is no candidate.
export function budgets(run, now = Date.now()) {
  const facts = run.recipe_facts;
  if (!facts) return [];
  const later = run.rounds.filter((round) => round.round > 0);
  const start = Date.parse(run.started_at);
  const end = run.finished_at ? Date.parse(run.finished_at) : now;
  const batches = later.flatMap((r) => [r.reviewed || r.batch]).filter(Boolean).map((b) => [b.stamp.at, b.example_count]);
  const trainings = later.flatMap((r) => [r.checkpoint, r.training_failure]).filter(Boolean).map((c) => [c.stamp.at, c.cost.token_count]);
  const wall = [[start, 0], [end, (end - start) / 1000]].map(([at, used]) => ({ at, used }));
  return [
    { resource: "new_examples", limit: facts.new_examples, points: summed(batches, start, end) },
    { resource: "train_tokens", limit: facts.train_tokens, points: summed(trainings, start, end) },
    { resource: "wall_s", limit: facts.wall_s, points: wall },
  ].filter((one) => one.limit > 0).map((one) => ({ ...one, used: one.points[one.points.length - 1].used }));
}

function summed(steps, start, end) {
  let used = 0;
  const sorted = steps.map(([at, amount]) => [Date.parse(at), amount]).sort((a, b) => a[0] - b[0]);
  const points = [{ at: start, used: 0 }];
  for (const [at, amount] of sorted) {
    points.push({ at, used }, { at, used: (used += amount) });
  }
  return [...points, { at: Math.max(end, points[points.length - 1].at), used }];
}

export const RESOURCES = {
  new_examples: "new examples", train_tokens: "training tokens", wall_s: "seconds of wall time", gpu_s: "GPU seconds",
  teacher_tokens: "teacher tokens", money: "money",
};
