// Why slices are weak: the list of verdicts, and one of them with all its evidence.
import { html } from "../lib.js";
import { withQuery } from "../api.js";
import { isAbsent, useResource } from "../data.js";
import { percent, plural, sliceName, words } from "../format.js";
import { gist, normalDiagnosis } from "../model/evidence.js";
import { runPath } from "../router.js";
import { Attachment } from "../parts/attachment.js";
import { EvidenceTable } from "../parts/evidence_table.js";
import { Accuracy, Card, Cause, Icon } from "../parts/bits.js";
import { Choice, Search } from "../parts/controls.js";
import { Empty, Failure, Loading, Notice } from "../parts/states.js";

const MOST_CAUSES = 8;

export function Diagnoses({ run, route, wakes }) {
  const all = run.rounds.flatMap((round) => round.diagnoses.map((diagnosis) => ({ round, diagnosis })));
  const [number, sliceId] = route.parts;
  if (number !== undefined && sliceId !== undefined) {
    const { arm = "" } = route.query;
    const chosen = all.find(({ round, diagnosis }) => String(round.round) === number && round.arm === arm && diagnosis.slice.slice_id === sliceId);
    return html`<${Diagnosis} run=${run} query=${route.query} arm=${arm} number=${number} sliceId=${sliceId} chosen=${chosen} wakes=${wakes} />`;
  }
  return html`<${List} run=${run} all=${all} query=${route.query} />`;
}

function List({ run, all, query }) {
  const { q = "", cause = "" } = query;
  const causes = [...new Set(all.map(({ diagnosis }) => diagnosis.cause))].sort();
  const shown = all.filter(({ diagnosis: d }) => (!cause || d.cause === cause) && `${sliceName(d.slice)} ${d.summary}`.toLowerCase().includes(q.toLowerCase()));
  const waiting = run.rounds.flatMap((round) => round.failures.filter((f) => !round.diagnoses.some((d) => d.slice.slice_id === f.slice.slice_id)));
  return html`<${Card} title="Diagnoses" note="Each weak slice gets a verdict by measured probes, or an abstention that says what is missing.">
    ${all.length > 1 && html`<div class="filters" role="search" aria-label="Diagnoses">
      <${Search} value=${q} label="Search" placeholder="Slice or words" />
      <${Choice} name="cause" value=${cause} label="Cause" options=${[["", "Any cause"], ...causes.map((c) => [c, words(c)])]} />
    </div>`}
    ${waiting.length > 0 && run.state !== "finished" && html`<${Notice}>${plural(waiting.length, "weak slice is", "weak slices are")} being probed: ${waiting.map((f) => sliceName(f.slice)).join("; ")}<//>`}
    ${!all.length && html`<${Empty} title="No diagnosis yet.">${run.state === "finished" ? "No slice was weak enough to ask why." : "It follows the first evaluation that finds a weak slice."}<//>`}
    ${all.length > 0 && !shown.length && html`<${Empty} title="No diagnosis fits these filters." />`}
    <ul class="rows">${shown.map(({ round, diagnosis }) => html`<${Row} key=${`${round.round}/${round.arm}/${diagnosis.slice.slice_id}`} run=${run} round=${round} diagnosis=${diagnosis} />`)}</ul>
  <//>`;
}

function Row({ run, round, diagnosis }) {
  const failure = round.failures.find((f) => f.slice.slice_id === diagnosis.slice.slice_id);
  return html`<li class="row link-row">
    <div class="row-main">
      <a class="row-link" data-row href=${withQuery(runPath(run.run_id, "diagnoses", String(round.round), diagnosis.slice.slice_id), { arm: round.arm })}>${sliceName(diagnosis.slice)}</a>
      <span class="sub">${round.round ? `round ${round.round}` : "base"}${round.arm ? `, arm ${round.arm}` : ""}, ${plural(diagnosis.failed_count, "failed item")}</span>
      <p class="row-text">${gist(diagnosis.summary, { name: sliceName(diagnosis.slice), cause: diagnosis.cause }).said}</p>
    </div>
    <div class="row-side"><${Cause} name=${diagnosis.cause} /><span class="soft">${percent(diagnosis.confidence, 0)} sure</span>
      ${failure && html`<${Accuracy} of=${failure.accuracy} threshold=${failure.threshold} />`}</div>
  </li>`;
}

function Diagnosis({ run, query, arm, number, sliceId, chosen, wakes }) {
  const resource = useResource(withQuery(`/v1/runs/${encodeURIComponent(run.run_id)}/diagnoses/${encodeURIComponent(number)}/${encodeURIComponent(sliceId)}`, { arm }), { wakes });
  if (!chosen && resource.isLoading) return html`<${Loading} />`;
  if (!chosen && !resource.data) return html`<${Empty} title="There is no such diagnosis in this run."><a href=${runPath(run.run_id, "diagnoses")}>All diagnoses</a><//>`;
  const found = normalDiagnosis(resource.data, chosen?.diagnosis);
  const failure = chosen?.round.failures.find((f) => f.slice.slice_id === sliceId);
  const name = chosen ? sliceName(chosen.diagnosis.slice) : sliceId;
  const { said, skipped } = gist(found.summary, { name, cause: found.cause });
  return html`
    <p class="crumbs"><a href=${runPath(run.run_id, "diagnoses")}><span aria-hidden="true">← </span>All diagnoses</a></p>
    <${Card} title=${name} aside=${html`<a href=${`${runPath(run.run_id, "outcomes")}?slice=${encodeURIComponent(sliceId)}&status=wrong`}>See its failures</a>`}>
      <div class="verdict-head"><span class="verdict-cause">${words(found.cause)}</span>
        ${found.family && html`<span class="chip">${found.family}</span>`}
        ${found.confidence !== null && html`<span>${percent(found.confidence, 0)} sure</span>`}</div>
      <p class="summary">${said}</p>
      ${skipped.length > 0 && html`<p class="soft">Probes that could not have changed it: ${skipped.map(words).join(", ").toLowerCase()}.</p>`}
      ${found.also.length > 0 && html`<p>The evidence also shows ${found.also.map((cause) => html`<${Cause} key=${cause} name=${cause} /> `)}</p>`}
      ${failure && html`<dl class="facts"><dt>Accuracy, search split</dt><dd><${Accuracy} of=${failure.accuracy} threshold=${failure.threshold} /></dd>
        <dt>Accuracy, second split</dt><dd><${Accuracy} of=${failure.confirmation} threshold=${failure.threshold} /></dd></dl>`}
    <//>
    <div class="columns">
      <${Card} title="Causes considered"><${Causes} scores=${found.scores} named=${[found.cause, ...found.also]} /><//>
      <${Card} title="Proposed interventions"><${Interventions} of=${found.interventions} /><//>
    </div>
    <${Card} title="Evidence" note="Every measurement that the verdict rests on, with its 95 % interval."><${EvidenceTable} rows=${found.rows} q=${query.q} /><//>
    ${resource.error && (isAbsent(resource.error)
      ? html`<${Notice}>This gateway does not give out heat maps and attributed examples; <code>mend report</code> shows them.<//>`
      : html`<${Failure} error=${resource.error} retry=${resource.reload} what="What the evidence carries" />`)}
    ${found.attachments.map((one, i) => html`<${Attachment} key=${i} of=${one} />`)}
  `;
}

function Causes({ scores, named }) {
  const likely = [...scores].filter((one) => one.score >= 0.01).sort((a, b) => b.score - a.score).slice(0, MOST_CAUSES);
  if (!likely.length) return html`<p class="soft">None is likely.</p>`;
  return html`<ul class="bars">${likely.map(({ cause, score }) => html`<li key=${cause} class=${named.includes(cause) ? "is-named" : ""}>
    <span class="bar-name">${words(cause)}${named[0] === cause && html` <${Icon} name="check" /><span class="hidden"> the verdict</span>`}</span>
    <svg height="10" aria-hidden="true"><rect class="rail" width="100%" height="10" rx="3" /><rect class="fill" width=${`${100 * score}%`} height="10" rx="3" /></svg>
    <span class="bar-value">${percent(score, 0)}</span></li>`)}</ul>`;
}

function Interventions({ of }) {
  if (!of.length) return html`<p class="soft">None: a person has to look.</p>`;
  return html`<ol class="plain">${of.map((one, i) => html`<li key=${i}><strong>${words(one.kind)}</strong>
    ${(one.fixes || []).map((fix) => html` <code>${typeof fix === "string" ? fix : `${fix.setting}=${fix.value_json}`}</code>`)}
    <span class="sub">${one.rationale}</span></li>`)}</ol>`;
}
