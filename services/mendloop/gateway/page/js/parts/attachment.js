// What a figure cannot hold: a heat map, the training examples behind an output, a table.
import { html, useState } from "../lib.js";
import { count, figure } from "../format.js";
import { HeatMap } from "../charts/heat.js";
import { Card, Table } from "./bits.js";

const FIRST_ROWS = 12;

export function Attachment({ of }) {
  const title = of.title.replaceAll("_", " ").replace(/^./, (letter) => letter.toUpperCase());
  return html`<${Card} title=${title}>
    ${of.kind === "heat_map" ? html`<${HeatMap} heat=${of.document} />` : of.kind === "table" ? html`<${Rows} table=${of.document} label=${title} />` : html`<pre class="text">${JSON.stringify(of.document, null, 2)}</pre>`}
  <//>`;
}

function Rows({ table, label }) {
  const [isWhole, setWhole] = useState(false);
  const rows = isWhole ? table.rows : table.rows.slice(0, FIRST_ROWS);
  const hidden = table.rows.length - rows.length;
  return html`<${Table} label=${label} head=${table.columns.map((name, i) => ({ text: name, number: typeof table.rows[0]?.[i] === "number" }))}>
    ${rows.map((row, i) => html`<tr key=${i}>${row.map((cell, j) => html`<td key=${j} class=${typeof cell === "number" ? "number" : "text-cell"}>${typeof cell === "number" ? figure(cell) : String(cell ?? "–")}</td>`)}</tr>`)}
  <//>
  ${hidden > 0 && html`<button class="button small" onClick=${() => setWhole(true)}>Show ${count(hidden)} more</button>`}`;
}
