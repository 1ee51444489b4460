// Tells a screen reader what changed by itself, and shows the same for some seconds.
import { html, useEffect } from "../lib.js";
import { createStore, useStore } from "../store.js";

const SHOWN_MS = 6000;
const message = createStore(null);

export function announce(text) {
  message.set({ text });
}

export function Announcer() {
  const said = useStore(message);
  useEffect(() => {
    if (!said) return undefined;
    const timer = setTimeout(() => message.set(null), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [said]);
  return html`<div class="announcer" role="status" aria-live="polite">${said && html`<p class="toast">${said.text}</p>`}</div>`;
}
