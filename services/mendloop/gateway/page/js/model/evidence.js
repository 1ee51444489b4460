// A diagnosis as the view shows it, whether it came from the diagnosis endpoint or stands in the run's document. Pure.

// {cause, confidence, summary, also, scores, rows, interventions, attachments, failedCount}
export function normalDiagnosis(detail, inRun) {
  const base = inRun || {};
  const verdict = detail?.verdict;
  const named = typeof verdict === "object" && verdict ? verdict : { cause: verdict };
  return {
    cause: named.cause || base.cause || "",
    family: named.family || base.family || "",
    confidence: named.confidence ?? base.confidence ?? null,
    summary: named.summary || base.summary || "",
    also: named.also || base.also || [],
    failedCount: named.failed_count ?? base.failed_count ?? null,
    scores: scoresOf(detail?.causes) || base.scores || [],
    rows: (detail?.evidence || base.evidence || []).map(normalRow),
    interventions: detail?.interventions || base.interventions || [],
    attachments: (detail?.attachments || []).map(normalAttachment),
    isWhole: Boolean(detail),
  };
}

// What a verdict's summary says beyond the slice and the cause, which stand above it: {said, skipped}. The second sample
// often finds the same, word for word; that is said once.
export function gist(summary, { name = "", cause = "" } = {}) {
  const [whole, skipped = ""] = (summary || "").split(/\s*Not needed: /);
  const opening = `${name}: ${cause}`;
  const rest = cause && whole.startsWith(opening) ? whole.slice(opening.length).replace(/^ \((.*?)\): /, (_, part) => `${part[0].toUpperCase()}${part.slice(1)}. `).replace(/^: /, "") : whole;
  const sentences = [...new Set(rest.split(/(?<=\.) (?=[A-Z0-9])/))];
  return { said: sentences.join(" "), skipped: skipped.replace(/\.$/, "").split(", ").filter(Boolean) };
}

function scoresOf(causes) {
  if (!causes) return null;
  if (Array.isArray(causes)) return causes.map((one) => ({ cause: one.cause, score: one.score ?? one.probability ?? one.confidence ?? 0 }));
  return Object.entries(causes).map(([cause, score]) => ({ cause, score }));
}

export function normalRow(row) {
  return {
    probe: row.probe, measure: row.measure ?? row.measurement ?? "", value: row.value, low: row.low, high: row.high, n: row.n,
    meaning: row.meaning ?? row.reading ?? "", isShare: isShare(row),
  };
}

// Shares are drawn on a track from 0 to 1; a count, a ratio or a number of nats is not.
function isShare(row) {
  const name = (row.measure ?? row.measurement ?? "").split("[")[0];
  const fits = [row.value, row.low, row.high].every((x) => x >= 0 && x <= 1);
  return fits && (/(share|_failed|_passing|rate|accuracy)$/.test(name) || row.low !== row.high);
}

// {kind: "heat_map" | "table", title, document}; whatever else comes is shown as JSON.
export function normalAttachment(one) {
  const document = one.document ?? one;
  const title = [one.probe, one.name].filter(Boolean).join(": ") || one.kind;
  if (/^heat/.test(one.kind) && Array.isArray(document.values)) return { kind: "heat_map", title, document };
  const table = asTable(document);
  return table ? { kind: "table", title, document: table } : { kind: "json", title, document };
}

function asTable(document) {
  if (Array.isArray(document.columns) && Array.isArray(document.rows)) return { columns: document.columns, rows: document.rows };
  const rows = document.examples || document.rows;
  if (!Array.isArray(rows) || !rows.length || typeof rows[0] !== "object") return null;
  const columns = Object.keys(rows[0]);
  return { columns, rows: rows.map((row) => columns.map((name) => row[name])) };
}
