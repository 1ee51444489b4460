// Asks for the token that the gateway printed when it started, or for an API key.
import { html, useState } from "../lib.js";
import { signInNeeded } from "../api.js";
import { signIn } from "../session.js";
import { useStore } from "../store.js";
import { Dialog } from "./dialog.js";

export function SignInDialog() {
  const isNeeded = useStore(signInNeeded);
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError("");
    try {
      await signIn(new FormData(event.currentTarget).get("token").trim());
    } catch (failure) {
      setError(failure.status === 401 ? "The gateway does not know this token. Copy it whole, without spaces." : failure.message);
    }
    setBusy(false);
  };
  return html`<${Dialog} title="Sign in" isOpen=${isNeeded} onClose=${() => signInNeeded.set(false)}>
    <form onSubmit=${submit}>
      <p>Paste the token that the gateway printed when it started, or an API key. It is exchanged for a session cookie; the page does not keep it.</p>
      <label class="field wide"><span class="field-label">Token</span>
        <input name="token" type="password" required autocomplete="current-password" spellcheck=${false} autofocus aria-describedby="sign-in-error" /></label>
      <p id="sign-in-error" class="bad-text" role="alert">${error}</p>
      <div class="dialog-end">
        <button type="button" class="button" onClick=${() => signInNeeded.set(false)}>Not now</button>
        <button class="button primary" disabled=${isBusy}>${isBusy ? "Signing in…" : "Sign in"}</button>
      </div>
    </form>
  <//>`;
}
