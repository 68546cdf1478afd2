import type { Engine, FileReads, Region } from "../../engine/engine.js";
import { byteLength } from "../../tensor/dtype.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { StoredMatrix } from "../mapped.js";

/** What a read moves at least: reads past the page cache are of whole pages. */
const pageBytes = 4096;
/** Slots are allocated, and given back, so much at a time: whole huge pages. */
const blockBytes = 32 * 2 ** 20;

/** Where a matrix stands in an expert's slot, and what has become of it: -1 to be read, 0 there, else the number of the read that brings it. */
interface Part {
  matrix: StoredMatrix;
  tensor: Tensor;
  file: FileReads;
  read: number;
}

/** Room for any one expert of a model. */
export class Slot {
  /** What is in it, or on its way; -1 for nothing. */
  expert = -1;
  /** The use of the cache that it was last needed in. */
  lastUse = -1;
  /** It was filled for a use that has not come yet. */
  ahead = false;
  /** Its matrices, in the order of `assign`. */
  tensors: readonly Tensor[] = [];
  private parts: Part[] = [];

  constructor(
    private readonly region: Region,
    private readonly begin: number,
  ) {}

  /** Gives the slot to another expert. */
  assign(expert: number, matrices: readonly { matrix: StoredMatrix; file: FileReads }[]): void {
    this.expert = expert;
    let at = this.begin;
    this.parts = matrices.map(({ matrix, file }) => {
      const tensor = this.region.tensor(matrix.dtype, [matrix.rows, matrix.cols], at + (matrix.begin % pageBytes));
      at += pagesOf(matrix);
      return { matrix, tensor, file, read: -1 };
    });
    this.tensors = this.parts.map(({ tensor }) => tensor);
  }

  /** Whether all of it is there or on its way. */
  get whole(): boolean {
    return this.parts.every(({ read }) => read >= 0);
  }

  /** Whether reads into it have not ended. */
  get pending(): boolean {
    return this.parts.some(({ read }) => read > 0);
  }

  /** Starts reading what is missing, and returns its bytes. */
  fetch(urgent: boolean): number {
    let bytes = 0;
    for (const part of this.parts) {
      if (part.read > 0 && urgent) part.file.hurry(part.read);
      if (part.read >= 0) continue;
      part.read = part.file.start(part.tensor, part.matrix.begin, urgent);
      bytes += part.tensor.bytes;
    }
    return bytes;
  }

  /** Calls off the reads that have not begun, and returns their bytes. */
  cancel(): number {
    let bytes = 0;
    for (const part of this.parts) {
      if (part.read <= 0 || !part.file.cancel(part.read)) continue;
      part.read = -1;
      bytes += part.tensor.bytes;
    }
    return bytes;
  }

  /** Waits for its reads. Throws ERR_SWITCHYARD_IO. */
  finish(): void {
    for (const part of this.parts) {
      const { read } = part;
      if (read <= 0) continue;
      part.read = -1;
      part.file.finish(read);
      part.read = 0;
    }
  }

  /** Empties it, whatever its reads come to. */
  clear(): void {
    this.cancel();
    while (this.pending) {
      try {
        this.finish();
      } catch {
        // What it would have held is not wanted.
      }
    }
    this.parts = [];
    this.expert = -1;
  }
}

const pagesOf = ({ dtype, begin, rows, cols }: StoredMatrix): number => Math.ceil(((begin % pageBytes) + byteLength(dtype, rows * cols)) / pageBytes) * pageBytes;

/** Bytes of a slot for these matrices. */
export const slotBytes = (matrices: readonly StoredMatrix[]): number => matrices.reduce((sum, matrix) => sum + pagesOf(matrix), 0);

/** Memory for slots of one size, a block of them at a time. */
export class SlotMemory {
  private readonly blocks: { region: Region; slots: Slot[] }[] = [];

  constructor(
    private readonly engine: Engine,
    readonly bytesEach: number,
  ) {}

  get slots(): Slot[] {
    return this.blocks.flatMap(({ slots }) => slots);
  }

  /** Up to `most` slots more. Throws ERR_SWITCHYARD_MEMORY. */
  grow(most: number): void {
    const count = Math.min(most, Math.max(1, Math.floor(blockBytes / this.bytesEach)));
    const region = this.engine.allocate(count * this.bytesEach);
    this.blocks.push({ region, slots: Array.from({ length: count }, (_, i) => new Slot(region, i * this.bytesEach)) });
  }

  /** Gives back the block that was allocated last, and returns its slots, emptied. */
  shrink(): Slot[] {
    const block = this.blocks.pop();
    for (const slot of block?.slots ?? []) slot.clear();
    block?.region.free();
    return block?.slots ?? [];
  }

  [Symbol.dispose](): void {
    while (this.blocks.length > 0) this.shrink();
  }
}
