// Keyboard shortcuts. Single keys can be switched off (WCAG 2.1.4); none works while somebody types.
import { createStore, remember, remembered } from "./store.js";
import { TABS, navigate, route, runPath } from "./router.js";
import { cycleTheme } from "./parts/theme_choice.js";

export const helpIsOpen = createStore(false);
export const keysAreOn = createStore(remembered("keys", "on") === "on");
const PREFIX_MS = 1200;
let prefixAt = 0;

export const SHORTCUTS = [
  ["?", "This help"],
  ["/", "Search on this page"],
  ["j  k", "Next and previous row"],
  ["Enter", "Open the row"],
  ["[  ]", "Previous and next tab of a run"],
  ["a  x", "Approve or reject what waits (asks for a reason first)"],
  ["g r", "Go to runs"],
  ["g d", "Go to dead letters"],
  ["g s", "Go to subscriptions"],
  ["t", "Light, dark, or as the system has it"],
  ["Esc", "Close a dialog, leave a field"],
];

export function switchKeys(isOn) {
  keysAreOn.set(isOn);
  remember("keys", isOn ? "on" : "off");
}

export function listenToKeys() {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const isTyping = event.target.matches?.("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]");
    if (isTyping) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (document.querySelector("dialog[open]") || !keysAreOn.get()) return;
    if (act(event.key)) event.preventDefault();
  });
}

function act(key) {
  const isSecond = performance.now() - prefixAt < PREFIX_MS;
  prefixAt = 0;
  if (isSecond && PLACES[key]) return navigate(PLACES[key]), true;
  if (key === "g") {
    prefixAt = performance.now();
    return true;
  }
  return KEYS[key]?.() ?? false;
}

const PLACES = { r: "/", d: "/dead-letters", s: "/subscriptions" };
const KEYS = {
  "?": () => (helpIsOpen.set(true), true),
  "/": () => focused(document.querySelector("[data-search]")),
  j: () => step(1),
  k: () => step(-1),
  "[": () => tab(-1),
  "]": () => tab(1),
  a: () => pressed("[data-key=approve]"),
  x: () => pressed("[data-key=reject]"),
  t: () => (cycleTheme(), true),
};

function focused(element) {
  if (!element) return false;
  element.focus();
  element.select?.();
  return true;
}

function pressed(selector) {
  const button = document.querySelector(selector);
  if (!button) return false;
  button.click();
  return true;
}

// Rows are links, buttons and summaries marked data-row; the focus moves among them.
function step(by) {
  const rows = [...document.querySelectorAll("main [data-row]")].filter((row) => row.offsetParent !== null);
  if (!rows.length) return false;
  const at = rows.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by));
  rows[next].focus();
  rows[next].scrollIntoView({ block: "nearest" });
  return true;
}

function tab(by) {
  const here = route.get();
  if (here.view !== "run") return false;
  const at = TABS.indexOf(here.tab) + by;
  if (!TABS[at]) return false;
  navigate(runPath(here.runId, TABS[at]));
  return true;
}
