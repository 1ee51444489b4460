// What a view shows instead of its content: it loads, it is empty, it failed.
import { html } from "../lib.js";

export function Loading({ rows = 4, label = "Loading" }) {
  return html`<div class="skeleton" role="status">
    <span class="hidden">${label}…</span>
    ${Array.from({ length: rows }, (_, i) => html`<div class="bone" key=${i}></div>`)}
  </div>`;
}

export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p>${children && html`<p>${children}</p>`}</div>`;
}

export function Failure({ error, retry, what = "This" }) {
  if (error.status === 401) return html`<${Empty} title="Sign in to see this">${error.message}<//>`;
  return html`<div class="notice bad" role="alert">
    <p><strong>${what} could not be loaded.</strong> ${error.message}</p>
    ${retry && html`<button class="button small" onClick=${() => retry()}>Try again</button>`}
  </div>`;
}

export function Notice({ kind = "info", children }) {
  return html`<div class=${`notice ${kind}`}>${children}</div>`;
}
