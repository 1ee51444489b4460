// Starts the page: session, live stream, keys, and the view of the address.
import { html, render, useEffect, useRef } from "./lib.js";
import { follow, pauseWhileHidden, restart } from "./live.js";
import { listenToLinks, useRoute } from "./router.js";
import { openSession, signIns } from "./session.js";
import { useStore } from "./store.js";
import { listenToKeys } from "./keys.js";
import { Announcer } from "./parts/announcer.js";
import { Header } from "./parts/header.js";
import { HelpDialog } from "./parts/help.js";
import { SignInDialog } from "./parts/sign_in.js";
import { DeadLetters } from "./views/letters.js";
import { Missing } from "./views/missing.js";
import { Run } from "./views/run.js";
import { Runs } from "./views/runs.js";
import { Subscriptions } from "./views/subscriptions.js";

const VIEWS = { runs: Runs, run: Run, letters: DeadLetters, subscriptions: Subscriptions, missing: Missing };

function App() {
  const route = useRoute();
  const signInCount = useStore(signIns);
  const View = VIEWS[route.view];
  const place = `${route.view}/${route.runId || ""}`;
  useEffect(() => follow(route.runId || ""), [place]);
  useEffect(() => {
    if (signInCount) restart();
  }, [signInCount]);
  useFocusOnHeading(`${place}/${route.tab || ""}`);
  return html`
    <a class="skip" href="#main">Skip to content</a>
    <${Header} route=${route} />
    <main id="main" tabindex="-1"><${View} key=${`${place}#${signInCount}`} route=${route} /></main>
    <${Announcer} />
    <${HelpDialog} />
    <${SignInDialog} />
  `;
}

// After a change of place the focus goes to the content, as it would after a page load, so that a reader hears it.
function useFocusOnHeading(place) {
  const isFirst = useRef(true);
  useEffect(() => {
    if (isFirst.current) {
      isFirst.current = false;
      return;
    }
    const active = document.activeElement;
    if (!active || active === document.body || !document.contains(active)) document.getElementById("main")?.focus({ preventScroll: true });
  }, [place]);
}

const root = document.getElementById("page");
root.textContent = "";
listenToLinks();
listenToKeys();
pauseWhileHidden();
openSession().then(() => render(html`<${App} />`, root));
