// Inputs that keep their value in the address: search, choices, pages of a list.
import { html, useEffect, useRef, useState } from "../lib.js";
import { setQuery } from "../router.js";
import { count } from "../format.js";

const TYPING_MS = 250;

export function Search({ name = "q", value = "", label, placeholder = "" }) {
  const [text, setText] = useState(value);
  const timer = useRef(0);
  const sent = useRef(value);
  useEffect(() => {
    if (value !== sent.current) setText(value); // the address changed elsewhere, e.g. by the back button
    sent.current = value;
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const type = (event) => {
    const next = event.currentTarget.value;
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      sent.current = next;
      setQuery({ [name]: next });
    }, TYPING_MS);
  };
  return html`<label class="field search">
    <span class="field-label">${label}</span>
    <input type="search" value=${text} onInput=${type} placeholder=${placeholder} autocomplete="off" spellcheck=${false} data-search />
  </label>`;
}

// options: [[value, words]]; the first stands for "no filter" where its value is empty.
export function Choice({ name, value = "", label, options }) {
  return html`<label class="field">
    <span class="field-label">${label}</span>
    <select value=${value} onChange=${(event) => setQuery({ [name]: event.currentTarget.value })}>
      ${options.map(([option, text]) => html`<option key=${option} value=${option} selected=${option === value}>${text}</option>`)}
    </select>
  </label>`;
}

export function Segments({ name, value = "", label, options }) {
  return html`<fieldset class="segments">
    <legend class="field-label">${label}</legend>
    <div class="segment-row">
      ${options.map(([option, text]) => html`<label key=${option} class="segment">
        <input type="radio" name=${name} value=${option} checked=${option === value} onChange=${() => setQuery({ [name]: option })} />
        <span>${text}</span>
      </label>`)}
    </div>
  </fieldset>`;
}

export function Check({ name, value, label }) {
  return html`<label class="check">
    <input type="checkbox" checked=${value === "1"} onChange=${(event) => setQuery({ [name]: event.currentTarget.checked ? "1" : "" })} />
    <span>${label}</span>
  </label>`;
}

export function More({ pages, noun }) {
  const { items, total, more, loadMore } = pages;
  const of = total === undefined || total === null ? (more ? "" : "all ") : "";
  const text = total === undefined || total === null ? `${of}${count(items.length)} ${noun}` : `${count(items.length)} of ${count(total)} ${noun}`;
  return html`<div class="more">
    <p class="soft" role="status">${text}</p>
    ${more && html`<button class="button" onClick=${loadMore}>Show more</button>`}
  </div>`;
}
