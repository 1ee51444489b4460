// A modal dialog: the browser keeps the focus inside, Esc closes it, the focus goes back where it was.
import { html, useEffect, useId, useRef } from "../lib.js";

export function Dialog({ title, isOpen, onClose, children, className = "" }) {
  const element = useRef(null);
  const id = useId();
  useEffect(() => {
    const dialog = element.current;
    if (isOpen && !dialog.open) dialog.showModal();
    if (!isOpen && dialog.open) dialog.close();
  }, [isOpen]);
  const onClick = (event) => event.target === element.current && onClose();
  return html`<dialog ref=${element} class=${className} aria-labelledby=${id} onClose=${onClose} onClick=${onClick}>
    ${isOpen && html`<div class="dialog-body"><h2 id=${id}>${title}</h2>${children}</div>`}
  </dialog>`;
}
