// A run at one look: the loop, the figures that count, accuracy over the rounds, budget, time by stage, control arms.
import { html } from "../lib.js";
import { compact, count, duration, plural } from "../format.js";
import { armRounds, budgets, measuredRounds, trends, weakSlices } from "../model/facts.js";
import { runPath } from "../router.js";
import { BudgetChart } from "../charts/budget.js";
import { LoopPicture } from "../charts/loop.js";
import { StageChart } from "../charts/stages.js";
import { COLOURS, Snapshot, TrendChart } from "../charts/trend.js";
import { Accuracy, Card, Change, Stat, Table, Verdict } from "../parts/bits.js";
import { useNow } from "../parts/clock.js";
import { Empty } from "../parts/states.js";

export function Overview({ run }) {
  const now = useNow(run.state === "finished" ? 0 : 2000);
  const spent = budgets(run, now);
  return html`
    <${Card} title="The loop" className="wide" aside=${html`<span class="soft">round ${run.round}</span>`}><${LoopPicture} run=${run} now=${now} /><//>
    <${Figures} run=${run} />
    <${Trend} run=${run} />
    <div class="columns">
      <${Card} title="Budget" note="Share of each limit that is left, from the start until now.">
        ${spent.length ? html`<${BudgetChart} budgets=${spent} />` : html`<${Empty} title="The recipe's limits could not be read." />`}
      <//>
      <${Card} title="Time" note="What each stage took, in the order in which they began."><${StageChart} run=${run} now=${now} /><//>
    </div>
    <${Arms} run=${run} />
  `;
}

function Figures({ run }) {
  const measured = measuredRounds(run);
  const first = measured[0]?.evaluation;
  const last = measured[measured.length - 1];
  const isSame = measured.length < 2;
  const shards = run.rounds.find((round) => round.shards.total && round.shards.done < round.shards.total && !round.evaluation)?.shards;
  return html`<dl class="stats">
    <${Stat} label="Accuracy of the base">${first ? html`<${Accuracy} of=${first.accuracy} bar=${false} />` : "not measured yet"}<//>
    <${Stat} label=${isSame ? "Newest checkpoint" : `Checkpoint of round ${last.round}`} note=${isSame ? "" : html`<${Change} from=${first.accuracy} to=${last.evaluation.accuracy} /> points since the base`}>
      ${isSame ? (shards ? `${shards.done} of ${shards.total} shards measured` : "the base") : html`<${Accuracy} of=${last.evaluation.accuracy} bar=${false} />`}<//>
    <${Stat} label="Weak slices found"><a href=${runPath(run.run_id, "slices")}>${count(weakSlices(run).size)}</a><//>
    <${Stat} label="Cost so far" note=${run.cost.flops ? `${compact(run.cost.flops)}FLOP estimated` : ""}>${duration(run.cost.wall_s)} of work, ${count(run.cost.token_count)} tokens<//>
  </dl>`;
}

function Trend({ run }) {
  const all = trends(run);
  if (!all.length) return html`<${Card} title="Accuracy"><${Empty} title="Nothing is measured yet.">The first evaluation fills this chart.<//><//>`;
  const weak = all.filter((one) => one.isWeak);
  const last = (one) => one.points.filter((point) => point.n).slice(-1)[0].accuracy;
  const others = all.filter((one) => one.key && !one.isWeak).sort((a, b) => last(a) - last(b));
  const shown = [all[0], ...weak, ...others].filter((one, i) => one && i < Math.min(COLOURS, Math.max(6, weak.length + 1)));
  const hidden = all.length - shown.length;
  const threshold = run.recipe_facts?.weak_below ?? null;
  const more = hidden > 0 && html`<a href=${runPath(run.run_id, "slices")}>${plural(hidden, "further slice")}</a>`;
  return html`<${Card} title="Accuracy" note=${`All items and the weakest slices, with exact 95${"\u202f"}% intervals${threshold === null ? "" : "; the mark is what a slice must reach"}.`} aside=${more}>
    ${measuredRounds(run).length > 1
      ? html`<${TrendChart} series=${shown} threshold=${threshold} label="Accuracy of slices over the rounds" />`
      : html`<${Snapshot} series=${shown} threshold=${threshold} />`}
  <//>`;
}

function Arms({ run }) {
  const arms = armRounds(run).filter((round) => round.evaluation);
  if (!arms.length) return null;
  const main = (number) => run.rounds.find((round) => round.round === number && !round.arm)?.evaluation;
  return html`<${Card} title="Control arms" note="The same budget spent otherwise: what the loop did should beat them. Intervals take both sides as independent; paired ones are narrower.">
    <${Table} label="Control arms" head=${["Arm", { text: "Round", number: true }, "Accuracy", { text: "Against the loop, points", number: true }, "Gates"]}>
      ${arms.map((round) => {
        const loop = main(round.round);
        return html`<tr key=${`${round.arm}/${round.round}`}><th scope="row">${round.arm}</th><td class="number">${round.round}</td>
          <td><${Accuracy} of=${round.evaluation.accuracy} /></td><td class="number"><${Change} from=${loop?.accuracy} to=${round.evaluation.accuracy} /></td>
          <td>${round.decision ? html`<${Verdict} passed=${round.decision.promoted} yes="would pass" no="would fail" />` : "–"}</td></tr>`;
      })}
    <//>
  <//>`;
}
