// The loop as a picture: its stages as boxes, what leads to what as arrows, the stage that works now lit.
import { html, useEffect, useState } from "../lib.js";
import { duration, words } from "../format.js";

// Places on a grid of five columns and two rows; a narrow screen swaps the two.
const STAGES = [
  ["base training", 0, 0, "Base", "a checkpoint to begin with"],
  ["evaluation", 1, 0, "Evaluate", "which slices are weak"],
  ["diagnosis", 2, 0, "Diagnose", "why, by probes"],
  ["planning", 3, 0, "Plan", "what to do, within budget"],
  ["approval", 4, 0, "Approve", "a person agrees"],
  ["generation", 4, 1, "Make data", "verified examples"],
  ["review", 3, 1, "Review", "people look at it"],
  ["training", 2, 1, "Train", "a candidate"],
  ["gates", 1, 1, "Gates", "did it help, did it harm"],
  ["end", 0, 1, "Decided", "promoted or not"],
];
const ARROWS = [
  ["base training", "evaluation"], ["evaluation", "diagnosis"], ["diagnosis", "planning"], ["planning", "approval"],
  ["approval", "generation"], ["generation", "review"], ["review", "training"], ["training", "evaluation", "bent"],
  ["evaluation", "gates"], ["gates", "end"], ["gates", "planning", "next"],
];
const WIDE = { width: 152, height: 70, stepX: 186, stepY: 136, columns: 5, rows: 2 };
const TALL = { width: 148, height: 62, stepX: 188, stepY: 92, columns: 2, rows: 5 };

export function LoopPicture({ run, now }) {
  const isTall = useMedia("(max-width: 720px)");
  const size = isTall ? TALL : WIDE;
  const place = (name) => {
    const [, column, row] = STAGES.find((stage) => stage[0] === name);
    const [c, r] = isTall ? [row, column] : [column, row];
    return { x: 8 + c * size.stepX, y: 8 + r * size.stepY };
  };
  const width = 16 + (size.columns - 1) * size.stepX + size.width;
  const height = 16 + (size.rows - 1) * size.stepY + size.height;
  const working = run.state === "finished" ? "end" : run.stage;
  return html`<figure class=${`loop ${run.state === "paused" ? "is-paused" : ""}`}>
    <svg viewBox=${`0 0 ${width} ${height}`} role="img" aria-label=${inWords(run)}>
      <defs>
        <marker id="arrow" viewBox="0 0 10 10" refX="8.5" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" /></marker>
      </defs>
      ${ARROWS.map(([from, to, kind]) => html`<path key=${from + to} class=${`arrow ${kind || ""} ${to === working && run.state !== "finished" ? "is-lit" : ""}`}
        d=${arrow(place(from), place(to), size, kind, isTall)} marker-end="url(#arrow)" />`)}
      ${STAGES.map(([name, , , title, note]) => html`<${Box} key=${name} run=${run} now=${now} name=${name} title=${title} note=${note}
        at=${place(name)} size=${size} isWorking=${name === working} />`)}
    </svg>
  </figure>`;
}

function Box({ run, now, name, title, note, at, size, isWorking }) {
  const seconds = secondsOf(run, name, now);
  const isDone = seconds !== undefined && !isWorking;
  const isEnd = name === "end";
  const told = isEnd ? (run.state === "finished" ? words(run.outcome) : note) : seconds !== undefined ? duration(seconds) : note;
  const kind = isWorking && isEnd ? `is-end ${run.outcome}` : isWorking ? "is-working" : isDone ? "is-done" : "";
  const middle = at.x + size.width / 2;
  return html`<g class=${`stage ${kind}`}>
    ${isWorking && !isEnd && html`<rect class="halo" x=${at.x - 4} y=${at.y - 4} width=${size.width + 8} height=${size.height + 8} rx="15" />`}
    <rect class="box" x=${at.x} y=${at.y} width=${size.width} height=${size.height} rx="12" />
    ${isDone && html`<path class="tick" d=${`M${at.x + size.width - 20} ${at.y + 15}l3.5 3.5 6-7`} />`}
    <text class="stage-title" x=${middle} y=${at.y + size.height / 2 - 3}>${title}</text>
    <text class="stage-note" x=${middle} y=${at.y + size.height / 2 + 15}>${told}</text>
  </g>`;
}

// What a stage took over all rounds; one that works counts until now. Undefined where it never began.
function secondsOf(run, name, now) {
  const times = run.stages.filter((stage) => stage.stage === name && stage.started_at);
  if (!times.length) return undefined;
  return times.reduce((sum, one) => sum + (one.ended_at ? one.seconds : Math.max(0, now - Date.parse(one.started_at)) / 1000), 0);
}

function arrow(a, b, { width: w, height: h, stepY }, kind, isTall) {
  const ca = { x: a.x + w / 2, y: a.y + h / 2 };
  const cb = { x: b.x + w / 2, y: b.y + h / 2 };
  if (kind === "next") {
    if (isTall) return `M${a.x + w - 26} ${a.y + h}C${a.x + w - 26} ${a.y + h + 60} ${b.x + w + 34} ${b.y - 50} ${b.x + w} ${b.y + 18}`;
    const mid = a.y - (stepY - h) / 2;
    return `M${a.x + w - 24} ${a.y}C${a.x + w - 24} ${mid} ${a.x + w} ${mid} ${a.x + w + 30} ${mid}L${b.x} ${mid}C${b.x + 24} ${mid} ${b.x + 30} ${mid} ${b.x + 30} ${b.y + h}`;
  }
  if (kind === "bent") {
    if (isTall) return `M${a.x + 20} ${a.y}C${a.x + 20} ${a.y - 26} ${b.x + w + 30} ${b.y + h - 16} ${b.x + w} ${b.y + h - 14}`;
    return `M${a.x + 24} ${a.y}C${a.x + 24} ${a.y - 34} ${b.x + w - 30} ${b.y + h + 40} ${b.x + w - 30} ${b.y + h}`;
  }
  if (Math.abs(ca.y - cb.y) < 1) return ca.x < cb.x ? `M${a.x + w} ${ca.y}H${b.x - 1}` : `M${a.x} ${ca.y}H${b.x + w + 1}`;
  return ca.y < cb.y ? `M${ca.x} ${a.y + h}V${b.y - 1}` : `M${ca.x} ${a.y}V${b.y + h + 1}`;
}

function inWords(run) {
  if (run.state === "finished") return `The loop is over after round ${run.round}: ${words(run.outcome)}.`;
  return run.stage ? `The loop in round ${run.round}: ${run.stage} works now.` : `The loop in round ${run.round}: ${words(run.state)}.`;
}

export function useMedia(query) {
  const [matches, setMatches] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const listen = () => setMatches(list.matches);
    list.addEventListener("change", listen);
    return () => list.removeEventListener("change", listen);
  }, [query]);
  return matches;
}
