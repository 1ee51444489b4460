// Small things that every view uses: icons, badges, figures with their intervals, hashes, cards, tables that scroll.
import { html, useId, useState } from "../lib.js";
import { count, interval, percent, points, short, words } from "../format.js";
import { difference } from "../model/difference.js";
import { IntervalBar } from "../charts/interval_bar.js";

const PATHS = {
  check: "M3.5 8.5l3 3 6-7",
  cross: "M4 4l8 8M12 4l-8 8",
  clock: "M8 4.5V8l2.5 1.5M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0z",
  pause: "M5.5 4v8M10.5 4v8",
  play: "M5 3.5l7 4.5-7 4.5z",
  undo: "M4 7h5.5a3 3 0 0 1 0 6H7M4 7l2.5-2.5M4 7l2.5 2.5",
  stop: "M4.5 4.5h7v7h-7z",
  copy: "M6 6h7v7H6zM10 6V3H3v7h3",
  arrow: "M3 8h9M8.5 4.5L12 8l-3.5 3.5",
  leave: "M6.5 3H3v10h3.5M6.5 8H13M10.5 5.5L13 8l-2.5 2.5",
  help: "M6 6a2 2 0 1 1 2.6 1.9c-.4.2-.6.5-.6 1v.4M8 11.6v.1M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0z",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1.5v1M8 13.5v1M1.5 8h1M13.5 8h1M3.4 3.4l.7.7M11.9 11.9l.7.7M12.6 3.4l-.7.7M4.1 11.9l-.7.7",
  moon: "M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.5z",
  auto: "M8 2a6 6 0 1 0 0 12zM8 2a6 6 0 0 1 0 12",
  warn: "M8 2.5L14 13H2zM8 6.5v3M8 11.2v.1",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM10.6 10.6L14 14",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>`;
}

const GOOD = new Set(["promoted", "healthy", "evaluation_fixed"]);
const BAD = new Set(["rejected", "failed", "budget_exceeded"]);

export function outcomeKind(outcome) {
  return GOOD.has(outcome) ? "good" : BAD.has(outcome) ? "bad" : "plain";
}

export function StateBadge({ run }) {
  if (run.state === "finished") return html`<span class=${`badge ${outcomeKind(run.outcome)}`}>${words(run.outcome) || "Finished"}</span>`;
  const kind = run.state.startsWith("waiting") ? "warn" : ["paused", "cancelling", "requested"].includes(run.state) ? "plain" : "busy";
  return html`<span class=${`badge ${kind}`}><span class="dot" aria-hidden="true"></span>${words(run.state)}</span>`;
}

export function Verdict({ passed, yes = "passed", no = "failed" }) {
  return html`<span class=${`verdict ${passed ? "good" : "bad"}`}><${Icon} name=${passed ? "check" : "cross"} />${passed ? yes : no}</span>`;
}

export function Cause({ name }) {
  return name ? html`<span class="chip">${words(name)}</span>` : html`<span class="soft">–</span>`;
}

// An accuracy as it must be shown: with its interval and n.
export function Accuracy({ of, threshold = null, bar = true }) {
  if (!of || !of.n) return html`<span class="soft">not measured</span>`;
  return html`<span class="accuracy">
    ${bar && html`<${IntervalBar} value=${of.accuracy} low=${of.low} high=${of.high} mark=${threshold} />`}
    <span class="accuracy-text"><strong>${percent(of.accuracy)}</strong>
      <span class="soft"> ${interval(of.low, of.high)}, n${"\u202f"}=${"\u202f"}${count(of.n)}</span></span>
  </span>`;
}

// later minus earlier, in points, with its interval.
export function Change({ from, to }) {
  const change = difference(from, to);
  if (!change) return html`<span class="soft">–</span>`;
  return html`<span class="change"><strong>${points(change.value)}</strong><span class="soft"> ${points(change.low)} to ${points(change.high)}</span></span>`;
}

export function Hash({ value, label = "checksum" }) {
  const [isCopied, setCopied] = useState(false);
  if (!value) return html`<span class="soft">–</span>`;
  const copy = async () => {
    await navigator.clipboard.writeText(value);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return html`<span class="hash"><code>${short(value)}</code>
    <button class="ghost" onClick=${copy} aria-label=${`Copy ${label} ${value}`} title="Copy">
      <${Icon} name=${isCopied ? "check" : "copy"} />
    </button></span>`;
}

export function Card({ title, note, aside, children, className = "" }) {
  const id = useId();
  return html`<section class=${`card ${className}`} aria-labelledby=${id}>
    <div class="card-head"><h2 id=${id}>${title}</h2>${aside}</div>
    ${note && html`<p class="soft note">${note}</p>`}
    ${children}
  </section>`;
}

// A table that scrolls by itself on a narrow screen, also by keyboard. stack turns rows into cards there.
export function Table({ label, head, children, stack = false, dense = false }) {
  return html`<div class=${`scroll ${stack ? "stacks" : ""}`} tabindex="0" role="region" aria-label=${`${label}, table`}>
    <table class=${`${stack ? "stack" : ""} ${dense ? "dense" : ""}`}>
      <thead><tr>${head.map((cell, i) => html`<th key=${i} scope="col" class=${cell.number ? "number" : ""}>${cell.text ?? cell}</th>`)}</tr></thead>
      <tbody>${children}</tbody>
    </table>
  </div>`;
}

export function Stat({ label, children, note }) {
  return html`<div class="stat"><dt>${label}</dt><dd>${children}${note && html`<span class="stat-note">${note}</span>`}</dd></div>`;
}
