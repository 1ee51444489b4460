// What the gates decided about each candidate, with every number: paired difference, interval, p, margin.
import { html } from "../lib.js";
import { clock, count, pValue, percent, points, sliceName, words } from "../format.js";
import { IntervalBar } from "../charts/interval_bar.js";
import { Card, Hash, Table, Verdict } from "../parts/bits.js";
import { Check, Search } from "../parts/controls.js";
import { Empty } from "../parts/states.js";

export function Gates({ run, route }) {
  const { q = "", failed = "" } = route.query;
  const decided = run.rounds.filter((round) => round.decision);
  if (!decided.length) {
    return html`<${Card} title="Gates"><${Empty} title="No candidate was judged yet.">A candidate must show that it helps the weak slices and harms no other.<//><//>`;
  }
  const fits = (gate) => (!failed || !gate.passed) && `${gate.gate} ${sliceName(gate.slice)}`.toLowerCase().includes(q.toLowerCase());
  return html`
    <div class="filters" role="search" aria-label="Gates">
      <${Search} value=${q} label="Search" placeholder="Gate or slice" />
      <${Check} name="failed" value=${failed} label="Only failed" />
    </div>
    ${[...decided].reverse().map((round) => html`<${Decision} key=${`${round.round}/${round.arm}`} run=${run} round=${round} gates=${round.decision.gates.filter(fits)} />`)}
    ${run.rollbacks.map((back) => html`<${Card} key=${back.stamp.event_id} title=${`Round ${back.round} was rolled back`}>
      <p>${back.rolled_back_by || "A local user"}, ${clock(back.stamp.at)}: ${back.reason ? `“${back.reason}”` : "no reason given"}</p><//>`)}
  `;
}

function Decision({ run, round, gates }) {
  const { decision } = round;
  const margin = run.recipe_facts?.margin ?? null;
  const ordered = [...gates].sort((a, b) => Number(a.passed) - Number(b.passed));
  const title = `Round ${round.round}${round.arm ? `, arm ${round.arm}` : ""}`;
  return html`<${Card} title=${title} aside=${html`<${Verdict} passed=${decision.promoted} yes="promoted" no="rejected" />`}>
    <dl class="facts"><dt>Candidate</dt><dd><${Hash} value=${decision.checkpoint?.sha256} label="the candidate's checksum" /></dd>
      <dt>${decision.promoted ? "Replaces" : "Stays"}</dt><dd><${Hash} value=${decision.other?.sha256} label="the other checkpoint's checksum" /></dd>
      ${decision.reason && html`<dt>Reason</dt><dd>${decision.reason}</dd>`}</dl>
    ${!gates.length
      ? html`<p class="soft">${decision.gates.length ? "No gate fits these filters." : "No gate was asked."}</p>`
      : html`<${Table} label=${`Gates of ${title}`} stack=${true} head=${["Gate", "Answer", { text: "Before", number: true }, { text: "After", number: true }, "Paired difference, points", { text: "p", number: true }, { text: "n", number: true }, "Asked for"]}>
        ${ordered.map((gate, i) => html`<${Gate} key=${i} gate=${gate} margin=${margin} />`)}
      <//>
      ${margin !== null && html`<p class="soft note">Targets are drawn from −100 to +100 points, protected slices from −${(300 * margin).toFixed(0)} to +${(300 * margin).toFixed(0)}; the thin mark there is the margin, a loss of ${points(margin).slice(1)} points that must be ruled out.</p>`}`}
  <//>`;
}

function Gate({ gate, margin }) {
  const isProtected = margin > 0 && (gate.gate.includes("non_inferior") || gate.gate.includes("protected"));
  const reach = isProtected ? 3 * margin : 1;
  const hasFigures = gate.n > 0 && (gate.low !== gate.high || gate.before !== gate.after || gate.p_value > 0);
  const slice = sliceName(gate.slice);
  return html`<tr>
    <th scope="row">${words(gate.gate)}<span class="sub">${slice}</span></th>
    <td data-label="Answer"><${Verdict} passed=${gate.passed} /></td>
    <td class="number" data-label="Before">${hasFigures ? percent(gate.before) : "–"}</td>
    <td class="number" data-label="After">${hasFigures ? percent(gate.after) : "–"}</td>
    <td data-label="Paired difference">${hasFigures
      ? html`<span class="accuracy"><${IntervalBar} value=${gate.after - gate.before} low=${gate.low} high=${gate.high} from=${-reach} to=${reach} mark=${isProtected && !gate.gate.includes("undecidable") ? -margin : null} kind=${gate.passed ? "good" : "bad"} />
          <span class="accuracy-text"><strong>${points(gate.after - gate.before)}</strong><span class="soft"> ${points(gate.low)} to ${points(gate.high)}</span></span></span>`
      : html`<span class="soft">not given out</span>`}</td>
    <td class="number" data-label="p">${hasFigures ? pValue(gate.p_value) : "–"}</td>
    <td class="number" data-label="n">${count(gate.n)}</td>
    <td data-label="Asked for" class="prose">${gate.requirement}</td>
  </tr>`;
}
