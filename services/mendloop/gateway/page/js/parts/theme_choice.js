// Light, dark, or as the system has it; remembered in this browser.
import { createStore, remember, remembered } from "../store.js";

const ORDER = ["auto", "light", "dark"];
export const theme = createStore(ORDER.includes(remembered("theme")) ? remembered("theme") : "auto");

export function cycleTheme() {
  const next = ORDER[(ORDER.indexOf(theme.get()) + 1) % ORDER.length];
  document.documentElement.dataset.theme = next;
  remember("theme", next);
  theme.set(next);
}
