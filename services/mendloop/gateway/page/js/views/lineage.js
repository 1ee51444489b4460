// What came from what: checkpoints, evaluations, failures, diagnoses, plans, batches, gates; as a graph and as a table.
import { html, useMemo, useState } from "../lib.js";
import { isAbsent, useResource } from "../data.js";
import { words } from "../format.js";
import { KINDS, layered, lineageOf, related } from "../model/lineage.js";
import { Card, Table } from "../parts/bits.js";
import { Choice, Search } from "../parts/controls.js";
import { Empty, Failure, Loading } from "../parts/states.js";

const BOX = { width: 148, height: 50, stepX: 196, stepY: 64 };
const MOST_DRAWN = 400;

export function Lineage({ run, route, wakes }) {
  const { q = "", kind = "" } = route.query;
  const resource = useResource(`/v1/runs/${encodeURIComponent(run.run_id)}/lineage`, { wakes });
  const graph = resource.data || (isAbsent(resource.error) ? lineageOf(run) : null);
  if (!graph) return html`<${Card} title="Lineage">${resource.error ? html`<${Failure} error=${resource.error} retry=${resource.reload} what="The lineage" />` : html`<${Loading} />`}<//>`;
  const isWanted = (node) => (!kind || node.kind === kind) && `${node.label} ${node.id}`.toLowerCase().includes(q.toLowerCase());
  const wanted = new Set(graph.nodes.filter(isWanted).map((node) => node.id));
  return html`<${Card} title="Lineage" note="Choose a node to see all that it came from and all that came from it.">
    <div class="filters" role="search" aria-label="Lineage">
      <${Search} value=${q} label="Search" placeholder="Label or id" />
      <${Choice} name="kind" value=${kind} label="Kind" options=${[["", "Every kind"], ...KINDS.map((k) => [k, words(k)])]} />
    </div>
    ${!graph.nodes.length && html`<${Empty} title="Nothing has been made yet." />`}
    ${graph.nodes.length > 0 && !wanted.size && html`<${Empty} title="No node fits these filters." />`}
    ${wanted.size > 0 && graph.nodes.length <= MOST_DRAWN && html`<${Graph} graph=${graph} wanted=${wanted} isFiltered=${Boolean(q || kind)} />`}
    ${graph.nodes.length > MOST_DRAWN && html`<p class="soft">The graph has ${graph.nodes.length} nodes, too many to draw; the table has them all.</p>`}
    ${wanted.size > 0 && html`<details class="figures" open=${graph.nodes.length > MOST_DRAWN}><summary>As a table</summary><${Nodes} graph=${graph} wanted=${wanted} /></details>`}
  <//>`;
}

function Graph({ graph, wanted, isFiltered }) {
  const [chosen, setChosen] = useState(null);
  const places = useMemo(() => layered(graph), [graph]);
  const lit = chosen && places.at.has(chosen) ? related(chosen, places.edges) : isFiltered ? wanted : null;
  const rows = [...places.at.values()].map((place) => place.row);
  const [top, bottom] = [Math.min(...rows), Math.max(...rows)];
  const x = (id) => 8 + places.at.get(id).column * BOX.stepX;
  const y = (id) => 8 + (places.at.get(id).row - top) * BOX.stepY;
  const width = 16 + (places.columns.length - 1) * BOX.stepX + BOX.width;
  const span = (edge) => places.at.get(edge.to).column - places.at.get(edge.from).column;
  const longest = Math.max(1, ...places.edges.map(span));
  const height = 16 + (bottom - top) * BOX.stepY + BOX.height + (longest > 1 ? BOX.height : 0);
  const dim = (...ids) => (lit && !ids.every((id) => lit.has(id)) ? "is-dim" : "");
  return html`<div class="scroll lineage" tabindex="0" role="region" aria-label="Lineage graph">
    <svg width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} role="group" aria-label="Lineage graph, from left to right">
      ${places.edges.map((edge) => html`<path key=${`${edge.from}>${edge.to}`} class=${`edge ${dim(edge.from, edge.to)}`} d=${curve(x(edge.from) + BOX.width, y(edge.from) + BOX.height / 2, x(edge.to), y(edge.to) + BOX.height / 2, span(edge) > 1 ? height - 6 : null)} />`)}
      ${graph.nodes.map((node) => html`<${Node} key=${node.id} node=${node} x=${x(node.id)} y=${y(node.id)} isChosen=${node.id === chosen} className=${dim(node.id)}
        choose=${() => setChosen(node.id === chosen ? null : node.id)} />`)}
    </svg>
  </div>
  ${chosen && html`<p class="chosen" role="status"><strong>${words(graph.nodes.find((node) => node.id === chosen)?.kind)}</strong> <code>${chosen}</code>, ${lit.size - 1} related</p>`}`;
}

function Node({ node, x, y, isChosen, className, choose }) {
  const onKeyDown = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose();
  };
  return html`<g class=${`node kind-${node.kind} ${className} ${isChosen ? "is-chosen" : ""}`} role="button" tabindex="0" data-row aria-pressed=${String(isChosen)}
    aria-label=${`${words(node.kind)} ${spoken(node.label)}, round ${node.round}`} onClick=${choose} onKeyDown=${onKeyDown}>
    <rect x=${x} y=${y} width=${BOX.width} height=${BOX.height} rx="9" /><rect class="kind" x=${x} y=${y + 9} width="4" height=${BOX.height - 18} rx="2" />
    <text class="node-kind" x=${x + 14} y=${y + 19}>${words(node.kind)}${node.round ? ` · round ${node.round}` : ""}</text>
    <text class="node-label" x=${x + 14} y=${y + 37}>${cut(spoken(node.label))}<title>${node.label}</title></text>
  </g>`;
}

// A diagnosis is labelled by its cause as the contract writes it.
const spoken = (label) => String(label).replace(/^[A-Z][A-Z_]{3,}/, words);
const cut = (text) => (String(text).length > 19 ? `${String(text).slice(0, 18)}…` : String(text));

// A long edge runs along the bottom, so that it crosses no node between its ends.
function curve(x1, y1, x2, y2, bottom) {
  if (bottom !== null) {
    const bow = BOX.stepX - BOX.width;
    return `M${x1} ${y1}C${x1 + bow} ${y1} ${x1 + bow / 4} ${bottom} ${x1 + 2 * bow} ${bottom}L${x2 - 2 * bow} ${bottom}C${x2 - bow / 4} ${bottom} ${x2 - bow} ${y2} ${x2} ${y2}`;
  }
  const bend = Math.max(24, (x2 - x1) / 2);
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
}

function Nodes({ graph, wanted }) {
  const labels = new Map(graph.nodes.map((node) => [node.id, `${node.kind} ${node.label}`]));
  return html`<${Table} label="Lineage" head=${["Kind", "Label", { text: "Round", number: true }, "Came from", "Id"]}>
    ${graph.nodes.filter((node) => wanted.has(node.id)).map((node) => html`<tr key=${node.id}><th scope="row">${words(node.kind)}</th><td>${spoken(node.label)}</td><td class="number">${node.round}</td>
      <td>${graph.edges.filter((edge) => edge.to === node.id).map((edge) => labels.get(edge.from) || edge.from).join(", ") || "–"}</td><td><code>${node.id}</code></td></tr>`)}
  <//>`;
}
