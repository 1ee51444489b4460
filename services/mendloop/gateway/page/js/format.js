// Numbers and names as people read them. Pure.

const NARROW = "\u202f";
const counts = new Intl.NumberFormat("en-US");

export const count = (n) => (n === null || n === undefined ? "–" : counts.format(n));

export function percent(share, digits = 1) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  const text = (100 * share).toFixed(digits);
  return `${text === "-0.0" ? "0.0" : text}${NARROW}%`;
}

export function points(difference, digits = 1) {
  if (difference === null || difference === undefined) return "–";
  const text = Math.abs(100 * difference).toFixed(digits);
  const sign = Number(text) === 0 ? "±" : difference > 0 ? "+" : "−";
  return `${sign}${text}`;
}

export const interval = (low, high, digits = 1) =>
  `${(100 * low).toFixed(digits)}–${(100 * high).toFixed(digits)}${NARROW}%`;

export function figure(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5) return compact(value);
  if (size >= 100) return counts.format(Math.round(value));
  if (size < 0.001) return value.toExponential(1).replace("e-", "e−");
  return Number.isInteger(value) ? String(value) : value.toFixed(size < 0.1 ? 3 : size < 10 ? 2 : 1);
}

export const pValue = (p) => (p === null || p === undefined ? "–" : p < 0.0001 ? "< 0.0001" : Number(p.toPrecision(2)).toString());

export function compact(value) {
  const steps = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  for (const [size, letter] of steps) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))}${NARROW}${letter}`;
  }
  return String(Math.round(value));
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)}${NARROW}ms`;
  if (seconds < 60) return `${Number(seconds.toFixed(seconds < 10 ? 1 : 0))}${NARROW}s`;
  const s = Math.round(seconds);
  if (s < 3600) return joined(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 86400) return joined(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return joined(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
}

const joined = (a, unitA, b, unitB) => `${a}${NARROW}${unitA}${b ? ` ${b}${NARROW}${unitB}` : ""}`;

export function ago(iso, now = Date.now()) {
  if (!iso) return "–";
  const s = Math.round((now - Date.parse(iso)) / 1000);
  if (s < 5) return "just now";
  if (s < 60) return `${s}${NARROW}s ago`;
  if (s < 3600) return `${Math.floor(s / 60)}${NARROW}min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)}${NARROW}h ago`;
  if (s < 30 * 86400) return `${Math.floor(s / 86400)}${NARROW}d ago`;
  return iso.slice(0, 10);
}

export function clock(iso) {
  return iso ? new Date(iso).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }) : "–";
}

const UPPER = { eos: "EOS" };
// EOS_MASKED → EOS masked; waiting-approval → waiting for approval.
export function words(name) {
  if (!name) return "";
  const parts = name.toLowerCase().replace(/^waiting-/, "waiting for ").split(/[_\s-]+/).map((part) => UPPER[part] || part);
  const text = parts.join(" ");
  return text[0].toUpperCase() + text.slice(1);
}

export const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) : "");
export const short = (hash) => (hash || "").slice(0, 12);
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

export function sliceName(slice) {
  if (!slice) return "all items";
  const conditions = slice.conditions || [];
  return conditions.length ? conditions.map(([axis, value]) => `${axis}=${value}`).join(" ∧ ") : slice.name || "all items";
}
