import type { Model } from "../generate/model.js";
import type { TokenRoute } from "../generate/routing-record.js";
import { loadStatistics } from "../routing/statistics.js";
import type { DecodeStream } from "../tokenizer/tokenizer.js";
import { formatPercent, loadBar } from "../train/log/format.js";
import { paintExpert, table, type Terminal } from "./terminal.js";

/** Stands for a line break in coloured text, before the break itself. */
const lineBreak = "\u21b5";

/** Text coloured by the first expert of one layer, token by token, and the layers' load under it. */
export class RoutingView {
  private readonly text: DecodeStream;
  /** Choices per layer and expert. */
  private readonly counts: Int32Array[];
  private tokens = 0;
  private readonly index: number;

  constructor(
    private readonly model: Model,
    private readonly layer: number,
    private readonly terminal: Terminal,
  ) {
    const { sparseLayers, moe } = model.config;
    this.index = sparseLayers.indexOf(layer);
    this.counts = sparseLayers.map(() => new Int32Array(moe?.experts ?? 0));
    this.text = (model.tokenizer as NonNullable<Model["tokenizer"]>).decodeStream();
  }

  /** The text that this token completes, in the colour of its expert; without colours the expert's number follows it. */
  token(route: TokenRoute): string {
    this.tokens++;
    route.layers.forEach(({ experts }, i) => {
      const counts = this.counts[i] as Int32Array;
      for (const e of experts) counts[e] = (counts[e] as number) + 1;
    });
    const expert = route.layers[this.index]?.experts[0];
    const text = this.terminal.shown(this.text.push(route.token));
    if (expert === undefined) return text;
    if (!this.terminal.color) return text.trim() === "" ? text : `${text}[${expert}]`;
    return text.replaceAll(/[^\n]+|\n/g, (part) => (part === "\n" ? `${paintExpert(lineBreak, expert, true)}\n` : paintExpert(part, expert, true)));
  }

  unrouted(token: number | undefined): string {
    return token === undefined ? "" : this.terminal.shown(this.text.push(token) + this.text.end());
  }

  /** Which colour is which expert, and how even the load of each layer was. */
  legend(): string {
    const { paint, color } = this.terminal;
    const { sparseLayers, moe } = this.model.config;
    const experts = Array.from({ length: moe?.experts ?? 0 }, (_, e) => paintExpert(` ${e} `, e, color));
    const rows = this.counts.map((load, i) => {
      const { load: shares, maxvio, dead } = loadStatistics({ load, tokens: this.tokens, dropped: 0, fullyDropped: 0 });
      const order = shares.map((_, e) => e).sort((a, b) => (shares[b] as number) - (shares[a] as number));
      const top = order.slice(0, 3).map((e) => `${paintExpert(` ${e} `, e, color)} ${formatPercent(shares[e] as number).padStart(4)}`);
      return [`${sparseLayers[i]}${sparseLayers[i] === this.layer ? " <" : ""}`, loadBar(shares, paint), top.join("  "), maxvio.toFixed(2), dead];
    });
    const title = `${paint("first expert", "dim")} in layer ${this.layer}: ${experts.join("")}`;
    return `${title}\n\n${table(["layer", "load", "busiest", "maxvio", "idle"], rows, paint)}`;
  }
}
