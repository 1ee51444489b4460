// Accuracy over the rounds: one line a slice, each point with its 95 % interval; the figures stand in a table below.
import { html, useRef } from "../lib.js";
import { count, interval, percent } from "../format.js";
import { Table } from "../parts/bits.js";
import { IntervalBar } from "./interval_bar.js";
import { linear, ticks, useWidth } from "./scales.js";

const HEIGHT = 280;
const MARGIN = { top: 14, right: 16, bottom: 34, left: 46 };
export const COLOURS = 8;

// One measured round has no trend: each slice is a row with its interval.
export function Snapshot({ series, threshold = null }) {
  return html`<ul class="snapshot">${series.map((one) => {
    const point = one.points.find((p) => p.n);
    return html`<li key=${one.key}><span class="bar-name">${one.name}</span><${IntervalBar} value=${point.accuracy} low=${point.low} high=${point.high} mark=${threshold} />
      <span class="snapshot-text"><strong>${percent(point.accuracy)}</strong> <span class="soft">${interval(point.low, point.high)}, n = ${count(point.n)}</span></span></li>`;
  })}</ul>`;
}

// series: [{key, name, points: [{round, accuracy, low, high, n}]}], at most COLOURS of them.
export function TrendChart({ series, threshold = null, label }) {
  const element = useRef(null);
  const width = useWidth(element);
  const rounds = [...new Set(series.flatMap((one) => one.points.map((point) => point.round)))].sort((a, b) => a - b);
  const y = linear([0, 1], [HEIGHT - MARGIN.bottom, MARGIN.top]);
  const step = (width - MARGIN.left - MARGIN.right) / Math.max(1, rounds.length);
  const x = (round) => MARGIN.left + step * (rounds.indexOf(round) + 0.5);
  const spread = Math.min(9, (step * 0.6) / Math.max(1, series.length));
  return html`<div class="chart" ref=${element}>
    <svg width=${width} height=${HEIGHT} viewBox=${`0 0 ${width} ${HEIGHT}`} role="img" aria-label=${`${label}. The figures are in the table below.`}>
      ${ticks(0, 1, 5).map((tick) => html`<g key=${tick} class="grid"><line x1=${MARGIN.left} x2=${width - MARGIN.right} y1=${y(tick)} y2=${y(tick)} />
        <text x=${MARGIN.left - 8} y=${y(tick) + 4}>${percent(tick, 0)}</text></g>`)}
      ${threshold !== null && html`<g class="threshold"><line x1=${MARGIN.left} x2=${width - MARGIN.right} y1=${y(threshold)} y2=${y(threshold)} />
        <text x=${width - MARGIN.right} y=${y(threshold) - 5}>weak below ${percent(threshold, 0)}</text></g>`}
      ${rounds.map((round) => html`<text key=${round} class="round" x=${x(round)} y=${HEIGHT - 10}>${round === 0 ? "base" : `round ${round}`}</text>`)}
      ${series.map((one, i) => html`<${Line} key=${one.key} points=${one.points.filter((point) => point.n)} index=${i}
        x=${(round) => x(round) + (i - (series.length - 1) / 2) * spread} y=${y} />`)}
    </svg>
    <ul class="legend">${series.map((one, i) => html`<li key=${one.key} class=${`series-${i % COLOURS}`}><${Mark} index=${i} />${one.name}</li>`)}</ul>
    <details class="figures"><summary>Figures as a table</summary><${TrendTable} series=${series} rounds=${rounds} label=${label} /></details>
  </div>`;
}

function Line({ points, index, x, y }) {
  const path = points.map((point, i) => `${i ? "L" : "M"}${x(point.round).toFixed(1)} ${y(point.accuracy).toFixed(1)}`).join("");
  return html`<g class=${`series series-${index % COLOURS}`}>
    <path class="line" d=${path} />
    ${points.map((point) => html`<g key=${point.round}>
      <line class="whisker" x1=${x(point.round)} x2=${x(point.round)} y1=${y(point.low)} y2=${y(point.high)} />
      <path class="point" d=${shape(index, x(point.round), y(point.accuracy))}><title>${`${percent(point.accuracy)} (${interval(point.low, point.high)}, n = ${count(point.n)})`}</title></path>
    </g>`)}
  </g>`;
}

// Shapes tell the lines apart for who does not see the colours.
function shape(index, x, y) {
  const r = 4.5;
  const kinds = [
    `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
    `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
    `M${x} ${y - r - 1}L${x + r + 1} ${y + r}H${x - r - 1}z`,
    `M${x} ${y - r - 1.5}L${x + r + 1.5} ${y}L${x} ${y + r + 1.5}L${x - r - 1.5} ${y}z`,
  ];
  return kinds[index % kinds.length];
}

function Mark({ index }) {
  return html`<svg class="series" width="22" height="12" aria-hidden="true"><line class="line" x1="0" x2="22" y1="6" y2="6" /><path class="point" d=${shape(index, 11, 6)} /></svg>`;
}

function TrendTable({ series, rounds, label }) {
  return html`<${Table} label=${label} head=${["Slice", ...rounds.map((round) => ({ text: round === 0 ? "Base" : `Round ${round}`, number: true }))]}>
    ${series.map((one) => html`<tr key=${one.key}><th scope="row">${one.name}</th>
      ${rounds.map((round) => {
        const point = one.points.find((p) => p.round === round && p.n);
        return html`<td key=${round} class="number">${point ? html`${percent(point.accuracy)}<span class="sub">${interval(point.low, point.high)}, n = ${count(point.n)}</span>` : "–"}</td>`;
      })}</tr>`)}
  <//>`;
}

// A small trend for a table's row: values with their band; the cell beside it has the figures.
export function Spark({ points }) {
  const shown = points.filter((point) => point.n);
  if (shown.length < 2) return html`<span class="soft">–</span>`;
  const x = linear([0, shown.length - 1], [5, 91]);
  const y = linear([0, 1], [27, 3]);
  const line = shown.map((p, i) => `${i ? "L" : "M"}${x(i)} ${y(p.accuracy)}`).join("");
  const upper = shown.map((p, i) => `${i ? "L" : "M"}${x(i)} ${y(p.high)}`).join("");
  const lower = shown.map((p, i) => `L${x(shown.length - 1 - i)} ${y(shown[shown.length - 1 - i].low)}`).join("");
  return html`<svg class="spark" width="96" height="30" aria-hidden="true"><path class="band" d=${`${upper}${lower}z`} /><path class="line" d=${line} />
    <circle class="point" cx=${x(shown.length - 1)} cy=${y(shown[shown.length - 1].accuracy)} r="3" /></svg>`;
}
