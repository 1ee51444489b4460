// Probes and what they measured: the share as a bar with its interval, and in words; what could not be measured apart.
import { html } from "../lib.js";
import { count, figure, percent, words } from "../format.js";
import { IntervalBar } from "../charts/interval_bar.js";
import { Table } from "./bits.js";
import { Search } from "./controls.js";

const MANY = 12; // rows above which a search is worth its place

export function EvidenceTable({ rows, q = "" }) {
  const measured = byProbe(rows.filter((row) => row.n));
  const missing = rows.filter((row) => !row.n);
  const shown = measured.map((group) => group.filter((row) => fits(row, q))).filter((group) => group.length);
  if (!rows.length) return html`<p class="soft">No probe has answered yet.</p>`;
  return html`
    ${(rows.length > MANY || q) && html`<div class="filters" role="search" aria-label="Evidence"><${Search} value=${q} label="Search" placeholder="Probe, measurement or words" /></div>`}
    ${!shown.length && html`<p class="soft">No measurement has these words.</p>`}
    ${shown.length > 0 && html`<${Table} label="Evidence" stack=${true} dense=${true} head=${["Probe", "Measured", "Value", { text: "n", number: true }, "What it says"]}>
      ${shown.flatMap((group) => group.map((row, i) => html`<tr key=${`${row.probe}/${row.measure}`} class=${i ? "follows" : ""}>
        ${i === 0 && html`<th scope="rowgroup" rowspan=${group.length}>${words(row.probe)}</th>`}
        <td data-label="Measured" class="mono">${row.measure}</td>
        <td data-label="Value"><${Measurement} row=${row} /></td>
        <td class="number" data-label="n">${count(row.n)}</td>
        <td data-label="What it says" class="prose">${row.meaning}</td></tr>`))}
    <//>`}
    ${missing.length > 0 && html`<details class="figures"><summary>${count(missing.length)} not measured, and why</summary>
      <ul class="plain">${missing.map((row, i) => html`<li key=${i}><strong>${words(row.probe)}</strong> <span class="mono soft">${row.measure}</span><span class="sub">${row.meaning}</span></li>`)}</ul></details>`}
  `;
}

const fits = (row, q) => `${row.probe} ${words(row.probe)} ${row.measure} ${row.meaning}`.toLowerCase().includes(q.toLowerCase());

// Rows of one probe stand together, in the order in which the probes first answered.
function byProbe(rows) {
  const groups = new Map();
  for (const row of rows) groups.set(row.probe, [...(groups.get(row.probe) || []), row]);
  return [...groups.values()];
}

function Measurement({ row }) {
  const isExact = row.low === row.high;
  if (row.isShare) {
    return html`<span class="accuracy"><${IntervalBar} value=${row.value} low=${row.low} high=${row.high} />
      <span class="accuracy-text"><strong>${percent(row.value)}</strong><span class="soft"> ${percent(row.low)} to ${percent(row.high)}</span></span></span>`;
  }
  return html`<strong>${figure(row.value)}</strong>${!isExact && html`<span class="soft"> ${figure(row.low)} to ${figure(row.high)}</span>`}`;
}
