// What a checkpoint did with each item: prompt, target, output, why it failed, and what the checkpoint before it said.
import { html } from "../lib.js";
import { isAbsent, usePages } from "../data.js";
import { measuredRounds } from "../model/facts.js";
import { sliceName, words } from "../format.js";
import { diffWords } from "../diff.js";
import { Card, Icon } from "../parts/bits.js";
import { Choice, More, Search, Segments } from "../parts/controls.js";
import { Empty, Failure, Loading } from "../parts/states.js";

const STATUSES = [["", "All"], ["wrong", "Wrong"], ["right", "Right"], ["broke", "Broke"], ["fixed", "Fixed"]];

export function Outcomes({ run, route, wakes }) {
  const { q = "", status = "", slice = "", arm = "" } = route.query;
  const measured = run.rounds.filter((round) => round.evaluation);
  const newest = measuredRounds(run).slice(-1)[0];
  const round = route.query.round ?? (newest ? String(newest.round) : "");
  const path = newest ? `/v1/runs/${encodeURIComponent(run.run_id)}/outcomes` : null;
  const pages = usePages(path, { round, arm, slice, q, status: status || "all" }, { field: "outcomes", wakes: null });
  const slices = new Map(measured.flatMap((r) => [...r.evaluation.slices, ...r.failures].map((s) => [s.slice.slice_id, sliceName(s.slice)])));
  const arms = [...new Set(measured.map((r) => r.arm))].sort();
  if (!newest) return html`<${Card} title="Outcomes"><${Empty} title="Nothing is measured yet." /><//>`;
  const compared = pages.first?.compared_with;
  return html`<${Card} title="Outcomes" note=${compared ? `Compared with ${comparedWith(compared)} on the same items: broke was right before, fixed was wrong.` : "Each item as the checkpoint answered it. A later round is compared with the checkpoint before it."}>
    <div class="filters" role="search" aria-label="Outcomes">
      <${Search} value=${q} label="Search" placeholder="Words of prompt or output" />
      <${Choice} name="round" value=${round} label="Round" options=${[...new Set(measured.map((r) => r.round))].map((n) => [String(n), n ? `Round ${n}` : "Base"])} />
      ${arms.length > 1 && html`<${Choice} name="arm" value=${arm} label="Arm" options=${arms.map((a) => [a, a || "The loop"])} />`}
      <${Choice} name="slice" value=${slice} label="Slice" options=${[["", "All items"], ...slices, ...(slice && !slices.has(slice) ? [[slice, slice]] : [])]} />
      <${Segments} name="status" value=${status} label="Answer" options=${STATUSES} />
    </div>
    ${pages.error && (isAbsent(pages.error)
      ? html`<${Empty} title="This gateway does not give out outcomes.">A newer one does; until then <code>mend report</code> shows examples of failures.<//>`
      : html`<${Failure} error=${pages.error} retry=${pages.reload} what="The outcomes" />`)}
    ${pages.isLoading && html`<${Loading} rows=${6} />`}
    ${!pages.isLoading && !pages.error && !pages.items.length && html`<${Empty} title="No item fits these filters." />`}
    <ul class="rows outcomes">${pages.items.map((outcome) => html`<${Outcome} key=${`${outcome.item_id}/${outcome.repeat_index || 0}`} of=${outcome} />`)}</ul>
    ${pages.items.length > 0 && html`<${More} pages=${pages} noun="items" />`}
  <//>`;
}

function comparedWith(compared) {
  if (typeof compared === "string") return compared.length > 20 ? `checkpoint ${compared.slice(0, 12)}` : compared;
  if (compared.round !== undefined) return compared.round ? `round ${compared.round}` : "the base";
  return "the checkpoint before";
}

function Outcome({ of }) {
  const change = of.before ? (of.is_right === isRight(of.before) ? "" : of.is_right ? "fixed" : "broke") : "";
  return html`<li class=${`outcome ${of.is_right ? "right" : "wrong"}`}>
    <details>
      <summary data-row>
        <span class=${`mark ${of.is_right ? "good" : "bad"}`}><${Icon} name=${of.is_right ? "check" : "cross"} /><span class="hidden">${of.is_right ? "right" : "wrong"}</span></span>
        <span class="outcome-prompt">${of.prompt}</span>
        <span class="outcome-why">${change && html`<span class=${`badge small ${change === "fixed" ? "good" : "bad"}`}>${change}</span>`}
          ${!of.is_right && of.failure && html`<span class="soft">${of.failure}</span>`}</span>
      </summary>
      <div class="outcome-body">
        <${Field} name="Prompt"><pre class="text">${of.prompt}</pre><//>
        <${Field} name="Target"><pre class="text">${of.target}</pre><//>
        <${Field} name=${of.is_right ? "Output" : "Output; underlined is not in the target, struck through is missing"}><${Diff} from=${of.target} to=${of.output} isPlain=${of.is_right} /><//>
        ${of.before && html`<${Field} name=${`Before, ${isRight(of.before) ? "right" : "wrong"}; underlined is not in the output of now`}><${Diff} from=${of.output} to=${of.before.output} /><//>`}
        <dl class="facts small"><dt>Item</dt><dd class="mono">${of.item_id}</dd><dt>Score</dt><dd>${of.score}${of.before ? `, before ${of.before.score}` : ""}</dd>
          <dt>Stopped by</dt><dd>${words(of.stop_reason)}</dd>
          ${of.cut?.length > 0 && html`<dt>Cut</dt><dd>${of.cut.join(", ")}: longer than what is shown</dd>`}
          ${axes(of.axes).map(([axis, values]) => html`<dt key=${axis}>${axis}</dt><dd>${[].concat(values).join(", ")}</dd>`)}</dl>
      </div>
    </details>
  </li>`;
}

const axes = (given) => (Array.isArray(given) ? given : Object.entries(given || {}));
const isRight = (before) => before.is_right ?? before.score >= 1;

function Field({ name, children }) {
  return html`<div class="pair"><h3>${name}</h3>${children}</div>`;
}

// Marked is what the second text has and the first lacks; struck through what it lacks.
export function Diff({ from, to, isPlain = false }) {
  if (isPlain || from === to) return html`<pre class="text">${to || html`<em class="soft">(empty)</em>`}</pre>`;
  return html`<pre class="text">${diffWords(from, to).map((part, i) => part.kind === "added" ? html`<ins key=${i}>${part.text}</ins>` : part.kind === "removed" ? html`<del key=${i}>${part.text}</del>` : part.text)}</pre>`;
}
