import type { Engine, FileReads } from "../../engine/engine.js";
import { check } from "../../errors.js";
import type { ExpertParameters } from "../../moe/experts.js";
import type { StoredMatrix } from "../mapped.js";
import { emptyCounts } from "./counts.js";
import { Popularity } from "./popularity.js";
import { Repacker } from "./repacker.js";
import type { Room } from "./room.js";
import { type Filling, type Slot, SlotMemory } from "./slots.js";
import { expertBytes, type StoredExperts } from "./stored-experts.js";

/** Which experts of a layer the tokens at hand are likely to choose, the likeliest first. Asked about the layer after the one in use. */
type Forecast = (layer: number) => readonly number[];

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
  readonly counts = emptyCounts();
  /** Bytes of a slot: of the largest expert, in whole pages. */
  readonly bytesPerSlot: number;
  private readonly experts: number;
  private readonly files = new Map<string, FileReads>();
  private readonly memory: SlotMemory;
  private readonly repacker: Repacker;
  private readonly filling: Filling;
  private readonly popularity: Popularity;
  private slots: Slot[] = [];
  /** Which slot an expert has, by the expert's number: index of the layer * experts of a layer + e. */
  private readonly resident = new Map<number, Slot>();
  /** Slots that there is room for. */
  private capacity = 0;
  /** Calls of `use`, each of which marks the slots that it needs with its number. */
  private uses = 0;
  /** Index of the layer used last: a smaller or equal one begins a new forward pass. */
  private last = Infinity;
  /** Bytes of the largest results of a layer's products so far, which the process's memory already includes. */
  private results = 0;
  /** Experts that were read ahead, and the index of their layer. */
  private forecast: { index: number; experts: readonly number[] } = { index: -1, experts: [] };
  /** Slots whose reads were stopped, and may not have ended. */
  private readonly stopped: Slot[] = [];
  /** Experts per use that were not in memory when they were needed, whether read ahead or not: a moving average. */
  private missing = 1;

  constructor(
    private readonly engine: Engine,
    readonly layers: readonly StoredExperts[],
    private readonly room: Room,
  ) {
    this.experts = layers[0]?.down.length ?? 0;
    this.bytesPerSlot = expertBytes(layers);
    this.memory = new SlotMemory(engine, this.bytesPerSlot);
    this.repacker = new Repacker(engine);
    this.filling = { file: (path) => this.file(path), repack: (...matrix) => this.repacker.repack(...matrix) };
    this.popularity = new Popularity(layers.length * this.experts, halfLife);
  }

  /** Experts that there is room for, and all of them. */
  get size(): { slots: number; experts: number } {
    return { slots: this.capacity, experts: this.layers.length * this.experts };
  }

  /**
   * The experts of a layer, of which those with rows in `load` are in memory until the next call; the others must not be used. Throws
   * ERR_SWITCHYARD_MEMORY where there is no room for them, ERR_SWITCHYARD_IO.
   */
  use(layer: number, load: Int32Array, tokens: number, forecast: Forecast): ExpertParameters {
    const index = this.layers.findIndex((stored) => stored.layer === layer);
    if (index <= this.last) this.counts.tokens += tokens;
    if (index <= this.last || tokens > 1) this.fit(this.layers[index] as StoredExperts, load);
    this.last = index;
    this.uses++;
    const chosen = [...load.keys()].filter((e) => (load[e] as number) > 0);
    const needed = chosen.length > 0 ? chosen : [0];
    check(
      needed.length <= this.capacity,
      "ERR_SWITCHYARD_MEMORY",
      () => `memory: layer ${layer} needs ${needed.length} experts at a time, and the budget has room for ${this.capacity} beside the cache and the activations; give more memory, or run fewer tokens`,
    );
    for (const slot of this.stopped.splice(0)) slot.finish();
    const slots = this.load(index, needed);
    this.callOff(index, needed);
    for (const e of chosen) this.popularity.use(index * this.experts + e, this.counts.tokens, load[e], tokens);
    this.readAhead(index + 1, forecast);
    for (const slot of slots.values()) slot.finish();
    return this.parameters(index, slots, needed[0] as number);
  }

  /** Gives back the slots that there is no room for beside the results of this layer's products; what these need beyond the largest so far is still to be allocated. */
  private fit({ up, down }: StoredExperts, load: Int32Array): void {
    const [{ rows: width, cols: hidden }] = down as [StoredMatrix];
    const results = 4 * load.reduce((sum, n) => sum + n, 0) * (up.reduce((sum, [part]) => sum + (part as StoredMatrix).rows, 0) + hidden + width);
    const growth = Math.max(0, results - this.results);
    this.results += growth;
    this.capacity = Math.min(this.size.experts, Math.max(0, this.room(this.resident.size * this.bytesPerSlot, growth)));
    while (this.slots.length > this.capacity) {
      const gone = new Set(this.memory.shrink());
      for (const [expert, slot] of this.resident) if (gone.has(slot)) this.resident.delete(expert);
      this.slots = this.memory.slots;
    }
  }

  /** Counts how good the last forecast was, and stops the reads of experts that it got wrong. */
  private callOff(index: number, needed: readonly number[]): void {
    const { counts, forecast } = this;
    const wrong = forecast.experts.filter((e) => forecast.index !== index || !needed.includes(e));
    counts.forecast += forecast.experts.length;
    counts.foreseen += forecast.experts.length - wrong.length;
    for (const e of wrong) {
      const slot = this.resident.get(forecast.index * this.experts + e);
      if (slot?.pending !== true) continue;
      counts.bytesRead -= slot.stop();
      this.stopped.push(slot);
    }
    this.forecast = { index: -1, experts: [] };
  }

  /** Slots of the needed experts, with what is missing of them being read first. */
  private load(index: number, needed: readonly number[]): Map<number, Slot> {
    const { counts, uses } = this;
    const slots = new Map<number, Slot>();
    for (const e of needed) {
      const slot = this.resident.get(index * this.experts + e);
      if (slot === undefined) continue;
      slot.lastUse = uses; // before `assign` looks for slots to take: these are not to be taken
      slots.set(e, slot);
    }
    let there = 0;
    for (const e of needed) {
      const known = slots.get(e);
      const slot = known ?? (this.assign(index, e) as Slot);
      if (known?.whole === true && known.ahead) counts.ahead++;
      else if (known?.whole === true) there++;
      slot.ahead = false;
      counts.bytesRead += slot.fetch(true);
      slots.set(e, slot);
    }
    counts.needed += needed.length;
    counts.hits += there;
    this.missing += newestUse * (needed.length - there - this.missing);
    return slots;
  }

  /** Begins to read what the layer `index` is likely to need. */
  private readAhead(index: number, forecast: Forecast): void {
    const next = this.layers[index];
    if (next === undefined || this.missing < fewMissing) return;
    this.forecast = { index, experts: forecast(next.layer) };
    for (const e of this.forecast.experts) {
      const slot = this.resident.get(index * this.experts + e) ?? this.assign(index, e);
      if (slot === undefined) return;
      slot.lastUse = this.uses;
      if (!slot.whole) slot.ahead = true;
      this.counts.bytesRead += slot.fetch(false);
    }
  }

  /** Gives an expert a free slot, or a victim's; undefined if there is neither. */
  private assign(index: number, e: number): Slot | undefined {
    const slot = this.free() ?? this.victim();
    if (slot === undefined) return undefined;
    this.resident.delete(slot.expert);
    slot.clear();
    const { up, down } = this.layers[index] as StoredExperts;
    const expert = index * this.experts + e;
    slot.assign(expert, [...up, down].map((part) => part[e] as StoredMatrix), this.filling);
    slot.lastUse = this.uses;
    this.resident.set(expert, slot);
    return slot;
  }

  /** An empty slot, if there is one or room for one. */
  private free(): Slot | undefined {
    if (this.resident.size === this.slots.length && this.slots.length < this.capacity) {
      this.memory.grow(this.capacity - this.slots.length);
      this.slots = this.memory.slots;
    }
    return this.resident.size < this.slots.length ? this.slots.find(({ expert }) => expert < 0) : undefined;
  }

  /** The slot of the least popular expert that this use does not need; one that is being read only if all are, since those reads would have to be waited for. */
  private victim(): Slot | undefined {
    let [least, rank]: [Slot | undefined, number] = [undefined, Infinity];
    for (const slot of this.slots) {
      if (slot.lastUse === this.uses) continue;
      const own = this.popularity.rank(slot.expert);
      if (least === undefined || (own < rank && !slot.pending)) [least, rank] = [slot, slot.pending ? Infinity : own];
    }
    return least;
  }

  private file(path: string): FileReads {
    let file = this.files.get(path);
    if (file === undefined) this.files.set(path, (file = this.engine.openFile(path)));
    return file;
  }

  /** Products take a matrix of every expert but read only those that have rows, so that experts which are not in memory get the matrices of `other`. */
  private parameters(index: number, slots: ReadonlyMap<number, Slot>, other: number): ExpertParameters {
    const tensors = Array.from({ length: this.experts }, (_, e) => (slots.get(e) ?? (slots.get(other) as Slot)).tensors);
    const part = (i: number) => tensors.map((list) => list[i] as (typeof list)[number]);
    const ups = this.layers[index]?.up.length as number;
    return { up: part(0), beside: ups > 1 ? part(1) : undefined, down: part(ups) };
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
    this.repacker[Symbol.dispose]();
    for (const file of this.files.values()) file.close();
    this.files.clear();
  }
}
