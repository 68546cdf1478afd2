import type { FileReads } from "../../engine/engine.js";
import type { NativeEngine } from "../../engine/native.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { StoredMatrix } from "../mapped.js";
import { LateExperts } from "./late-experts.js";
import { Repacker } from "./repacker.js";
import { type Filling, type Slot, SlotMemory } from "./slots.js";
import { expertBytes, type StoredExperts } from "./stored-experts.js";

/** Which experts are in which slots, and what products know of them. Experts are numbered through all layers: index of the layer * experts of a layer + e. */
export class Residents {
  /** Bytes of a slot: of the largest expert, in whole pages. */
  readonly bytesPerSlot: number;
  readonly late: LateExperts;
  /** Slots that there is room for. */
  private capacity = 0;
  private readonly experts: number;
  private readonly files = new Map<string, FileReads>();
  private readonly memory: SlotMemory;
  private readonly repacker: Repacker;
  private readonly filling: Filling;
  private slots: Slot[] = [];
  private readonly slotOf = new Map<number, Slot>();
  /** Slots whose reads products wait for. */
  private readonly coming: Slot[] = [];
  /** Slots whose reads were stopped, and may not have ended. */
  private readonly stopped: Slot[] = [];

  /** `rank` compares experts: one that is wanted more has a larger one. */
  constructor(
    private readonly engine: NativeEngine,
    private readonly layers: readonly StoredExperts[],
    private readonly rank: (expert: number) => number,
  ) {
    this.experts = layers[0]?.down.length ?? 0;
    this.bytesPerSlot = expertBytes(layers);
    this.late = new LateExperts(engine, layers);
    this.memory = new SlotMemory(engine, this.bytesPerSlot);
    this.repacker = new Repacker(engine);
    this.filling = { file: (path) => this.file(path), repack: (...matrix) => this.repacker.repack(...matrix) };
  }

  /** Experts that have slots. */
  get size(): number {
    return this.slotOf.size;
  }

  /** Slots that there is room for; there are no more than that. */
  get limit(): number {
    return this.capacity;
  }

  set limit(slots: number) {
    this.capacity = slots;
    while (this.slots.length > slots) {
      const gone = new Set(this.memory.shrink());
      for (const [expert, slot] of this.slotOf) if (gone.has(slot)) this.forget(expert);
      this.slots = this.memory.slots;
    }
  }

  get(expert: number): Slot | undefined {
    return this.slotOf.get(expert);
  }

  /** Gives an expert a free slot, or a victim's that use number `use` does not need; undefined if there is neither. */
  assign(expert: number, use: number): Slot | undefined {
    const slot = this.free() ?? this.victim(use);
    if (slot === undefined) return undefined;
    if (slot.expert >= 0) this.forget(slot.expert);
    slot.clear();
    const e = expert % this.experts;
    const { up, down } = this.layers[Math.floor(expert / this.experts)] as StoredExperts;
    slot.assign(expert, [...up, down].map((part) => part[e] as StoredMatrix), this.filling);
    slot.lastUse = use;
    this.slotOf.set(expert, slot);
    return slot;
  }

  /** Makes a slot ready for products, which wait for its reads themselves if they can. Throws ERR_SWITCHYARD_IO. */
  ready(slot: Slot): void {
    if (!slot.coming) return this.finish(slot);
    this.place(slot.expert, slot.tensors, true);
    this.coming.push(slot);
  }

  /** Ends the reads that products have waited for. Throws ERR_SWITCHYARD_IO. */
  finishAwaited(): void {
    for (let slot = this.coming.pop(); slot !== undefined; slot = this.coming.pop()) this.finish(slot);
  }

  /** The same, and those that were stopped. */
  finishAll(): void {
    this.finishAwaited();
    for (let slot = this.stopped.pop(); slot !== undefined; slot = this.stopped.pop()) this.finish(slot);
  }

  /** Reads no more into a slot than has begun, and returns the bytes that will be missing. */
  stop(slot: Slot): number {
    this.stopped.push(slot);
    return slot.stop();
  }

  private finish(slot: Slot): void {
    if (!slot.pending) return;
    this.place(slot.expert); // nowhere, if reads fail
    slot.finish();
    if (slot.complete) this.place(slot.expert, slot.tensors);
  }

  private forget(expert: number): void {
    this.place(expert);
    this.slotOf.delete(expert);
  }

  private place(expert: number, matrices?: readonly Tensor[], coming?: boolean): void {
    this.late.place(Math.floor(expert / this.experts), expert % this.experts, matrices, coming);
  }

  /** An empty slot, if there is one or room for one. */
  private free(): Slot | undefined {
    if (this.size === this.slots.length && this.slots.length < this.capacity) {
      this.memory.grow(this.capacity - this.slots.length);
      this.slots = this.memory.slots;
    }
    return this.size < this.slots.length ? this.slots.find(({ expert }) => expert < 0) : undefined;
  }

  /** The slot of the least wanted expert; one that is being read only if all are, since those reads would have to be waited for. */
  private victim(use: number): Slot | undefined {
    let [least, rank]: [Slot | undefined, number] = [undefined, Infinity];
    for (const slot of this.slots) {
      if (slot.lastUse === use) continue;
      const own = this.rank(slot.expert);
      if (least === undefined || (own < rank && !slot.pending)) [least, rank] = [slot, slot.pending ? Infinity : own];
    }
    return least;
  }

  private file(path: string): FileReads {
    let file = this.files.get(path);
    if (file === undefined) this.files.set(path, (file = this.engine.openFile(path)));
    return file;
  }

  [Symbol.dispose](): void {
    this.late[Symbol.dispose]();
    this.memory[Symbol.dispose]();
    this.repacker[Symbol.dispose]();
    for (const file of this.files.values()) file.close();
    this.files.clear();
  }
}
