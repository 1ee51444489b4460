// Asks the gateway. Every failure becomes one ApiError with a sentence for people; a 401 asks for the sign-in dialog.
import { createStore } from "./store.js";

export class ApiError extends Error {
  constructor(status, detail, faults = []) {
    super(detail);
    this.status = status;
    this.faults = faults;
  }
}

export const signInNeeded = createStore(false);
let csrfToken = "";

export function setCsrfToken(token) {
  csrfToken = token || "";
}

export function withQuery(path, query = {}) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== "" && value !== undefined && value !== null && value !== false) params.append(name, String(value));
  }
  const text = params.toString();
  return text ? `${path}?${text}` : path;
}

export async function getJson(path, { signal, quiet = false } = {}) {
  return read(await send(path, { signal, headers: { Accept: "application/json" } }), { quiet });
}

export const postJson = (path, body) => change("POST", path, body);

export async function change(method, path, body = {}) {
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  if (csrfToken) headers["X-CSRF-Token"] = csrfToken;
  return read(await send(path, { method, headers, body: JSON.stringify(body) }));
}

async function send(path, options) {
  try {
    return await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The gateway does not answer. It may be starting again; this page keeps trying.");
  }
}

async function read(response, { quiet = false } = {}) {
  if (response.status === 204) return null;
  const isJson = /json/.test(response.headers.get("content-type") || "");
  const body = isJson ? await response.json().catch(() => null) : null;
  if (response.ok) return body;
  if (response.status === 401 && !quiet) signInNeeded.set(true);
  const faults = body?.faults || [];
  throw new ApiError(response.status, sentence(response.status, body?.detail, faults), faults);
}

function sentence(status, detail, faults) {
  if (status === 401) return "You are not signed in, or your session has ended.";
  if (status === 403) return detail || "Your key does not allow this.";
  if (status === 429) return "Too many requests from here; wait some seconds.";
  const said = detail || `The gateway answered ${status}.`;
  return faults.length ? `${said}: ${faults.map((f) => `${f.field} ${f.message}`).join("; ")}` : said;
}
