// The data of a round: the funnel with every drop and its reason, shifts of its attributes, and the examples.
import { html } from "../lib.js";
import { isAbsent, usePages } from "../data.js";
import { count, percent, words } from "../format.js";
import { Card, Table } from "../parts/bits.js";
import { Choice, More, Search } from "../parts/controls.js";
import { Empty, Failure, Loading } from "../parts/states.js";

export function Drops({ run, route }) {
  const rounds = run.rounds.filter((round) => round.batch);
  const newest = rounds.filter((round) => !round.arm).slice(-1)[0] || rounds[0];
  const { q = "" } = route.query;
  const chosen = rounds.find((r) => String(r.round) === route.query.round && r.arm === (route.query.arm || "")) || newest;
  const path = chosen ? `/v1/runs/${encodeURIComponent(run.run_id)}/batches/${chosen.round}` : null;
  const pages = usePages(path, { arm: chosen?.arm }, { field: "examples", limit: 25 });
  if (!chosen) return html`<${Card} title="Data"><${Empty} title="No data was made in this run yet.">A round makes some when a diagnosis says that data is the cause.<//><//>`;
  const { batch, reviewed } = chosen;
  const arms = [...new Set(rounds.map((r) => r.arm))];
  return html`
    ${rounds.length > 1 && html`<div class="filters">
      <${Choice} name="round" value=${String(chosen.round)} label="Round" options=${[...new Set(rounds.map((r) => r.round))].map((n) => [String(n), `Round ${n}`])} />
      ${arms.length > 1 && html`<${Choice} name="arm" value=${chosen.arm} label="Arm" options=${arms.map((a) => [a, a || "The loop"])} />`}
    </div>`}
    <${Card} title=${`What was kept and dropped, round ${chosen.round}`} note="Candidates pass one check after another; each that is dropped is counted with its reason.">
      <${Funnel} drops=${pages.first?.funnel || batch.drops} kept=${batch.example_count} />
      ${reviewed && html`<p>People left ${count(reviewed.example_count)} of ${count(batch.example_count)} examples.</p>`}
    <//>
    ${pages.first?.shifts?.length > 0 && html`<${Card} title="Shifts" note="How the batch differs from the corpus in its declared attributes."><${Shifts} shifts=${pages.first.shifts} /><//>`}
    <${Card} title="Examples">
      ${!isAbsent(pages.error) && html`<div class="filters" role="search" aria-label="Examples"><${Search} value=${q} label="Search" placeholder="Words of prompt or answer" /></div>`}
      ${pages.error && (isAbsent(pages.error)
        ? html`<${Empty} title="This gateway does not give out examples."><code>mend export</code> writes the batch as a data set.<//>`
        : html`<${Failure} error=${pages.error} retry=${pages.reload} what="The examples" />`)}
      ${pages.isLoading && html`<${Loading} />`}
      <${Examples} pages=${pages} q=${q} />
    <//>
  `;
}

function Funnel({ drops, kept }) {
  const counted = drops.filter((drop) => drop.count);
  const notes = drops.filter((drop) => !drop.count);
  const seen = kept + counted.reduce((sum, drop) => sum + drop.count, 0);
  let left = seen;
  const stages = [...new Set(counted.map((drop) => drop.stage))].map((stage) => {
    const reasons = counted.filter((drop) => drop.stage === stage);
    const dropped = reasons.reduce((sum, drop) => sum + drop.count, 0);
    left -= dropped;
    return { stage, reasons, dropped, left };
  });
  return html`<ol class="funnel">
    <li><span class="funnel-name">Candidates</span><${Bar} kept=${seen} dropped=${0} of=${seen} /><span class="funnel-count">${count(seen)}</span></li>
    ${stages.map(({ stage, reasons, dropped, left: rest }) => html`<li key=${stage}>
      <span class="funnel-name">${words(stage)}</span><${Bar} kept=${rest} dropped=${dropped} of=${seen} />
      <span class="funnel-count">−${count(dropped)}</span>
      <ul class="funnel-why">${reasons.map((drop) => html`<li key=${drop.reason}>${count(drop.count)}: ${drop.reason}</li>`)}</ul></li>`)}
    <li class="is-kept"><span class="funnel-name">Kept</span><${Bar} kept=${kept} dropped=${0} of=${seen} /><span class="funnel-count">${count(kept)} <span class="soft">(${percent(seen ? kept / seen : null, 0)})</span></span></li>
  </ol>
  ${notes.map((note, i) => html`<p key=${i} class="soft">${words(note.stage)}: ${note.reason}</p>`)}`;
}

function Bar({ kept, dropped, of }) {
  const share = (n) => (of ? (100 * n) / of : 0);
  return html`<svg class="funnel-bar" height="16" aria-hidden="true"><rect class="rail" width="100%" height="16" rx="4" /><rect class="fill" width=${`${share(kept)}%`} height="16" rx="4" />
    <rect class="dropped" x=${`${share(kept)}%`} width=${`${share(dropped)}%`} height="16" rx="4" /></svg>`;
}

// The columns are the gateway's: whatever an audit measures.
function Shifts({ shifts }) {
  if (typeof shifts[0] !== "object") return html`<ul class="plain">${shifts.map((shift, i) => html`<li key=${i}>${String(shift)}</li>`)}</ul>`;
  const columns = Object.keys(shifts[0]);
  return html`<${Table} label="Shifts" head=${columns.map((name) => ({ text: words(name), number: typeof shifts[0][name] === "number" }))}>
    ${shifts.map((shift, i) => html`<tr key=${i}>${columns.map((name) => html`<td key=${name} class=${typeof shift[name] === "number" ? "number" : ""}>${typeof shift[name] === "number" ? Number(shift[name].toPrecision(3)) : typeof shift[name] === "object" ? JSON.stringify(shift[name]) : String(shift[name])}</td>`)}</tr>`)}
  <//>`;
}

function Examples({ pages, q }) {
  // The gateway does not search a batch: what is loaded is searched here.
  const shown = pages.items.filter((one) => `${one.prompt} ${one.completion ?? one.chosen ?? ""}`.toLowerCase().includes(q.toLowerCase()));
  if (!shown.length) return pages.isLoading || pages.error ? null : html`<${Empty} title=${q ? "No example that was loaded has these words." : "The batch is empty."} />`;
  return html`<${Table} label="Examples" stack=${true} head=${["Prompt", "Answer", "Source", "Slice"]}>
    ${shown.map((one, i) => html`<tr key=${i}><td class="text-cell" data-label="Prompt">${one.prompt}</td>
      <td class="text-cell" data-label="Answer">${one.completion ?? one.chosen}${one.rejected && html`<del class="sub">${one.rejected}</del>`}</td>
      <td data-label="Source">${one.source}</td><td data-label="Slice">${one.slice_id || "–"}</td></tr>`)}
  <//><${More} pages=${pages} noun="examples" />`;
}
