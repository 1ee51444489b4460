// Webhooks that other teams registered: where they point, what they ask for, how they are served, and their deliveries.
import { html, useEffect, useState } from "../lib.js";
import { isAbsent, usePages } from "../data.js";
import { clock, count, duration, plural } from "../format.js";
import { may, useMe } from "../session.js";
import { Ask } from "../parts/ask.js";
import { Table } from "../parts/bits.js";
import { More, Search } from "../parts/controls.js";
import { Empty, Failure, Loading } from "../parts/states.js";

const KIND = { delivering: "good", failing: "warn", disabled: "bad" };

export function Subscriptions({ route }) {
  const { q = "" } = route.query;
  const me = useMe();
  const pages = usePages("/v1/webhooks", {}, { field: "webhooks", wakes: () => true });
  const [asked, setAsked] = useState(null);
  useEffect(() => {
    document.title = "Subscriptions · Mendloop";
  }, []);
  const shown = pages.items.filter((hook) => JSON.stringify([hook.url, hook.description, hook.filter]).toLowerCase().includes(q.toLowerCase()));
  return html`
    <div class="head"><h1>Subscriptions</h1><p class="lede">Webhooks of other teams. Whoever reads Kafka or the event stream directly needs none.</p></div>
    ${pages.items.length > 1 && html`<div class="filters" role="search" aria-label="Subscriptions"><${Search} value=${q} label="Search" placeholder="Address, purpose or filter" /></div>`}
    ${pages.isLoading && html`<${Loading} rows=${3} />`}
    ${pages.error && html`<${Refused} pages=${pages} />`}
    ${!pages.isLoading && !pages.error && !shown.length && html`<${Empty} title=${q ? "No subscription has these words." : "Nobody subscribed yet."}><code>POST /v1/webhooks</code> registers a webhook; <code>mend subscribe</code> prints events without one.<//>`}
    <ul class="rows">${shown.map((hook) => html`<${Hook} key=${hook.webhook_id} hook=${hook} ask=${may(me, "admin") ? () => setAsked(turned(hook)) : null} />`)}</ul>
    ${shown.length > 0 && html`<${More} pages=${{ ...pages, items: shown }} noun="subscriptions" />`}
    <${Ask} question=${asked} onClose=${() => setAsked(null)} onDone=${pages.reload} />
  `;
}

function Refused({ pages }) {
  if (isAbsent(pages.error)) return html`<${Empty} title="This gateway serves no webhooks.">Events are there all the same: <code>GET /v1/events</code> streams them.<//>`;
  if (pages.error.status === 403) return html`<${Empty} title="Only an administrator sees subscriptions.">Your key reads runs and events.<//>`;
  return html`<${Failure} error=${pages.error} retry=${pages.reload} what="The subscriptions" />`;
}

// What the button does: a disabled webhook goes on where it stopped, any other stops.
function turned(hook) {
  const isOff = hook.state === "disabled";
  const path = `/v1/webhooks/${encodeURIComponent(hook.webhook_id)}`;
  return isOff
    ? { title: "Enable this webhook", text: `${hook.url} gets every event since it stopped.`, verb: "Enable", path: `${path}/enable`, body: () => ({}), done: "The webhook goes on", isPlain: true }
    : { title: "Disable this webhook", text: `${hook.url} gets nothing until it is enabled; its place in the log stays.`, verb: "Disable", kind: "danger", path: `${path}/disable`, body: (reason) => ({ reason }), done: "The webhook is disabled", nameless: true };
}

function Hook({ hook, ask }) {
  const [isOpen, setOpen] = useState(false);
  const filters = Object.entries(hook.filter || {}).filter(([, values]) => values?.length);
  return html`<li class="row hook">
    <div class="row-main"><h2 class="letter-title mono">${hook.url}</h2>
      ${hook.description && html`<p>${hook.description}</p>`}
      <p class="soft">${filters.length ? filters.map(([name, values]) => `${name}: ${values.join(", ")}`).join("; ") : "every event"}${hook.format === "slack" ? ", as Slack messages" : ""}</p>
      <p class="soft">${hook.last_delivered_at ? `${count(hook.delivered_count)} delivered, last ${clock(hook.last_delivered_at)}` : "nothing delivered yet"}; ${plural(hook.failed_count, "failed try", "failed tries")}</p>
      ${hook.state !== "delivering" && html`<p class="bad-text">${hook.disabled_reason || hook.last_error}${hook.next_attempt_at ? ` Next try ${clock(hook.next_attempt_at)}.` : ""}</p>`}
      <details class="figures" onToggle=${(event) => setOpen(event.currentTarget.open)}><summary data-row>Deliveries</summary>${isOpen && html`<${Deliveries} id=${hook.webhook_id} />`}</details>
    </div>
    <div class="row-side"><span class=${`badge ${KIND[hook.state] || "plain"}`}>${hook.state}</span>
      ${ask && html`<button class="button small" onClick=${ask}>${hook.state === "disabled" ? "Enable…" : "Disable…"}</button>`}</div>
  </li>`;
}

function Deliveries({ id }) {
  const pages = usePages(`/v1/webhooks/${encodeURIComponent(id)}/deliveries`, {}, { field: "deliveries", limit: 20 });
  if (pages.isLoading) return html`<${Loading} rows=${2} />`;
  if (pages.error) return html`<${Failure} error=${pages.error} retry=${pages.reload} what="The deliveries" />`;
  if (!pages.items.length) return html`<p class="soft">Nothing was sent yet.</p>`;
  return html`<${Table} label="Deliveries" stack=${true} head=${["Event", "Result", { text: "Try", number: true }, { text: "Status", number: true }, { text: "Time", number: true }, "At"]}>
    ${pages.items.map((one, i) => html`<tr key=${i}><th scope="row">${(one.type || "").replace(/^.*\./, "")}<span class="sub mono">${one.run_id || one.event_id}</span></th>
      <td data-label="Result" class=${one.result === "delivered" ? "good" : "bad"}>${one.result}${one.detail && html`<span class="sub">${one.detail}</span>`}</td>
      <td class="number" data-label="Try">${one.attempt}</td><td class="number" data-label="Status">${one.status || "–"}</td><td class="number" data-label="Time">${duration(one.seconds)}</td><td data-label="At">${clock(one.at)}</td></tr>`)}
  <//><${More} pages=${pages} noun="deliveries" />`;
}
