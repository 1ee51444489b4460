// Who is signed in and what they may do. Without an access layer in the gateway everybody may do everything.
import { change, getJson, postJson, setCsrfToken, signInNeeded } from "./api.js";
import { createStore, useStore } from "./store.js";

const OPEN = { name: "", scopes: null };
export const me = createStore(OPEN);
// Counts sign-ins; views that take it as a key start afresh with the new rights.
export const signIns = createStore(0);

async function loadSession() {
  const session = await quietly("/v1/session");
  if (session?.csrf_token) setCsrfToken(session.csrf_token);
  const known = await quietly("/v1/me");
  me.set(known ? { name: known.name || "", scopes: known.scopes || null } : OPEN);
}

export async function signIn(token) {
  const session = await postJson("/v1/session", { token });
  setCsrfToken(session?.csrf_token);
  signInNeeded.set(false);
  await loadSession();
  signIns.set(signIns.get() + 1);
}

// A scope holds those before it (read, run, approve, admin); the gateway lists all that a key has.
export function may(who, scope) {
  return !who.scopes || who.scopes.includes(scope) || who.scopes.includes("admin");
}

export async function signOut() {
  await change("DELETE", "/v1/session");
  location.assign("/");
}

// The gateway prints its address with the token behind a #, which no browser sends: it is taken from there, and out of sight.
export async function openSession() {
  const token = location.hash.startsWith("#token=") ? decodeURIComponent(location.hash.slice(7)) : "";
  if (!token) return loadSession();
  history.replaceState(null, "", location.pathname + location.search);
  return signIn(token).catch(() => signInNeeded.set(true));
}

export function useMe() {
  return useStore(me);
}

async function quietly(path) {
  try {
    return await getJson(path, { quiet: true });
  } catch {
    return null; // 404: no access layer; 401: the first real request asks to sign in
  }
}
