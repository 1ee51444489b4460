// Activation patching: how much of the passing prompt's answer comes back, by layer and place. Also as a table.
import { html } from "../lib.js";
import { Table } from "../parts/bits.js";

const CELL = { width: 62, height: 34 };
const LEFT = 108;
const TOP = 8;

// heat: {layers, positions, values[layer][position], pairs, example?}; a value is null where nothing was measured.
export function HeatMap({ heat }) {
  return html`<div class="heats">
    <${Panel} panel=${heat} caption=${`Mean over ${heat.pairs} pairs of prompts`} />
    ${heat.example && html`<${Panel} panel=${heat.example} caption=${`One pair. Right: “${heat.example.right}”, failed output: “${heat.example.wrong}”, passing output: “${heat.example.clean_next}”`} />`}
    <p class="soft note">1 means that the passing run's state at this place brings its whole answer back, 0 nothing, below 0 it harms.</p>
  </div>`;
}

function Panel({ panel, caption }) {
  const { layers, positions, values } = panel;
  const longest = Math.max(...positions.map((position) => String(position).length));
  const foot = 16 + Math.min(110, longest * 3.5);
  const width = LEFT + positions.length * CELL.width + 20;
  const height = TOP + layers.length * CELL.height + foot;
  const rowY = (i) => TOP + (layers.length - 1 - i) * CELL.height; // the first layer stands below, as in the model
  return html`<figure class="heat">
    <figcaption>${caption}</figcaption>
    <div class="scroll" tabindex="0" role="region" aria-label=${`Heat map: ${caption}`}>
      <svg width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} role="img" aria-label=${`Heat map of ${layers.length} layers by ${positions.length} places; its figures follow as a table.`}>
        ${layers.map((layer, i) => html`<g key=${layer}>
          <text class="row" x=${LEFT - 10} y=${rowY(i) + CELL.height / 2 + 4}>${layerName(layer)}</text>
          ${positions.map((position, j) => html`<${Cell} key=${j} value=${values[i]?.[j]} x=${LEFT + j * CELL.width} y=${rowY(i)} />`)}
        </g>`)}
        ${positions.map((position, j) => {
          const [x, y] = [LEFT + (j + 0.5) * CELL.width, TOP + layers.length * CELL.height + 14];
          return html`<text key=${j} class="column" x=${x} y=${y} transform=${`rotate(-32 ${x} ${y})`}>${String(position)}</text>`;
        })}
      </svg>
    </div>
    <details class="figures"><summary>Figures as a table</summary>
      <${Table} label=${caption} head=${["Layer", ...positions.map((p) => ({ text: String(p), number: true }))]}>
        ${layers.map((layer, i) => html`<tr key=${layer}><th scope="row">${layerName(layer)}</th>
          ${positions.map((_, j) => html`<td key=${j} class="number">${values[i]?.[j] === null ? "–" : values[i]?.[j]?.toFixed(2)}</td>`)}</tr>`)}
      <//></details>
  </figure>`;
}

function Cell({ value, x, y }) {
  if (value === null || value === undefined) return html`<rect class="nothing" x=${x + 1} y=${y + 1} width=${CELL.width - 2} height=${CELL.height - 2} rx="4" />`;
  const strength = Math.min(1, Math.abs(value));
  return html`<g class=${value < -0.005 ? "harm" : "gain"}>
    <rect x=${x + 1} y=${y + 1} width=${CELL.width - 2} height=${CELL.height - 2} rx="4" fill-opacity=${0.06 + 0.5 * strength} />
    <text x=${x + CELL.width / 2} y=${y + CELL.height / 2 + 4}>${(Math.abs(value) < 0.005 ? 0 : value).toFixed(2)}</text></g>`;
}

const layerName = (layer) => (layer === 0 ? "embeddings" : typeof layer === "number" ? `after layer ${layer}` : String(layer));
