// The bar on top: places, whether the page is live, who is signed in, theme and help.
import { html } from "../lib.js";
import { liveState } from "../live.js";
import { signOut, useMe } from "../session.js";
import { useStore } from "../store.js";
import { helpIsOpen } from "../keys.js";
import { Icon } from "./bits.js";
import { cycleTheme, theme } from "./theme_choice.js";

const PLACES = [
  ["/", "Runs", ["runs", "run"]],
  ["/dead-letters", "Dead letters", ["letters"]],
  ["/subscriptions", "Subscriptions", ["subscriptions"]],
];
const LIVE = {
  live: ["Live", "What happens is shown within a second."],
  connecting: ["Connecting", "The live stream is being opened."],
  lost: ["Offline", "The gateway does not answer; the page tries again and then catches up."],
};
const THEMES = { auto: ["auto", "as the system"], light: ["sun", "light"], dark: ["moon", "dark"] };

export function Header({ route }) {
  const live = useStore(liveState);
  const chosen = useStore(theme);
  const me = useMe();
  const [icon, words] = THEMES[chosen];
  return html`<header class="bar">
    <a class="brand" href="/" aria-label="Mendloop, runs">
      <svg viewBox="0 0 32 32" aria-hidden="true"><path d="M22.6 11.2A8 8 0 1 0 24 16M24.6 6.6v5.6H19" /><circle cx="16" cy="16" r="2.4" /></svg>
      <span>Mendloop</span>
    </a>
    <nav aria-label="Main">
      ${PLACES.map(([href, text, views]) => html`<a key=${href} href=${href} aria-current=${views.includes(route.view) ? "page" : null}>${text}</a>`)}
    </nav>
    <div class="bar-end">
      <span class=${`live ${live}`} title=${LIVE[live][1]}><span class="dot" aria-hidden="true"></span><span class="live-text">${LIVE[live][0]}</span></span>
      ${me.name && html`<span class="who" title=${`Signed in as ${me.name}`}>${me.name}</span><button class="ghost" onClick=${signOut} aria-label="Sign out" title="Sign out"><${Icon} name="leave" /></button>`}
      <button class="ghost" onClick=${cycleTheme} aria-label=${`Theme: ${words}. Change it`} title=${`Theme: ${words}`}><${Icon} name=${icon} /></button>
      <button class="ghost" onClick=${() => helpIsOpen.set(true)} aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)"><${Icon} name="help" /></button>
    </div>
  </header>`;
}
