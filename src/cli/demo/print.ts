import { formatNumber, formatPercent, type Paint } from "../../train/log/format.js";
import { paintExpert, table, type Terminal } from "../terminal.js";
import type { Trained } from "./race.js";
import { type LayerUse, shares, type Specialisation } from "./specialisation.js";
import { type Kind, kinds } from "./token-kinds.js";

const kindWords: Record<Kind, string> = {
  space: "white space",
  comment: "comments",
  string: "strings",
  number: "numbers",
  keyword: "keywords",
  Type: "capitalised names",
  name: "other names",
  bracket: "brackets",
  other: "other punctuation",
};

/** Held-out loss of both models, step by step, with a bar for the mixture's. */
export function lossTable(mixture: Trained, dense: Trained, { paint }: Terminal): string {
  const top = Math.max(...mixture.curve.map(({ loss }) => loss), ...dense.curve.map(({ loss }) => loss));
  const rows = mixture.curve.map(({ step, loss }, i) => {
    const other = dense.curve[i]?.loss ?? Number.NaN;
    return [step, loss.toFixed(3), other.toFixed(3), paint("\u2588".repeat(Math.round((40 * loss) / top)), loss < other ? "green" : "yellow")];
  });
  return table(["step", "mixture", "dense", "loss of the mixture (green: below the dense model's)"], rows, paint);
}

/** What the comparison came to, as it is. */
export function verdict(mixture: Trained, dense: Trained): string {
  const gap = dense.loss - mixture.loss;
  const compared = Math.abs(gap) < 0.005 ? "the two are equally good" : gap > 0 ? `the mixture is ${gap.toFixed(3)} better` : `the dense model is ${(-gap).toFixed(3)} better`;
  return `Over ${formatNumber(mixture.compared)} held-out bytes: mixture ${mixture.loss.toFixed(3)}, dense ${dense.loss.toFixed(3)}, so ${compared},
after the same steps on the same text. The mixture took ${(mixture.seconds / dense.seconds).toFixed(2)} times as long.`;
}

/** Share of each kind's choices per expert, all layers below each other; hot: far more than an even share. */
export function heatTable(uses: readonly LayerUse[], { paint, color }: Terminal): string {
  const cell = 8;
  const header = `layer  expert  ${kinds.map((kind) => kind.padStart(cell - 1).padEnd(cell)).join("")}`;
  const lines = uses.flatMap((use) => {
    const share = shares(use);
    const experts = share[0]?.length ?? 0;
    return Array.from({ length: experts }, (_, expert) => {
      const cells = share.map((row) => heat(row[expert] as number, experts, cell, color));
      return `${String(expert === 0 ? use.layer : "").padStart(5)}  ${paintExpert(` ${String(expert).padStart(2)} `, expert, color)}    ${cells.join("")}`;
    });
  });
  return [paint(header, "dim"), ...lines].join("\n");
}

/** Of the 256 colours, from dark to bright as in viridis: nothing, up to an even share, then up to everything. */
const scale = [233, 53, 54, 60, 66, 72, 78, 113, 149, 185, 227];
const even = 3;

function heat(share: number, experts: number, width: number, color: boolean): string {
  const text = Number.isNaN(share) ? "-" : `${Math.round(100 * share)}%`;
  const padded = text.padStart(width - 2).padEnd(width);
  if (!color || Number.isNaN(share)) return padded;
  const relative = share * experts;
  const level = Math.round(relative <= 1 ? even * relative : even + ((scale.length - 1 - even) * Math.log(relative)) / Math.log(experts));
  return `\u001b[48;5;${scale[level]}m\u001b[38;5;${level < 5 ? 252 : 16}m${padded}\u001b[0m`;
}

export function inWords({ layer, expert, kind, ofKind, ofAll }: Specialisation, paint: Paint): string {
  return `${paint(kindWords[kinds[kind] as Kind].padEnd(17), "bold")}  ${formatPercent(ofKind).padStart(4)} of the choices are expert ${expert} of layer ${layer}, which gets ${formatPercent(ofAll)} of all`;
}
