// Every slice of a run with its trend; the weak ones first. Rows come in pages from the gateway.
import { html } from "../lib.js";
import { isAbsent, usePages } from "../data.js";
import { percent, words } from "../format.js";
import { slicesOf } from "../model/facts.js";
import { runPath } from "../router.js";
import { Spark } from "../charts/trend.js";
import { Accuracy, Card, Cause, Change, Table } from "../parts/bits.js";
import { Check, Choice, More, Search } from "../parts/controls.js";
import { Empty, Failure, Loading } from "../parts/states.js";

export function Slices({ run, route, wakes }) {
  const { q = "", cause = "", weak = "" } = route.query;
  const paged = usePages(`/v1/runs/${encodeURIComponent(run.run_id)}/slices`, { q, cause, weak: weak && "true" }, { field: "slices", wakes });
  const isLocal = isAbsent(paged.error);
  const pages = isLocal ? local(run, { q, cause, weak }) : paged;
  const causes = [...new Set(run.rounds.flatMap((round) => round.diagnoses.map((d) => d.cause)))].sort();
  return html`<${Card} title="Slices" note=${`A slice is a conjunction of axis values${run.recipe_facts?.axes?.length ? ` (${run.recipe_facts.axes.join(", ")})` : ""}. Weak ones are significantly below the threshold on two splits.`}>
    <div class="filters" role="search" aria-label="Slices">
      <${Search} value=${q} label="Search" placeholder="verb=jump" />
      <${Choice} name="cause" value=${cause} label="Cause" options=${[["", "Any cause"], ...causes.map((c) => [c, words(c)])]} />
      <${Check} name="weak" value=${weak} label="Only weak" />
    </div>
    ${pages.error && html`<${Failure} error=${pages.error} retry=${pages.reload} what="The slices" />`}
    ${pages.isLoading ? html`<${Loading} rows=${5} />` : html`<${Rows} run=${run} slices=${pages.items} isFiltered=${Boolean(q || cause || weak)} />`}
    ${pages.items.length > 0 && html`<${More} pages=${pages} noun="slices" />`}
  <//>`;
}

function local(run, { q, cause, weak }) {
  const items = slicesOf(run).filter((s) => (!cause || s.cause === cause) && (!weak || s.is_weak) && named(s).toLowerCase().includes(q.toLowerCase()));
  items.sort((a, b) => Number(b.is_weak) - Number(a.is_weak));
  return { items, total: items.length, more: false, error: null, isLoading: false };
}

// The definition is text or conditions, whichever the gateway gives.
export function named(slice) {
  const given = slice.definition ?? slice.name ?? slice.slice_id;
  if (typeof given === "string") return given;
  if (Array.isArray(given)) return given.map(([axis, value]) => `${axis}=${value}`).join(" ∧ ");
  return given.name || Object.entries(given).map(([axis, value]) => `${axis}=${value}`).join(" ∧ ");
}

function Rows({ run, slices, isFiltered }) {
  if (!slices.length) return html`<${Empty} title=${isFiltered ? "No slice fits these filters." : "No slice is measured yet."} />`;
  const threshold = run.recipe_facts?.weak_below ?? null;
  // With one round measured there is neither trend nor change to show, only dashes.
  const hasTrend = slices.some((slice) => slice.trend.filter((point) => !point.arm && point.n).length > 1);
  const head = ["Slice", hasTrend && "Over the rounds", "Newest accuracy", hasTrend && { text: "Since the first, points", number: true }, "Cause", "Items"];
  return html`<${Table} label="Slices" stack=${true} head=${head.filter(Boolean)}>
    ${slices.map((slice) => {
      const trend = slice.trend.filter((point) => !point.arm && point.n).sort((a, b) => a.round - b.round);
      const [first, last] = [trend[0], trend[trend.length - 1]];
      return html`<tr key=${slice.slice_id}>
        <th scope="row">${named(slice)}<${Weak} slice=${slice} /></th>
        ${hasTrend && html`<td data-label="Over the rounds"><${Spark} points=${trend} /></td>`}
        <td data-label="Newest accuracy"><${Accuracy} of=${last} threshold=${threshold} /></td>
        ${hasTrend && html`<td class="number" data-label="Since the first"><${Change} from=${trend.length > 1 ? first : null} to=${last} /></td>`}
        <td data-label="Cause"><${SliceCause} run=${run} slice=${slice} /></td>
        <td><a data-row href=${`${runPath(run.run_id, "outcomes")}?slice=${encodeURIComponent(slice.slice_id)}`}>Outcomes<span class="hidden"> of ${named(slice)}</span></a></td>
      </tr>`;
    })}
  <//>`;
}

function Weak({ slice }) {
  if (slice.is_weak_now ?? slice.is_weak) return html` <span class="badge warn small">weak</span>`;
  return slice.is_weak ? html` <span class="badge small">was weak</span>` : null;
}

function SliceCause({ run, slice }) {
  if (!slice.cause) return html`<span class="soft">–</span>`;
  const round = run.rounds.find((r) => r.diagnoses.some((d) => d.slice.slice_id === slice.slice_id));
  const chip = html`<${Cause} name=${slice.cause} />`;
  return html`${round ? html`<a href=${runPath(run.run_id, "diagnoses", String(round.round), slice.slice_id)}>${chip}</a>` : chip}
    ${slice.confidence !== null && slice.confidence !== undefined && html`<span class="soft"> ${percent(slice.confidence, 0)} sure</span>`}`;
}
