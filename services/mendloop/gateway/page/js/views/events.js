// The run's events as other teams get them, oldest first; live ones join at the end of what is loaded.
import { html } from "../lib.js";
import { usePages } from "../data.js";
import { clock, plural, words } from "../format.js";
import { Card } from "../parts/bits.js";
import { Choice, More, Search } from "../parts/controls.js";
import { Empty, Failure, Loading } from "../parts/states.js";

export function Events({ run, route, wakes }) {
  const { q = "", type = "" } = route.query;
  const pages = usePages(`/v1/runs/${encodeURIComponent(run.run_id)}/events`, {}, { field: "events", limit: 100, wakes });
  const known = pages.items.map(normal);
  const types = [...new Set(known.map((event) => event.type))].sort();
  const shown = known.filter((event) => (!type || event.type === type) && event.text.toLowerCase().includes(q.toLowerCase()));
  return html`<${Card} title="Events" note="Each is a protobuf message on the bus; other teams subscribe to the same.">
    <div class="filters" role="search" aria-label="Events">
      <${Search} value=${q} label="Search" placeholder="Any word of an event" />
      <${Choice} name="type" value=${type} label="Type" options=${[["", "Every type"], ...types.map((t) => [t, t])]} />
    </div>
    ${pages.error && html`<${Failure} error=${pages.error} retry=${pages.reload} what="The events" />`}
    ${pages.isLoading && html`<${Loading} rows=${6} />`}
    ${!pages.isLoading && !shown.length && !pages.error && html`<${Empty} title="No event that was loaded fits these filters." />`}
    <ol class="rows events">${shown.map((event) => html`<li key=${event.id}><details>
      <summary data-row><span class="event-type">${event.type}</span><span class="event-gist soft">${gist(event)}</span>
        <time class="soft" datetime=${event.at}>${clock(event.at)}</time></summary>
      <pre class="text">${JSON.stringify(event.message, null, 2)}</pre></details></li>`)}</ol>
    ${known.length > 0 && html`<${More} pages=${{ ...pages, items: shown }} noun="events" />`}
  <//>`;
}

// What an event says, in some words: where in the run it stands, and its noun.
function gist({ message, round }) {
  const place = round === null ? "" : round ? `round ${round}` : "base";
  const conditions = message?.slice?.conditions;
  const slice = conditions?.length ? conditions.map((c) => `${c.axis}=${c.value}`).join(" ∧ ") : message?.slice?.name || message?.slice?.slice_id;
  const cause = message?.cause ? words(message.cause.replace(/^CAUSE_/, "")) : "";
  const counted = message?.example_count ? plural(message.example_count, "example") : "";
  return [place, message?.position?.arm, slice, cause, counted].filter(Boolean).join(" · ");
}

function normal(event) {
  const headers = event.headers || {};
  const type = (headers.ce_type || event.type || "").replace(/^.*\./, "");
  return {
    id: headers.ce_id || event.id, type, at: headers.ce_time, message: event.message, round: event.message?.position?.round ?? null,
    text: `${type} ${JSON.stringify(event.message)}`,
  };
}
