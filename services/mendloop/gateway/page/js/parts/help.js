// The help dialog: every shortcut, and the switch that turns single keys off.
import { html } from "../lib.js";
import { SHORTCUTS, helpIsOpen, keysAreOn, switchKeys } from "../keys.js";
import { useStore } from "../store.js";
import { Dialog } from "./dialog.js";

export function HelpDialog() {
  const isOpen = useStore(helpIsOpen);
  const isOn = useStore(keysAreOn);
  const close = () => helpIsOpen.set(false);
  return html`<${Dialog} title="Keyboard shortcuts" isOpen=${isOpen} onClose=${close}>
    <dl class="keys">
      ${SHORTCUTS.map(([keys, text]) => html`<div key=${keys}>
        <dt>${keys.split(/\s+/).map((key) => html`<kbd key=${key}>${key}</kbd>`)}</dt><dd>${text}</dd>
      </div>`)}
    </dl>
    <label class="check"><input type="checkbox" checked=${isOn} onChange=${(event) => switchKeys(event.currentTarget.checked)} />
      <span>Single keys work as shortcuts</span></label>
    <div class="dialog-end"><button class="button" onClick=${close}>Close</button></div>
  <//>`;
}
