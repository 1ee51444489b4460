// What was planned, round by round: why, at what price, who agreed, and what came of it.
import { html } from "../lib.js";
import { clock, count, percent, sentence, sliceName, words } from "../format.js";
import { splitPrice, RESOURCES } from "../model/facts.js";
import { runPath } from "../router.js";
import { Card, Cause, Hash, Table, Verdict } from "../parts/bits.js";
import { Empty } from "../parts/states.js";

export function Plans({ run }) {
  const rounds = run.rounds.filter((round) => round.plan || round.approval || round.review);
  if (!rounds.length) return html`<${Card} title="Plans"><${Empty} title="Nothing is planned yet.">A plan follows when every weak slice has its diagnosis.<//><//>`;
  return html`${[...rounds].reverse().map((round) => html`<${RoundPlan} key=${`${round.round}/${round.arm}`} run=${run} round=${round} />`)}`;
}

function RoundPlan({ run, round }) {
  const { plan } = round;
  const asked = round.approval?.question ? splitPrice(round.approval.question.summary) : null;
  const title = `Round ${round.round}${round.arm ? `, arm ${round.arm}` : ""}: ${plan ? words(plan.kind) : "waits for approval"}`;
  return html`<${Card} title=${title} aside=${round.decision && html`<${Verdict} passed=${round.decision.promoted} yes="promoted" no="rejected" />`}>
    <p class="summary">${sentence(plan?.rationale || asked?.text)}</p>
    <dl class="facts">
      ${asked?.price.length > 0 && html`<dt>Reserves</dt><dd>${asked.price.map(({ resource, amount }) => `${count(amount)} ${RESOURCES[resource] || resource}`).join(", ")}</dd>`}
      ${plan?.train_token_limit > 0 && html`<dt>Training</dt><dd>at most ${count(plan.train_token_limit)} tokens${plan.kind === "data" ? `, ${percent(plan.replay_share, 0)} of them replayed` : ""}</dd>`}
      ${plan?.checkpoint && html`<dt>From checkpoint</dt><dd><${Hash} value=${plan.checkpoint.sha256} /></dd>`}
      ${plan?.fixes.length > 0 && html`<dt>Settings</dt><dd>${plan.fixes.map((fix) => html`<code key=${fix.setting}>${fix.setting}=${fix.value_json}</code> `)}</dd>`}
    </dl>
    ${plan?.items.length > 0 && html`<${Table} label=${`Data for round ${round.round}`} head=${["Slice", "Cause", { text: "Examples", number: true }]}>
      ${plan.items.map((item) => html`<tr key=${item.slice.slice_id}><th scope="row">${sliceName(item.slice)}</th><td><${Cause} name=${item.cause} /></td><td class="number">${count(item.example_count)}</td></tr>`)}
    <//>`}
    <${Answer} part=${round.approval} noun="plan" />
    <${Answer} part=${round.review} noun="batch" />
    ${round.batch && html`<p class="soft">${count((round.reviewed || round.batch).example_count)} examples were made. <a href=${`${runPath(run.run_id, "data")}?round=${round.round}`}>See them, and what was dropped</a></p>`}
    ${round.training_failure && html`<p class="bad-text">The training failed at step ${count(round.training_failure.step)}: ${round.training_failure.reason}</p>`}
  <//>`;
}

function Answer({ part, noun }) {
  if (!part?.question) return null;
  if (!part.answer) return html`<p class="answer"><span class="badge warn">the ${noun} waits for an answer</span></p>`;
  const { approved, approved_by: by, reason, stamp } = part.answer;
  return html`<p class="answer"><${Verdict} passed=${approved} yes=${`${noun} approved`} no=${`${noun} rejected`} />
    <span class="soft"> by ${by || "a local user"}, ${clock(stamp.at)}.</span> ${reason ? html`“${reason}”` : html`<span class="soft">No reason given.</span>`}</p>`;
}
