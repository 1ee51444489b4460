// What the run waits for: the plan with its price, and the buttons that approve or reject it with a reason.
import { html, useState } from "../lib.js";
import { ago, count, duration, sentence } from "../format.js";
import { RESOURCES, budgets } from "../model/facts.js";
import { may, useMe } from "../session.js";
import { Ask } from "../parts/ask.js";
import { Icon } from "../parts/bits.js";
import { runPath } from "../router.js";

export function Questions({ run, questions, reload }) {
  const me = useMe();
  const [asked, setAsked] = useState(null);
  if (!questions.length) return null;
  const ask = (question, approved) => setAsked(askFor(run, question, approved));
  return html`<div class="questions">
    ${questions.map((question) => html`<section key=${question.planId} class="question" aria-label="Waiting for your answer">
      <h2><${Icon} name="clock" />${question.isReview ? "A batch waits for review" : "A plan waits for approval"}</h2>
      <p class="question-text">${sentence(question.summary)}</p>
      <p class="soft">Round ${question.round}, asked ${ago(question.at)}. <a href=${runPath(run.run_id, "diagnoses")}>See the diagnosis behind it</a>${question.isReview && html`, <a href=${runPath(run.run_id, "data")}>look at the data</a>`}.</p>
      <${Price} run=${run} price=${question.price} />
      ${may(me, "approve")
        ? html`<div class="question-end">
            <button class="button primary" data-key="approve" onClick=${() => ask(question, true)}><${Icon} name="check" />Approve…</button>
            <button class="button" data-key="reject" onClick=${() => ask(question, false)}><${Icon} name="cross" />Reject…</button>
          </div>`
        : html`<p class="soft">Your key may read but not approve.</p>`}
    </section>`)}
    <${Ask} question=${asked} onClose=${() => setAsked(null)} onDone=${reload} />
  </div>`;
}

function askFor(run, question, approved) {
  const what = question.isReview ? "batch" : "plan";
  return {
    title: approved ? `Approve the ${what}` : `Reject the ${what}`, text: question.summary,
    verb: approved ? `Approve ${what}` : `Reject ${what}`, kind: approved ? "primary" : "danger",
    done: approved ? `The ${what} is approved` : `The ${what} is rejected`,
    path: `/v1/runs/${encodeURIComponent(run.run_id)}/approval`,
    body: (reason, by) => ({ plan_id: question.planId, approved, reason, by, review: question.isReview }),
  };
}

function Price({ run, price }) {
  if (!price.length) return null;
  const held = Object.fromEntries(budgets(run).map((one) => [one.resource, one]));
  return html`<dl class="price">
    ${price.map(({ resource, amount }) => {
      const budget = held[resource];
      const show = resource.endsWith("_s") ? duration : count;
      return html`<div key=${resource}><dt>${RESOURCES[resource] || resource}</dt><dd>${show(amount)}${budget && html`<span class="soft"> of ${show(Math.max(0, budget.limit - budget.used))} left</span>`}</dd></div>`;
    })}
  </dl>`;
}
