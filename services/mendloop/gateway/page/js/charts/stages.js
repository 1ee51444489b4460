// When each stage worked: bars over time, one row a stage of a round. Its rows are text, so it needs no second table.
import { html } from "../lib.js";
import { duration } from "../format.js";

export function StageChart({ run, now }) {
  const stages = run.stages.filter((stage) => stage.started_at && !stage.arm);
  if (!stages.length) return html`<p class="soft">No stage has begun.</p>`;
  const start = Math.min(...stages.map((stage) => Date.parse(stage.started_at)));
  const end = Math.max(start + 1000, ...stages.map((stage) => (stage.ended_at ? Date.parse(stage.ended_at) : now)));
  const at = (ms) => (100 * (ms - start)) / (end - start);
  return html`<ol class="gantt">
    ${stages.map((stage) => {
      const from = at(Date.parse(stage.started_at));
      const to = at(stage.ended_at ? Date.parse(stage.ended_at) : now);
      return html`<li key=${`${stage.round}/${stage.stage}`} class=${stage.ended_at ? "" : "is-open"}>
        <span class="gantt-name">${stage.stage} <span class="soft">${stage.round ? `round ${stage.round}` : "base"}</span></span>
        <svg height="12" aria-hidden="true"><rect class="rail" width="100%" height="12" rx="3" /><rect class="span" x=${`${from}%`} width=${`${Math.max(0.8, to - from)}%`} height="12" rx="3" /></svg>
        <span class="gantt-time">${duration(stage.ended_at ? stage.seconds : Math.max(0, now - Date.parse(stage.started_at)) / 1000)}${stage.ended_at ? "" : " so far"}</span>
      </li>`;
    })}
  </ol>`;
}
