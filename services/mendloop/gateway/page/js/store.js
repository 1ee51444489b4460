// A value that views may watch, and small values that outlive the page in this browser.
import { useEffect, useState } from "./lib.js";

export function createStore(initial) {
  let value = initial;
  const watchers = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const watcher of [...watchers]) watcher(value);
    },
    watch(watcher) {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
  };
}

export function useStore(store) {
  const [value, setValue] = useState(store.get());
  useEffect(() => {
    setValue(store.get());
    return store.watch(setValue);
  }, [store]);
  return value;
}

export function remembered(name, fallback = "") {
  try {
    return localStorage.getItem(`mendloop.${name}`) ?? fallback;
  } catch {
    return fallback; // storage may be forbidden
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`mendloop.${name}`, value);
  } catch {
    // Storage may be forbidden; the choice then lasts as long as the page.
  }
}
