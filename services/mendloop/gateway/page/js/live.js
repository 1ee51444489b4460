// The live stream: one connection of this tab, resumed where it stopped, closed while nobody looks.
//
// fetch instead of EventSource: it can be closed and resumed with Last-Event-ID, and it says why it was refused.
import { EventReader } from "./sse.js";
import { createStore } from "./store.js";
import { useEffect, useRef } from "./lib.js";
import { signInNeeded, withQuery } from "./api.js";

const LONGEST_WAIT_MS = 15_000;
const LONGEST_SILENCE_MS = 45_000; // three times the gateway's keep-alive
export const liveState = createStore("connecting"); // connecting, live, lost
const listeners = new Set();
let controller = null;
let scope = null;
let lastId = "";

// Follow one run, or all runs where runId is empty.
export function follow(runId) {
  if (scope === runId && controller) return;
  if (scope !== runId) lastId = "";
  scope = runId;
  restart();
}

export function pauseWhileHidden() {
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) controller?.abort();
    else restart();
  });
  addEventListener("online", restart);
}

export function restart() {
  controller?.abort();
  if (scope === null) return;
  controller = new AbortController();
  run(controller);
}

// Calls back with {type, runId, headers, message} of each event, and with null after a gap, when all may have changed.
export function useLive(callback) {
  const latest = useRef(callback);
  latest.current = callback;
  useEffect(() => {
    const listener = (event) => latest.current(event);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
}

async function run(mine) {
  for (let attempt = 0; !mine.signal.aborted; attempt += 1) {
    if (attempt) await pause(Math.min(LONGEST_WAIT_MS, 500 * 2 ** attempt) * (0.7 + 0.6 * Math.random()), mine.signal);
    if (mine.signal.aborted) return;
    try {
      await read(mine, () => {
        attempt = 0;
      });
    } catch {
      // Every end is followed by a new try; the state says that the page is behind.
    }
    if (!mine.signal.aborted) liveState.set("lost");
  }
}

async function read(mine, opened) {
  const headers = { Accept: "text/event-stream", ...(lastId ? { "Last-Event-ID": lastId } : {}) };
  const response = await fetch(withQuery("/v1/events", { run: scope }), { headers, signal: mine.signal, cache: "no-store" });
  if (response.status === 401) signInNeeded.set(true);
  if (response.status === 400) lastId = ""; // the log no longer knows the place
  if (!response.ok) throw new Error(`the stream answered ${response.status}`);
  if (!lastId) tell(null);
  opened();
  liveState.set("live");
  const events = new EventReader();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await withDeadline(reader);
    if (done) return;
    for (const event of events.push(value)) tell(parsed(event));
    if (events.lastId) lastId = events.lastId;
  }
}

async function withDeadline(reader) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => {
      reader.cancel().catch(() => {});
      reject(new Error("the stream is silent"));
    }, LONGEST_SILENCE_MS);
  });
  try {
    return await Promise.race([reader.read(), late]);
  } finally {
    clearTimeout(timer);
  }
}

function parsed(event) {
  const { headers, message } = JSON.parse(event.data);
  return { type: event.type.replace(/^.*\./, ""), runId: message.position?.run_id || headers.ce_subject || "", headers, message };
}

function tell(event) {
  for (const listener of [...listeners]) listener(event);
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
