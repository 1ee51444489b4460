// The list of runs: what waits for a person first, then all of them, newest first, live.
import { html, useEffect } from "../lib.js";
import { usePages, useResource } from "../data.js";
import { ago, clock, count, duration, plural, words } from "../format.js";
import { runPath } from "../router.js";
import { StateBadge, Table } from "../parts/bits.js";
import { useNow } from "../parts/clock.js";
import { Choice, More, Search } from "../parts/controls.js";
import { Empty, Failure, Loading } from "../parts/states.js";

const STATES = ["requested", "training", "evaluating", "diagnosing", "planning", "waiting-approval", "generating", "waiting-review", "gating", "paused", "cancelling", "finished"];
const OUTCOMES = ["promoted", "rejected", "healthy", "abstained", "evaluation_fixed", "budget_exceeded", "cancelled", "failed"];
const always = () => true;

export function Runs({ route }) {
  const { state = "", q = "", outcome = "" } = route.query;
  const pages = usePages("/v1/runs", { state, q, outcome }, { field: "runs", wakes: always });
  useEffect(() => {
    document.title = "Runs · Mendloop";
  }, []);
  // A gateway that counts no total is an older one, which ignores q and outcome; the page then filters what it has.
  const shown = pages.total === undefined ? pages.items.filter((run) => fits(run, { q, outcome })) : pages.items;
  return html`
    <div class="head"><h1>Runs</h1><p class="lede">Each run measures a checkpoint, finds out why it is weak, mends that, and proves that it helped.</p></div>
    <${Waiting} />
    <div class="filters" role="search" aria-label="Runs">
      <${Search} value=${q} label="Search" placeholder="Recipe, person, slice or cause" />
      <${Choice} name="state" value=${state} label="State" options=${[["", "Any state"], ...STATES.map((s) => [s, words(s)])]} />
      <${Choice} name="outcome" value=${outcome} label="Outcome" options=${[["", "Any outcome"], ...OUTCOMES.map((o) => [o, words(o)])]} />
    </div>
    ${pages.error && html`<${Failure} error=${pages.error} retry=${pages.reload} what="The list of runs" />`}
    ${pages.isLoading ? html`<${Loading} rows=${6} />` : html`<${List} runs=${shown} isFiltered=${Boolean(state || q || outcome)} error=${pages.error} />`}
    ${shown.length > 0 && html`<${More} pages=${{ ...pages, items: shown }} noun="runs" />`}
  `;
}

function fits(run, { q, outcome }) {
  const text = `${run.run_id} ${run.recipe} ${run.summary}`.toLowerCase();
  return (!outcome || run.outcome === outcome) && q.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

function Waiting() {
  const approvals = useResource("/v1/runs?state=waiting-approval&limit=5", { wakes: always }).data?.runs || [];
  const reviews = useResource("/v1/runs?state=waiting-review&limit=5", { wakes: always }).data?.runs || [];
  const runs = [...approvals, ...reviews];
  if (!runs.length) return null;
  return html`<section class="waiting" aria-label="Waiting for a person">
    <h2>${plural(runs.length, "run waits", "runs wait")} for an answer</h2>
    <ul>${runs.map((run) => html`<li key=${run.run_id}><a href=${runPath(run.run_id)}>${run.recipe || run.run_id}</a>
      <span class="soft"> round ${run.round}, ${words(run.state).toLowerCase()} since ${clock(run.updated_at)}</span></li>`)}</ul>
  </section>`;
}

function List({ runs, isFiltered, error }) {
  if (!runs.length && error) return null;
  if (!runs.length && isFiltered) return html`<${Empty} title="No run fits these filters.">Take one away, or search for a part of a recipe's name.<//>`;
  if (!runs.length) {
    return html`<${Empty} title="No run yet.">Start one with <code>mend run RECIPE</code> or <code>POST /v1/runs</code>; it appears here at once.<//>`;
  }
  return html`<${Table} label="Runs" stack=${true}
    head=${["Run", "State", { text: "Round", number: true }, "Started", { text: "Time", number: true }, { text: "Tokens", number: true }, { text: "Dead letters", number: true }]}>
    ${runs.map((run) => html`<${Row} key=${run.run_id} run=${run} />`)}
  <//>`;
}

function Row({ run }) {
  const now = useNow(run.finished_at ? 0 : 5000);
  const seconds = run.started_at ? (Date.parse(run.finished_at || new Date(now).toISOString()) - Date.parse(run.started_at)) / 1000 : null;
  return html`<tr class="link-row">
    <th scope="row"><a class="row-link" href=${runPath(run.run_id)} data-row>${run.recipe || run.run_id}</a><span class="sub mono">${run.run_id}</span></th>
    <td class="alone" data-label="State"><${StateBadge} run=${run} />${run.summary && html`<span class="sub clip" title=${run.summary}>${run.summary}</span>`}</td>
    <td class="number" data-label="Round">${run.round}</td>
    <td data-label="Started"><time datetime=${run.started_at} title=${clock(run.started_at)}>${ago(run.started_at)}</time></td>
    <td class="number" data-label="Time">${duration(seconds)}</td>
    <td class="number optional" data-label="Tokens">${count(run.cost?.token_count)}</td>
    <td class=${`number ${run.dead_letter_count ? "" : "optional"}`} data-label="Dead letters">${run.dead_letter_count ? html`<span class="bad-text">${run.dead_letter_count}</span>` : "0"}</td>
  </tr>`;
}
