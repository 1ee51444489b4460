// Webhooks that other teams registered: where they point, what they ask for, whether they are served.
import { html, useEffect } from "../lib.js";
import { isAbsent, usePages } from "../data.js";
import { clock } from "../format.js";
import { Search } from "../parts/controls.js";
import { Empty, Failure, Loading } from "../parts/states.js";

export function Subscriptions({ route }) {
  const { q = "" } = route.query;
  const pages = usePages("/v1/webhooks", {}, { field: "webhooks" });
  useEffect(() => {
    document.title = "Subscriptions · Mendloop";
  }, []);
  const shown = pages.items.filter((hook) => JSON.stringify(hook).toLowerCase().includes(q.toLowerCase()));
  return html`
    <div class="head"><h1>Subscriptions</h1><p class="lede">Webhooks of other teams. Whoever reads Kafka or the event stream directly needs none.</p></div>
    ${pages.items.length > 1 && html`<div class="filters" role="search" aria-label="Subscriptions"><${Search} value=${q} label="Search" placeholder="Address or filter" /></div>`}
    ${pages.isLoading && html`<${Loading} rows=${3} />`}
    ${pages.error && (isAbsent(pages.error)
      ? html`<${Empty} title="This gateway serves no webhooks.">Events are there all the same: <code>GET /v1/events</code> streams them.<//>`
      : html`<${Failure} error=${pages.error} retry=${pages.reload} what="The subscriptions" />`)}
    ${!pages.isLoading && !pages.error && !shown.length && html`<${Empty} title=${q ? "No subscription has these words." : "Nobody subscribed yet."}><code>mend subscribe</code> registers a webhook.<//>`}
    <ul class="rows">${shown.map((hook) => html`<${Hook} key=${hook.id} hook=${hook} />`)}</ul>
  `;
}

function Hook({ hook }) {
  const state = hook.state || (hook.disabled_at ? "disabled" : "active");
  const filters = Object.entries(hook.filters || hook.filter || {}).filter(([, value]) => value && value.length);
  return html`<li class="row">
    <div class="row-main"><h3 class="letter-title mono">${hook.url}</h3>
      <p class="soft">${filters.length ? filters.map(([name, value]) => `${name}: ${[].concat(value).join(", ")}`).join("; ") : "every event"}</p>
      ${hook.created_at && html`<p class="soft">since ${clock(hook.created_at)}${hook.created_by ? ` by ${hook.created_by}` : ""}</p>`}</div>
    <div class="row-side"><span class=${`badge ${state === "active" ? "good" : "bad"}`}>${state}</span></div>
  </li>`;
}
