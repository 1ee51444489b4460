// Probes and what they measured: the share as a bar with its interval, and in words; what could not be measured apart.
import { html } from "../lib.js";
import { count, figure, percent, words } from "../format.js";
import { IntervalBar } from "../charts/interval_bar.js";
import { Table } from "./bits.js";

export function EvidenceTable({ rows }) {
  const measured = rows.filter((row) => row.n);
  const missing = rows.filter((row) => !row.n);
  if (!rows.length) return html`<p class="soft">No probe has answered yet.</p>`;
  return html`
    <${Table} label="Evidence" stack=${true} head=${["Probe", "Measurement", { text: "n", number: true }, "What it says"]}>
      ${measured.map((row, i) => html`<tr key=${i}>
        <th scope="row">${words(row.probe)}<span class="sub mono">${row.measure}</span></th>
        <td data-label="Measurement"><${Measurement} row=${row} /></td>
        <td class="number" data-label="n">${count(row.n)}</td>
        <td data-label="What it says" class="prose">${row.meaning}</td></tr>`)}
    <//>
    ${missing.length > 0 && html`<details class="figures"><summary>${count(missing.length)} not measured, and why</summary>
      <ul class="plain">${missing.map((row, i) => html`<li key=${i}><strong>${words(row.probe)}</strong> <span class="mono soft">${row.measure}</span><span class="sub">${row.meaning}</span></li>`)}</ul></details>`}
  `;
}

function Measurement({ row }) {
  const isExact = row.low === row.high;
  if (row.isShare) {
    return html`<span class="accuracy"><${IntervalBar} value=${row.value} low=${row.low} high=${row.high} />
      <span class="accuracy-text"><strong>${percent(row.value)}</strong><span class="soft"> ${percent(row.low)} to ${percent(row.high)}</span></span></span>`;
  }
  return html`<strong>${figure(row.value)}</strong>${!isExact && html`<span class="soft"> ${figure(row.low)} to ${figure(row.high)}</span>`}`;
}
