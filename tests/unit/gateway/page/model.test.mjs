import assert from "node:assert/strict";
import { test } from "node:test";
import { difference } from "../../../../services/mendloop/gateway/page/js/model/difference.js";
import { gist, normalAttachment, normalDiagnosis } from "../../../../services/mendloop/gateway/page/js/model/evidence.js";
import { budgets, splitPrice } from "../../../../services/mendloop/gateway/page/js/model/facts.js";
import { layered, related } from "../../../../services/mendloop/gateway/page/js/model/lineage.js";
import { parseRoute, runPath } from "../../../../services/mendloop/gateway/page/js/router.js";
import { ticks } from "../../../../services/mendloop/gateway/page/js/charts/scales.js";

test("an address gives its view, and a path its address", () => {
  assert.equal(parseRoute("/").view, "runs");
  assert.deepEqual(parseRoute("/runs/r1/slices", "?q=verb%3Djump"), { view: "run", runId: "r1", tab: "slices", parts: [], query: { q: "verb=jump" } });
  const path = runPath("a b", "diagnoses", "0", "x/y");
  assert.deepEqual(parseRoute(path).parts, ["0", "x/y"]);
  assert.equal(parseRoute(path).runId, "a b");
  assert.equal(parseRoute("/runs/r1/nothing").view, "missing");
  assert.equal(parseRoute("/v1/runs").view, "missing");
});

test("a question's price is read, and left in the words where it cannot be", () => {
  assert.deepEqual(splitPrice("why; holds 32 new_examples, 9000 train_tokens"), {
    text: "why", price: [{ resource: "new_examples", amount: 32 }, { resource: "train_tokens", amount: 9000 }],
  });
  assert.deepEqual(splitPrice("why; holds its breath"), { text: "why; holds its breath", price: [] });
});

test("the difference of proportions is Newcombe's, which his paper works out", () => {
  // Newcombe 1998, table II: 56/70 against 48/80, method 10: 0.0524 to 0.3339; score intervals of both are given here.
  const later = { n: 70, accuracy: 0.8, low: 0.6918, high: 0.8769 };
  const earlier = { n: 80, accuracy: 0.6, low: 0.4905, high: 0.7004 };
  const found = difference(earlier, later);
  assert.ok(Math.abs(found.low - 0.0524) < 2e-3 && Math.abs(found.high - 0.3339) < 2e-3, JSON.stringify(found));
  assert.equal(difference({ n: 0 }, later), null);
});

test("used budget counts what candidates took, not the base", () => {
  const stamp = { at: "2026-01-01T00:10:00Z" };
  const round = (number, tokens) => ({ round: number, batch: { example_count: 30, stamp }, reviewed: null, checkpoint: { stamp, cost: { token_count: tokens } } });
  const run = {
    started_at: "2026-01-01T00:00:00Z", finished_at: "2026-01-01T00:30:00Z", rounds: [round(0, 7), round(1, 500)],
    recipe_facts: { new_examples: 60, train_tokens: 1000, wall_s: 3600 },
  };
  assert.deepEqual(budgets(run).map((one) => [one.resource, one.used]), [["new_examples", 30], ["train_tokens", 500], ["wall_s", 1800]]);
});

test("lineage stands in layers, also where it has a cycle", () => {
  const nodes = ["a", "b", "c", "d"].map((id) => ({ id, kind: "plan", label: id, round: 0 }));
  const edges = [["a", "b"], ["b", "c"], ["a", "c"], ["c", "b"], ["c", "gone"]].map(([from, to]) => ({ from, to }));
  const places = layered({ nodes, edges });
  assert.equal(places.at.get("a").column, 0);
  assert.ok(places.at.size === 4 && places.edges.length === 4);
});

test("relatives are what a node came from and what came from it, not its siblings", () => {
  const edges = [["root", "one"], ["root", "two"], ["one", "end"]].map(([from, to]) => ({ from, to }));
  assert.deepEqual([...related("one", edges)].sort(), ["end", "one", "root"]);
});

test("a diagnosis reads the same from its endpoint and from the run", () => {
  const inRun = { cause: "EOS_MASKED", confidence: 0.9, evidence: [{ probe: "forced_stop", measurement: "rescued_share[a]", value: 0.9, low: 0.8, high: 1, n: 40, reading: "r" }], scores: [] };
  const detail = { verdict: "EOS_MASKED", causes: { EOS_MASKED: 0.9 }, evidence: [{ probe: "forced_stop", measure: "rescued_share[a]", value: 0.9, low: 0.8, high: 1, n: 40, meaning: "r" }] };
  assert.deepEqual(normalDiagnosis(detail, inRun).rows, normalDiagnosis(null, inRun).rows);
  assert.deepEqual(normalDiagnosis(detail, null).scores, [{ cause: "EOS_MASKED", score: 0.9 }]);
  assert.equal(normalDiagnosis(null, inRun).rows[0].isShare, true);
});

test("attachments are recognized by what they hold", () => {
  const heat = { layers: [0], positions: ["p"], values: [[0.5]], pairs: 3 };
  assert.equal(normalAttachment({ kind: "heatmap", ...heat }).kind, "heat_map");
  assert.equal(normalAttachment({ kind: "heat_map", name: "n", document: heat }).document.pairs, 3);
  assert.deepEqual(normalAttachment({ kind: "examples", examples: [{ prompt: "a", influence: 1 }] }).document, { columns: ["prompt", "influence"], rows: [["a", 1]] });
  assert.equal(normalAttachment({ kind: "else", document: { any: 1 } }).kind, "json");
});

test("ticks are round numbers within the span", () => {
  assert.deepEqual(ticks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(ticks(3, 3), [3]);
});

test("a verdict's gist leaves out what stands above it, and says a repeated finding once", () => {
  const same = "The slice has 1 distinct prompt; the 4 other values of verb have a median of 5606.5.";
  const summary = `verb=jump: DATA_MISSING (explains at least 90% of the failures): ${same} 165 of 165 items fail. ${same} 164 of 164 items fail. Not needed: step_check, patching.`;
  const { said, skipped } = gist(summary, { name: "verb=jump", cause: "DATA_MISSING" });
  assert.equal(said, `Explains at least 90% of the failures. ${same} 165 of 165 items fail. 164 of 164 items fail.`);
  assert.deepEqual(skipped, ["step_check", "patching"]);
  assert.deepEqual(gist("verb=jump: UNKNOWN: no probe answered.", { name: "verb=jump", cause: "UNKNOWN" }), { said: "no probe answered.", skipped: [] });
  assert.deepEqual(gist("words of an older service", { name: "x", cause: "Y" }), { said: "words of an older service", skipped: [] });
  assert.deepEqual(gist(undefined), { said: "", skipped: [] });
});
