// Dead letters: events that a service refused for good, why, and their replay; of all runs or of one.
import { html, useEffect, useState } from "../lib.js";
import { isAbsent, usePages } from "../data.js";
import { clock, plural } from "../format.js";
import { runPath } from "../router.js";
import { may, useMe } from "../session.js";
import { Ask } from "../parts/ask.js";
import { Card, Icon } from "../parts/bits.js";
import { More, Search } from "../parts/controls.js";
import { Empty, Failure, Loading, Notice } from "../parts/states.js";

export function DeadLetters({ route }) {
  useEffect(() => {
    document.title = "Dead letters · Mendloop";
  }, []);
  return html`<div class="head"><h1>Dead letters</h1><p class="lede">Events that a service refused for good. Mend the reason, then replay one: only the service that refused it gets it again.</p></div>
    <${List} query=${route.query} runId="" />`;
}

export function Letters({ run, route }) {
  return html`<${Card} title="Dead letters" note="Events of this run that a service refused for good. The first of them ends the run.">
    <${List} query=${route.query} runId=${run.run_id} local=${run.dead_letters} /><//>`;
}

function List({ query, runId, local = null }) {
  const me = useMe();
  const { q = "" } = query;
  const [asked, setAsked] = useState(null);
  const wakes = (event) => event.type === "DeadLetter" || event.type === "DeadLetterReplayed";
  const paged = usePages("/v1/dead-letters", { run: runId }, { field: "dead_letters", wakes });
  const isLocal = isAbsent(paged.error) && local !== null;
  const letters = isLocal ? local.map(fromRun(runId)) : paged.items;
  const shown = letters.filter((one) => `${one.event_type} ${one.service} ${one.reason} ${one.run_id}`.toLowerCase().includes(q.toLowerCase()));
  const ask = (letter) => setAsked({
    title: "Replay this event", text: `${plain(letter.event_type)} goes to ${letter.service} again, and to no other service.`, verb: "Replay event",
    path: `/v1/dead-letters/${encodeURIComponent(letter.id)}/replay`, body: (reason, by) => (by ? { reason, by } : { reason }), done: "The event is on its way again",
  });
  if (isAbsent(paged.error) && !isLocal) return html`<${Empty} title="This gateway does not list dead letters."><code>mend dlq list</code> does; each run also shows its own.<//>`;
  return html`
    ${letters.length > 1 && html`<div class="filters" role="search" aria-label="Dead letters"><${Search} value=${q} label="Search" placeholder="Service, event or reason" /></div>`}
    ${isLocal && letters.length > 0 && html`<${Notice}>This gateway cannot replay; <code>mend dlq replay</code> does.<//>`}
    ${paged.error && !isLocal && html`<${Failure} error=${paged.error} retry=${paged.reload} what="The dead letters" />`}
    ${paged.isLoading && html`<${Loading} rows=${3} />`}
    ${!paged.isLoading && !letters.length && (!paged.error || isLocal) && html`<${Empty} title="No dead letter.">Every event found a service that could work with it.<//>`}
    ${letters.length > 0 && !shown.length && html`<${Empty} title="No dead letter has these words." />`}
    <ul class="rows">${shown.map((letter) => html`<${Letter} key=${letter.id} letter=${letter} isGlobal=${!runId} replay=${!isLocal && may(me, "approve") ? () => ask(letter) : null} />`)}</ul>
    ${!isLocal && letters.length > 0 && html`<${More} pages=${{ ...paged, items: shown }} noun="dead letters" />`}
    <${Ask} question=${asked} onClose=${() => setAsked(null)} onDone=${paged.reload} />
  `;
}

const fromRun = (runId) => (letter) => ({
  id: letter.event_id, run_id: runId, event_type: letter.event_type, service: letter.handler, reason: letter.reason, at: letter.stamp.at,
  attempts: letter.attempt_count, replayed_at: null,
});
const plain = (type) => (type || "").replace(/^.*\./, "");

function Letter({ letter, isGlobal, replay }) {
  return html`<li class="row letter">
    <div class="row-main">
      <${isGlobal ? "h2" : "h3"} class="letter-title">${plain(letter.event_type)} <span class="soft">refused by</span> ${letter.service}<//>
      <pre class="text reason">${letter.reason}</pre>
      <p class="soft">${isGlobal && letter.run_id && html`run <a href=${runPath(letter.run_id)}>${letter.run_id}</a>, `}${clock(letter.at)}, after ${plural(letter.attempts, "try", "tries")}</p>
    </div>
    <div class="row-side">${letter.replayed_at
      ? html`<span class="verdict good"><${Icon} name="check" />replayed</span><span class="soft">${clock(letter.replayed_at)}${letter.replayed_by ? ` by ${letter.replayed_by}` : ""}${letter.replay_reason ? `: “${letter.replay_reason}”` : ""}</span>`
      : replay && html`<button class="button small" data-row onClick=${replay}><${Icon} name="undo" />Replay…</button>`}</div>
  </li>`;
}
