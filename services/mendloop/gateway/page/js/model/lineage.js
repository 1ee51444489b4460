// Lineage as a graph in layers. Pure: nodes and edges in, places out.

export const KINDS = ["checkpoint", "evaluation", "failure", "diagnosis", "plan", "batch", "gate"];

// The graph of a run's document, for a gateway that has no lineage endpoint.
export function lineageOf(run) {
  const nodes = new Map();
  const edges = [];
  const add = (id, kind, label, round, ...from) => {
    if (!nodes.has(id)) nodes.set(id, { id, kind, label, round });
    for (const source of from) if (source && nodes.has(source)) edges.push({ from: source, to: id });
  };
  let verdicts = [];
  for (const round of run.rounds.filter((r) => !r.arm)) {
    const n = round.round;
    const base = round.checkpoint?.baseline ? `checkpoint:${round.checkpoint.baseline.sha256}` : "";
    if (round.plan) add(`plan:${round.plan.plan_id}`, "plan", round.plan.kind.replaceAll("_", " "), n, ...verdicts);
    const plan = round.plan ? `plan:${round.plan.plan_id}` : "";
    const batch = round.reviewed || round.batch;
    if (batch) add(`batch:${n}`, "batch", `${batch.example_count} examples`, n, plan);
    const checkpoint = round.checkpoint ? `checkpoint:${round.checkpoint.artifact.sha256}` : "";
    if (checkpoint) add(checkpoint, "checkpoint", round.checkpoint.artifact.sha256.slice(0, 8), n, batch ? `batch:${n}` : plan, base);
    if (!round.evaluation) continue;
    const evaluation = `evaluation:${round.evaluation.evaluation_id}`;
    add(evaluation, "evaluation", `${(100 * (round.evaluation.accuracy.accuracy ?? 0)).toFixed(1)} %`, n, checkpoint);
    verdicts = round.diagnoses.map((d) => `diagnosis:${round.evaluation.evaluation_id}/${d.slice.slice_id}`);
    for (const f of round.failures) add(`failure:${f.evaluation_id}/${f.slice.slice_id}`, "failure", f.slice.name, n, evaluation);
    round.diagnoses.forEach((d, i) => add(verdicts[i], "diagnosis", d.cause, n, `failure:${d.evaluation_id}/${d.slice.slice_id}`));
    if (round.decision) add(`gate:${n}`, "gate", round.decision.promoted ? "promoted" : "rejected", n, evaluation);
  }
  return { nodes: [...nodes.values()], edges };
}

// Places: {columns: [[node]], at: Map(id → {column, row}), edges}. Cycles are cut where they close.
export function layered({ nodes, edges }) {
  const ids = new Set(nodes.map((node) => node.id));
  const kept = edges.filter((edge) => ids.has(edge.from) && ids.has(edge.to) && edge.from !== edge.to);
  const sources = new Map(nodes.map((node) => [node.id, []]));
  for (const edge of kept) sources.get(edge.to).push(edge.from);
  const depth = new Map();
  const open = new Set();
  const depthOf = (id) => {
    if (depth.has(id)) return depth.get(id);
    if (open.has(id)) return -1;
    open.add(id);
    const value = 1 + Math.max(-1, ...sources.get(id).map(depthOf));
    open.delete(id);
    depth.set(id, value);
    return value;
  };
  const columns = [];
  for (const node of nodes) (columns[depthOf(node.id)] ||= []).push(node);
  const at = new Map();
  columns.forEach((column, c) => {
    const centre = (node) => mean(sources.get(node.id).map((id) => at.get(id)?.row ?? 0));
    column.sort((a, b) => centre(a) - centre(b));
    column.forEach((node, row) => at.set(node.id, { column: c, row: row - (column.length - 1) / 2 }));
  });
  return { columns, at, edges: kept };
}

// Ids of a node, of all that it came from and all that came from it.
export function related(id, edges) {
  return new Set([...reached(id, edges, "to", "from"), ...reached(id, edges, "from", "to")]);
}

function reached(id, edges, start, end) {
  const found = new Set([id]);
  const queue = [id];
  while (queue.length) {
    const next = queue.pop();
    for (const edge of edges) {
      if (edge[start] !== next || found.has(edge[end])) continue;
      found.add(edge[end]);
      queue.push(edge[end]);
    }
  }
  return found;
}

const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : 0);
