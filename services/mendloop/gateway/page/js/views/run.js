// One run: what it is, what it waits for, what a person may do, and its tabs. The document is loaded once for all tabs.
import { html, useEffect, useRef, useState } from "../lib.js";
import { useResource } from "../data.js";
import { ago, clock, sentence, words } from "../format.js";
import { waitingQuestions } from "../model/facts.js";
import { runPath } from "../router.js";
import { may, useMe } from "../session.js";
import { announce } from "../parts/announcer.js";
import { Ask } from "../parts/ask.js";
import { Icon, StateBadge } from "../parts/bits.js";
import { Empty, Failure, Loading } from "../parts/states.js";
import { Questions } from "./questions.js";
import { Diagnoses } from "./diagnoses.js";
import { Drops } from "./drops.js";
import { Events } from "./events.js";
import { Gates } from "./gates.js";
import { Letters } from "./letters.js";
import { Lineage } from "./lineage.js";
import { Outcomes } from "./outcomes.js";
import { Overview } from "./overview.js";
import { Plans } from "./plans.js";
import { Slices } from "./slices.js";

const VIEWS = {
  overview: ["Overview", Overview], slices: ["Slices", Slices], diagnoses: ["Diagnoses", Diagnoses], plans: ["Plans", Plans],
  gates: ["Gates", Gates], outcomes: ["Outcomes", Outcomes], data: ["Data", Drops], lineage: ["Lineage", Lineage],
  events: ["Events", Events], letters: ["Dead letters", Letters],
};

export function Run({ route }) {
  const { runId, tab } = route;
  const wakes = (event) => event.runId === runId;
  const resource = useResource(`/v1/runs/${encodeURIComponent(runId)}`, { wakes });
  const run = resource.data;
  useTitle(run, runId, tab);
  useAnnounced(run);
  if (!run && resource.error?.status === 404) {
    return html`<h1>${runId}</h1><${Empty} title="There is no such run here.">It may be older than what the gateway keeps. <a href="/">All runs</a><//>`;
  }
  if (!run) return html`<h1>${runId}</h1>${resource.error ? html`<${Failure} error=${resource.error} retry=${resource.reload} what="The run" />` : html`<${Loading} />`}`;
  const View = VIEWS[tab][1];
  return html`
    <${RunHead} run=${run} />
    ${resource.error && html`<${Failure} error=${resource.error} retry=${resource.reload} what="The newest state" />`}
    <${Questions} run=${run} questions=${waitingQuestions(run)} reload=${resource.reload} />
    <${Tabs} run=${run} tab=${tab} />
    <div class="tab-body"><${View} key=${tab} run=${run} route=${route} wakes=${wakes} /></div>
  `;
}

function useTitle(run, runId, tab) {
  useEffect(() => {
    document.title = `${run?.recipe || runId} · ${VIEWS[tab][0]} · Mendloop`;
  }, [run?.recipe, runId, tab]);
}

// Says aloud what changed while the page was open; nothing at the first look.
function useAnnounced(run) {
  const known = useRef(null);
  useEffect(() => {
    if (!run) return;
    const now = `${run.state}/${run.round}/${run.outcome}`;
    if (known.current && known.current !== now) {
      announce(run.state === "finished" ? `The run is over: ${words(run.outcome)}` : `Round ${run.round}: ${words(run.state).toLowerCase()}`);
    }
    known.current = now;
  }, [run]);
}

function RunHead({ run }) {
  return html`<div class="run-head">
    <nav aria-label="Breadcrumb" class="crumbs"><a href="/"><span aria-hidden="true">← </span>All runs</a></nav>
    <div class="run-title">
      <h1>${run.recipe || run.run_id}</h1>
      <${StateBadge} run=${run} />
      <${Actions} run=${run} />
    </div>
    <p class="run-facts soft">
      <${RunId} value=${run.run_id} />
      <span>round ${run.round}</span>
      <span>started <time datetime=${run.started_at} title=${clock(run.started_at)}>${ago(run.started_at)}</time>${run.request?.requested_by ? ` by ${run.request.requested_by}` : ""}</span>
      ${run.recipe_facts?.task && html`<span>task ${run.recipe_facts.task}</span>`}
    </p>
    ${run.summary && html`<p class="summary">${sentence(run.summary)}</p>`}
    ${run.cancellation && run.state !== "finished" && html`<p class="summary">Cancelled by ${run.cancellation.cancelled_by || "a local user"}: ${run.cancellation.reason || "no reason given"}</p>`}
  </div>`;
}

function RunId({ value }) {
  return html`<span class="hash"><code>${value}</code><button class="ghost" onClick=${() => navigator.clipboard.writeText(value)} aria-label="Copy the run's id" title="Copy"><${Icon} name="copy" /></button></span>`;
}

const ACTIONS = {
  pause: ["pause", "Pause", "No further step is taken; work that began ends by itself.", "The run is asked to pause"],
  resume: ["play", "Resume", "The run goes on where it stopped.", "The run goes on"],
  cancel: ["stop", "Cancel", "The run ends for good, and what it reserved is released.", "The run is asked to end"],
  rollback: ["undo", "Roll back", "The last promotion is taken back; the checkpoint before it stands again.", "The promotion is taken back"],
};

function Actions({ run }) {
  const me = useMe();
  const [question, setQuestion] = useState(null);
  const promoted = run.rounds.filter((round) => round.decision?.promoted).length > run.rollbacks.length;
  const isOver = run.state === "finished";
  const mayRun = may(me, "run");
  const names = [...(isOver || !mayRun || run.state === "cancelling" ? [] : [run.state === "paused" ? "resume" : "pause", "cancel"]), ...(promoted && may(me, "approve") ? ["rollback"] : [])];
  const ask = (name) => {
    const [, verb, text, done] = ACTIONS[name];
    setQuestion({
      title: `${verb} this run`, text, verb: `${verb} run`, kind: ["cancel", "rollback"].includes(name) ? "danger" : "primary", done,
      path: `/v1/runs/${encodeURIComponent(run.run_id)}/${name}`, body: (reason, by) => ({ reason, by }),
    });
  };
  return html`<div class="actions">
    ${names.map((name) => html`<button key=${name} class="button small" onClick=${() => ask(name)}><${Icon} name=${ACTIONS[name][0]} />${ACTIONS[name][1]}</button>`)}
    <${Ask} question=${question} onClose=${() => setQuestion(null)} />
  </div>`;
}

function Tabs({ run, tab }) {
  const current = useRef(null);
  useEffect(() => current.current?.scrollIntoView({ block: "nearest", inline: "center" }), [tab]);
  const counts = { letters: run.dead_letters.length, diagnoses: run.rounds.reduce((n, round) => n + round.diagnoses.length, 0) };
  return html`<nav class="tabs" aria-label="Parts of the run">
    ${Object.entries(VIEWS).map(([name, [title]]) => html`<a key=${name} href=${runPath(run.run_id, name)} ref=${name === tab ? current : null} aria-current=${name === tab ? "page" : null}>
      ${title}${counts[name] ? html`<span class=${`tab-count ${name === "letters" ? "bad" : ""}`}><span class="hidden">, </span>${counts[name]}</span>` : null}</a>`)}
  </nav>`;
}
