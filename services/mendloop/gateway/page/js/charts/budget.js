// What is left of each budget over time, as a share; one line a resource, with its figures beside it.
import { html, useRef } from "../lib.js";
import { clock, count, duration, percent } from "../format.js";
import { RESOURCES } from "../model/facts.js";
import { linear, useWidth } from "./scales.js";

const HEIGHT = 150;
const MARGIN = { top: 10, right: 10, bottom: 24, left: 44 };

export function BudgetChart({ budgets }) {
  const element = useRef(null);
  const width = useWidth(element);
  const times = budgets.flatMap((one) => one.points.map((point) => point.at));
  const [start, end] = [Math.min(...times), Math.max(...times)];
  const x = linear([start, end], [MARGIN.left, width - MARGIN.right]);
  const y = linear([0, 1], [HEIGHT - MARGIN.bottom, MARGIN.top]);
  const line = (one) => one.points.map((p, i) => `${i ? "L" : "M"}${x(p.at).toFixed(1)} ${y(left(p.used, one.limit)).toFixed(1)}`).join("");
  return html`<div class="chart" ref=${element}>
    <svg width=${width} height=${HEIGHT} viewBox=${`0 0 ${width} ${HEIGHT}`} role="img" aria-label=${`Share of each budget that is left, from ${clock(new Date(start).toISOString())} to ${clock(new Date(end).toISOString())}. The figures are below.`}>
      ${[0, 0.5, 1].map((tick) => html`<g key=${tick} class="grid"><line x1=${MARGIN.left} x2=${width - MARGIN.right} y1=${y(tick)} y2=${y(tick)} />
        <text x=${MARGIN.left - 8} y=${y(tick) + 4}>${percent(tick, 0)}</text></g>`)}
      <text class="axis start" x=${MARGIN.left} y=${HEIGHT - 6}>start</text>
      <text class="axis end" x=${width - MARGIN.right} y=${HEIGHT - 6}>${duration((end - start) / 1000)}</text>
      ${budgets.map((one, i) => html`<g key=${one.resource} class=${`series series-${i}`}><path class=${`line dash-${i}`} d=${line(one)} /></g>`)}
    </svg>
    <dl class="meters">${budgets.map((one, i) => html`<${Meter} key=${one.resource} one=${one} index=${i} />`)}</dl>
  </div>`;
}

function Meter({ one, index }) {
  const name = RESOURCES[one.resource] || one.resource;
  const show = one.resource === "wall_s" ? duration : count;
  const share = Math.min(1, one.used / one.limit);
  return html`<div class=${`meter series-${index}`}>
    <dt><svg class="series" width="22" height="8" aria-hidden="true"><line class=${`line dash-${index}`} x1="0" x2="22" y1="4" y2="4" /></svg>${one.resource === "wall_s" ? "wall time" : name}</dt>
    <dd>${show(one.used)} of ${show(one.limit)} used <span class="soft">(${percent(share, 0)})</span></dd>
  </div>`;
}

const left = (used, limit) => Math.max(0, 1 - used / limit);
