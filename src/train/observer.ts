import type { LanguageModel } from "../model/language-model.js";
import { balanceRange } from "../routing/balance.js";
import { loadStatistics } from "../routing/statistics.js";
import { routingSummary, type RoutingSummary } from "../routing/summary.js";
import type { Routing } from "../routing/types.js";
import type { AuxRecord, LayerRecord } from "./log/record.js";

interface LayerTotals {
  load: Int32Array;
  tokens: number;
  dropped: number;
  fullyDropped: number;
  /** Sums over the batches of the means per batch. */
  summary: RoutingSummary;
  raw: Record<string, number>;
}

/** Gathers what the routers did during one step, batch by batch, while the decisions are alive. */
export class RoutingObserver {
  private batches = 0;
  private layers: LayerTotals[] = [];

  constructor(private readonly model: LanguageModel) {}

  readonly observe = (routings: readonly Routing[]): void => {
    this.batches++;
    routings.forEach((routing, i) => {
      const summary = routingSummary(this.model.engine, routing);
      const { load, dropped, fullyDropped, raw } = routing;
      const tokens = routing.experts.rows;
      const seen = this.layers[i];
      if (seen === undefined) {
        this.layers[i] = { load: load.slice(), tokens, dropped, fullyDropped, summary, raw: { ...raw } };
        return;
      }
      load.forEach((n, e) => (seen.load[e] = (seen.load[e] as number) + n));
      seen.tokens += tokens;
      seen.dropped += dropped;
      seen.fullyDropped += fullyDropped;
      for (const key of Object.keys(summary) as (keyof RoutingSummary)[]) seen.summary[key] += summary[key];
      for (const [name, value] of Object.entries(raw)) seen.raw[name] = (seen.raw[name] ?? 0) + value;
    });
  };

  /** The layers' part of the log line. */
  layerRecords(): LayerRecord[] {
    const { config, engine, parameters } = this.model;
    return this.layers.map((totals, i) => {
      const layer = config.sparseLayers[i] as number;
      const bias = parameters.find(`layers.${layer}.router.selectionBias`);
      const { token_entropy, topk_margin, router_z } = totals.summary;
      const n = this.batches;
      return { layer, token_entropy: token_entropy / n, topk_margin: topk_margin / n, router_z: router_z / n, bias: bias === undefined ? null : Array.from(engine.read(bias)), ...loadStatistics(totals) };
    });
  }

  /** Balance loss and z-loss of the step, means over layers and batches; null where there is none: not configured, or left out by a router of the user's own. */
  lossRecords(): { aux: AuxRecord | null; z: number | null } {
    const { moe } = this.model.config;
    const meanOf = (name: string) => this.layers.reduce((sum, { raw }) => sum + (raw[name] ?? 0), 0) / (this.layers.length * this.batches);
    const has = (name: string) => this.layers.some(({ raw }) => name in raw);
    if (moe === undefined) return { aux: null, z: null };
    const { balance, zLoss } = moe.router;
    const aux = "coefficient" in balance && balance.coefficient !== 0 && has("balance") ? { method: balance.method, raw: meanOf("balance"), scaled: balance.coefficient * meanOf("balance"), ...balanceRange(balance.method, moe.experts, moe.active) } : null;
    return { aux, z: zLoss !== 0 && has("z") ? zLoss * meanOf("z") : null };
  }
}
