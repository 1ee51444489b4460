// Asks for a reason before something is changed, and shows what the gateway says if it refuses.
import { html, useState } from "../lib.js";
import { postJson } from "../api.js";
import { useMe } from "../session.js";
import { remember, remembered } from "../store.js";
import { announce } from "./announcer.js";
import { Dialog } from "./dialog.js";

const LONGEST = 2000; // as the gateway allows

// question: {title, text, verb, kind, path, body(reason, by), done} or null; isPlain asks for no reason, nameless for no name.
export function Ask({ question, onClose, onDone = () => {} }) {
  return html`<${Dialog} title=${question?.title || ""} isOpen=${Boolean(question)} onClose=${onClose}>
    ${question && html`<${AskForm} question=${question} onClose=${onClose} onDone=${onDone} />`}
  <//>`;
}

function AskForm({ question, onClose, onDone }) {
  const me = useMe();
  const [reason, setReason] = useState("");
  const [by, setBy] = useState(remembered("by"));
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    if (!question.isPlain && !reason.trim()) return setError("Write a reason: it is stored with the decision.");
    setBusy(true);
    setError("");
    if (!me.name) remember("by", by.trim());
    try {
      await postJson(question.path, question.body(reason.trim(), me.name || by.trim()));
      announce(question.done);
      onClose();
      onDone();
    } catch (failure) {
      setError(failure.message);
      setBusy(false);
    }
    return undefined;
  };
  return html`<form onSubmit=${submit} noValidate>
    ${question.text && html`<p>${question.text}</p>`}
    ${!question.isPlain && html`<label class="field wide"><span class="field-label">Reason (required)</span>
      <textarea rows="3" maxlength=${LONGEST} value=${reason} onInput=${(event) => setReason(event.currentTarget.value)} required autofocus
        aria-invalid=${error ? "true" : null} aria-describedby="ask-error"></textarea></label>`}
    ${!me.name && !question.isPlain && !question.nameless && html`<label class="field wide"><span class="field-label">Your name</span>
      <input value=${by} maxlength="200" onInput=${(event) => setBy(event.currentTarget.value)} autocomplete="name" /></label>`}
    <p id="ask-error" class="bad-text" role="alert">${error}</p>
    <div class="dialog-end">
      <button type="button" class="button" onClick=${onClose}>Back</button>
      <button class=${`button ${question.kind || "primary"}`} disabled=${isBusy}>${isBusy ? "Sending…" : question.verb}</button>
    </div>
  </form>`;
}
