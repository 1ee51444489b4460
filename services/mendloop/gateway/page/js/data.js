// Hooks that load from the gateway: one document, or pages of a list. Both reload when the live stream says so.
import { getJson, withQuery } from "./api.js";
import { useLive } from "./live.js";
import { useCallback, useEffect, useRef, useState } from "./lib.js";

const GATHER_MS = 200; // events come in bursts; one reload answers a burst
const MOST = 200; // the gateway's largest page

// {data, error, isLoading, reload}. What was loaded stays while it is loaded again. wakes(event) says which events count.
export function useResource(path, { wakes = null } = {}) {
  const [state, setState] = useState({ path: null, data: null, error: null });
  const current = useRef(null);
  const load = useCallback(async () => {
    if (!path) return;
    current.current?.abort();
    const controller = new AbortController();
    current.current = controller;
    try {
      const data = await getJson(path, { signal: controller.signal });
      if (!controller.signal.aborted) setState({ path, data, error: null });
    } catch (error) {
      if (error.name !== "AbortError" && !controller.signal.aborted) {
        setState((old) => ({ path, data: old.path === path ? old.data : null, error }));
      }
    }
  }, [path]);
  useEffect(() => {
    load();
    return () => current.current?.abort();
  }, [load]);
  useReload(load, wakes);
  const isMine = state.path === path;
  return { data: isMine ? state.data : null, error: isMine ? state.error : null, isLoading: !isMine, reload: load };
}

// Pages of a list: {items, total, more, loadMore, first (the first page's document), error, isLoading, reload}.
export function usePages(path, query, { field, limit = 50, wakes = null } = {}) {
  const key = path ? withQuery(path, query) : null;
  const [state, setState] = useState({ key: null });
  const held = useRef(state);
  held.current = state;
  const asked = useRef(0); // of two first pages the one that was asked for last counts
  const load = useCallback(async (cursor = "") => {
    if (!key) return;
    const old = held.current.key === key ? held.current : { items: [] };
    const serial = cursor ? 0 : (asked.current += 1);
    const size = cursor ? limit : Math.min(MOST, Math.max(limit, old.items.length));
    try {
      const page = await getJson(withQuery(path, { ...query, limit: size, cursor }));
      if (serial && serial !== asked.current) return;
      setState((now) => (now.key !== key && cursor ? now : merged(now.key === key ? now : null, page, { key, path, field, cursor, size })));
    } catch (error) {
      if (!serial || serial === asked.current) setState((now) => (now.key === key ? { ...now, error } : { key, path, items: [], error }));
    }
  }, [key]);
  useEffect(() => {
    load();
  }, [load]);
  useReload(load, wakes);
  const isMine = state.key === key;
  // While another filter is being asked for, what was there stays: a list that empties at each letter cannot be used.
  const shown = isMine || state.path === path ? state : { items: [], error: null };
  return {
    items: shown.items, total: shown.total, first: shown.first, error: shown.error, isLoading: !isMine && !shown.items.length,
    more: isMine && Boolean(shown.cursor), loadMore: () => load(shown.cursor), reload: () => load(),
  };
}

function merged(old, page, { key, path, field, cursor, size }) {
  const fresh = page[field] || [];
  const known = cursor && old ? old.items : [];
  const isLonger = !cursor && old && old.items.length > size && page.next_cursor;
  const items = isLonger ? [...fresh, ...old.items.slice(fresh.length)] : [...known, ...fresh];
  const next = isLonger ? old.cursor : page.is_end ? "" : page.next_cursor; // a log has a cursor after its last event too
  return { key, path, items, cursor: next, total: page.total, first: cursor && old ? old.first : page, error: null };
}

function useReload(load, wakes) {
  const timer = useRef(0);
  useLive((event) => {
    if (!wakes || (event && !wakes(event)) || timer.current) return;
    timer.current = setTimeout(() => {
      timer.current = 0;
      load();
    }, GATHER_MS);
  });
  useEffect(() => () => clearTimeout(timer.current), []);
}

// Whether the gateway does not have an endpoint: an older one, or one without that part.
export const isAbsent = (error) => error?.status === 404;
