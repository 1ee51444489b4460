// An address that means nothing here.
import { html } from "../lib.js";
import { Empty } from "../parts/states.js";

export function Missing() {
  return html`<h1>Nothing here</h1><${Empty} title="This address means nothing to the page.">Go back to <a href="/">the runs</a>.<//>`;
}
