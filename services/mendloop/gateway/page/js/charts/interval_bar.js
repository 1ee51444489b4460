// One value with its interval on a track from 0 to 1, or around 0; a mark shows what is asked for.
import { html } from "../lib.js";
import { linear } from "./scales.js";

export function IntervalBar({ value, low, high, from = 0, to = 1, mark = null, kind = "" }) {
  const scale = linear([from, to], [2, 98]);
  const at = (x) => `${scale(Math.min(to, Math.max(from, x)))}%`;
  const start = scale(Math.min(to, Math.max(from, low)));
  const end = scale(Math.min(to, Math.max(from, high)));
  return html`<svg class=${`interval ${kind}`} height="16" aria-hidden="true" focusable="false">
    <line class="track" x1="2%" x2="98%" y1="8" y2="8" />
    ${from < 0 && html`<line class="zero" x1=${at(0)} x2=${at(0)} y1="2" y2="14" />`}
    ${mark !== null && html`<line class="mark" x1=${at(mark)} x2=${at(mark)} y1="1" y2="15" />`}
    <line class="range" x1=${`${start}%`} x2=${`${Math.max(end, start + 0.5)}%`} y1="8" y2="8" />
    <circle class="value" cx=${at(value)} cy="8" r="3.6" />
  </svg>`;
}
