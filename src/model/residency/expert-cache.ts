import type { NativeEngine } from "../../engine/native.js";
import { check } from "../../errors.js";
import type { ExpertParameters } from "../../moe/experts.js";
import type { DispatchPlan } from "../../moe/plan.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { StoredMatrix } from "../mapped.js";
import { emptyCounts } from "./counts.js";
import { Popularity } from "./popularity.js";
import { Residents } from "./residents.js";
import type { Room } from "./room.js";
import type { Slot } from "./slots.js";
import type { StoredExperts } from "./stored-experts.js";

/** Which experts of a layer the tokens at hand are likely to choose, the likeliest first: i32 [T, K]. Asked about the layer after the one in use. */
type Forecast = (layer: number) => Tensor;

/** Tokens after which a use counts half (see `Popularity`); docs/lab-notebook.md compares other values. */
export const halfLife = 128;

/** When a layer lacks fewer experts than this on average, reading ahead saves less time than a forecast takes. */
const fewMissing = 0.25;
/** Weight of the newest use in that average, which moves. */
const newestUse = 1 / 64;

/**
 * Experts that are read from their files when they are needed and stay as long as there is room for them; the least popular of all layers
 * goes first. While one layer computes, what the next is likely to need is read.
 */
export class ExpertCache {
  /** What it has done so far. */
  readonly counts = emptyCounts();
  private readonly experts: number;
  private readonly popularity: Popularity;
  private readonly residents: Residents;
  /** Calls of `provide`, each of which marks the slots that it needs with its number. */
  private uses = 0;
  /** Bytes of the largest results of a layer's products so far, which the process's memory already includes. */
  private results = 0;
  /** Experts that are being read ahead, and the index of their layer. */
  private forecast: { index: number; experts: readonly number[] } = { index: -1, experts: [] };
  /** Experts per use that were not in memory when they were needed, whether read ahead or not: a moving average. */
  private missing = 1;

  constructor(
    private readonly engine: NativeEngine,
    readonly layers: readonly StoredExperts[],
    private readonly room: Room,
  ) {
    this.experts = layers[0]?.down.length ?? 0;
    this.popularity = new Popularity(layers.length * this.experts, halfLife);
    this.residents = new Residents(engine, layers, (expert) => this.popularity.rank(expert));
  }

  /** Bytes of a slot: of the largest expert, in whole pages. */
  get bytesPerSlot(): number {
    return this.residents.bytesPerSlot;
  }

  /** Experts that there is room for, and all of them. */
  get size(): { slots: number; experts: number } {
    return { slots: this.residents.limit, experts: this.layers.length * this.experts };
  }

  /**
   * The experts of a layer, of which those that the plan has rows for are in memory when ops come to them. Ops throw ERR_SWITCHYARD_MEMORY where there
   * is no room for them, ERR_SWITCHYARD_IO.
   */
  use(layer: number, { offsets, tokens: rows, positions }: DispatchPlan, forecast: Forecast): ExpertParameters {
    const index = this.layers.findIndex((stored) => stored.layer === layer);
    const tokens = positions.rows;
    if (index === 0) {
      this.counts.tokens += tokens;
      if (tokens === 1) this.fit(this.layers[index] as StoredExperts, rows.size, tokens);
    }
    const { late } = this.residents;
    const [own, next] = [late.layers[index] as (typeof late.layers)[number], late.layers[index + 1]];
    const likely = next && this.missing >= fewMissing ? forecast((this.layers[index + 1] as StoredExperts).layer) : undefined;
    const ahead = next && likely && { likely, choices: betterHalf(likely.cols), there: next.demand.there };
    this.engine.demand({ offsets, ...own.demand, always: tokens > 1, forecast: ahead }, () => this.provide(index, tokens, likely));
    return own.experts;
  }

  /** Begins to read what a layer needs, which products wait for, and then what the next one is likely to need. */
  private provide(index: number, tokens: number, likely: Tensor | undefined): void {
    const { residents } = this;
    residents.finishAll();
    const rows = residents.late.takeRows(index);
    if (tokens > 1) this.fit(this.layers[index] as StoredExperts, rows.reduce((sum, n) => sum + n, 0), tokens);
    this.uses++;
    const needed = [...rows.keys()].filter((e) => (rows[e] as number) > 0);
    check(needed.length <= this.size.slots, "ERR_SWITCHYARD_MEMORY", () => {
      const missing = Math.ceil(((this.experts - this.room(residents.size * this.bytesPerSlot, 0)) * this.bytesPerSlot) / 2 ** 20);
      return (
        `memory: layer ${this.layers[index]?.layer} needs ${needed.length} experts at a time, and the budget has room for ${this.size.slots} beside the cache and the activations; ` +
        `give about ${missing} MiB more, enough for the ${this.experts} of a layer, or run fewer tokens`
      );
    });
    const slots = this.load(index, needed);
    this.callOff(index, needed);
    for (const e of needed) this.popularity.use(index * this.experts + e, this.counts.tokens, rows[e], tokens);
    if (likely !== undefined) this.readAhead(index + 1, likely);
    for (const slot of slots) residents.ready(slot);
  }

  /**
   * When all ops of a layer have run, and other passes may come before the next: ends the reads that its products waited for. Throws ERR_SWITCHYARD_IO where one
   * failed, which this pass must hear of.
   */
  endLayer(): void {
    this.residents.finishAwaited();
  }

  /** When all ops of a pass have run: counts the uses that found what they needed. Throws ERR_SWITCHYARD_IO where what products waited for could not be read. */
  endPass(): void {
    const { experts, residents } = this;
    residents.finishAll();
    const rows = residents.late.takeRows();
    for (let l = 0; l < this.layers.length; l++) {
      let [hits, ahead] = [0, 0];
      for (let expert = l * experts; expert < (l + 1) * experts; expert++) {
        const slot = (rows[expert] as number) > 0 ? residents.get(expert) : undefined;
        if (slot === undefined) continue;
        if (slot.ahead) ahead++;
        else hits++;
        slot.ahead = false;
        this.popularity.use(expert, this.counts.tokens);
      }
      if (hits + ahead > 0) this.count(hits, ahead, 0);
    }
  }

  /** Counts a use. */
  private count(hits: number, ahead: number, others: number): void {
    const { counts } = this;
    counts.needed += hits + ahead + others;
    counts.hits += hits;
    counts.ahead += ahead;
    this.missing += newestUse * (ahead + others - this.missing);
  }

  /**
   * Gives back the slots that there is no room for beside the results of this layer's products, their sums and those with the layer's input; what these need
   * beyond the largest so far is still to be allocated.
   */
  private fit({ up, down }: StoredExperts, rows: number, tokens: number): void {
    const [{ rows: width, cols: hidden }] = down as [StoredMatrix];
    const results = 4 * rows * (up.reduce((sum, [part]) => sum + (part as StoredMatrix).rows, 0) + hidden + width) + 8 * tokens * width;
    const growth = Math.max(0, results - this.results);
    this.results += growth;
    this.residents.limit = Math.min(this.size.experts, Math.max(0, this.room(this.residents.size * this.bytesPerSlot, growth)));
  }

  /** Counts how good the last forecast was, and stops the reads of experts that it got wrong. */
  private callOff(index: number, needed: readonly number[]): void {
    const { counts, forecast } = this;
    const wrong = forecast.experts.filter((e) => forecast.index !== index || !needed.includes(e));
    counts.forecast += forecast.experts.length;
    counts.foreseen += forecast.experts.length - wrong.length;
    for (const e of wrong) {
      const slot = this.residents.get(forecast.index * this.experts + e);
      if (slot?.pending === true) counts.bytesRead -= this.residents.stop(slot);
    }
    this.forecast = { index: -1, experts: [] };
  }

  /** Slots of the needed experts, with what is missing of them being read first. */
  private load(index: number, needed: readonly number[]): Slot[] {
    const known = needed.map((e) => this.residents.get(index * this.experts + e));
    for (const slot of known) if (slot !== undefined) slot.lastUse = this.uses; // before `assign` looks for slots to take: these are not to be taken
    let [hits, ahead] = [0, 0];
    const slots = needed.map((e, i) => {
      const slot = known[i] ?? (this.residents.assign(index * this.experts + e, this.uses) as Slot);
      if (slot.whole && slot.ahead) ahead++;
      else if (slot.whole) hits++;
      slot.ahead = false;
      this.counts.bytesRead += slot.fetch(true);
      return slot;
    });
    this.count(hits, ahead, needed.length - hits - ahead);
    return slots;
  }

  /** Begins to read what the layer `index` is likely to need. */
  private readAhead(index: number, likely: Tensor): void {
    const experts: number[] = [];
    this.forecast = { index, experts };
    for (const e of likeliest(this.engine.read(likely), likely.cols)) {
      const expert = index * this.experts + e;
      const slot = this.residents.get(expert) ?? this.residents.assign(expert, this.uses);
      if (slot === undefined) break;
      slot.lastUse = this.uses;
      if (slot.whole) continue;
      slot.ahead = true;
      experts.push(e);
      this.counts.bytesRead += slot.fetch(false);
    }
    if (experts.length > 0) this.residents.late.stopAt(index);
  }

  [Symbol.dispose](): void {
    this.residents[Symbol.dispose]();
  }
}

const betterHalf = (choices: number): number => Math.ceil(choices / 2);

/**
 * Of tokens' choices [T, K] the better half, those of most tokens first, then those that stand first: of the last ones of a forecast that are not in
 * memory, a quarter come true.
 */
function likeliest(choices: ArrayLike<number>, k: number): number[] {
  const tokens = new Map<number, number>();
  for (let i = 0; i < choices.length; i++) {
    const e = choices[i] as number;
    if (e >= 0 && i % k < betterHalf(k)) tokens.set(e, (tokens.get(e) ?? 0) + 1);
  }
  return [...tokens].sort(([, a], [, b]) => b - a).map(([e]) => e);
}
