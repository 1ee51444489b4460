// Addresses and the history: which view a path means, links without reloading, and a view's filters in the query.
import { createStore, useStore } from "./store.js";

export const TABS = ["overview", "slices", "diagnoses", "plans", "gates", "outcomes", "data", "lineage", "events", "letters"];

// The view of an address: {view, runId, tab, parts, query}.
export function parseRoute(pathname, search = "") {
  const query = Object.fromEntries(new URLSearchParams(search));
  const parts = pathname.split("/").filter(Boolean).map(decoded);
  if (!parts.length) return { view: "runs", query };
  if (parts.length === 1 && parts[0] === "dead-letters") return { view: "letters", query };
  if (parts.length === 1 && parts[0] === "subscriptions") return { view: "subscriptions", query };
  if (parts[0] === "runs" && parts[1]) {
    const tab = parts[2] || "overview";
    if (TABS.includes(tab)) return { view: "run", runId: parts[1], tab, parts: parts.slice(3), query };
  }
  return { view: "missing", query };
}

export function runPath(runId, tab = "", ...more) {
  const rest = [tab === "overview" ? "" : tab, ...more].filter((part) => part !== "");
  return ["/runs", runId, ...rest].map((part, i) => (i ? encodeURIComponent(part) : part)).join("/");
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

const hasWindow = typeof window !== "undefined";
const here = () => (hasWindow ? parseRoute(location.pathname, location.search) : parseRoute("/"));
export const route = createStore(here());

export function useRoute() {
  return useStore(route);
}

export function navigate(url, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", url);
  route.set(here());
  if (!replace) scrollTo(0, 0);
}

// Changes the query of the address that is shown; empty values leave it. Typing makes no history.
export function setQuery(patch) {
  const params = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(patch)) {
    if (value === "" || value === undefined || value === null) params.delete(name);
    else params.set(name, value);
  }
  const text = params.toString();
  navigate(location.pathname + (text ? `?${text}` : ""), { replace: true });
}

export function listenToLinks() {
  addEventListener("popstate", () => route.set(here()));
  addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target.closest?.("a[href]");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (parseRoute(link.pathname).view === "missing" || link.getAttribute("href").startsWith("#")) return;
    event.preventDefault();
    navigate(link.pathname + link.search);
  });
}
