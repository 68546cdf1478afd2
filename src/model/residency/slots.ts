import type { Engine, FileReads, Region } from "../../engine/engine.js";
import { byteLength, type DType } from "../../tensor/dtype.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { StoredMatrix } from "../mapped.js";
import type { Repacker } from "./repacker.js";

/** Reads that bypass the page cache are of whole pages. */
const pageBytes = 4096;
/** Slots are allocated and given back in blocks of about this size, so that they lie in huge pages. */
const blockBytes = 32 * 2 ** 20;

/** Bytes of a file that go into an expert's slot. */
interface Part {
  /** Where they begin in the file. */
  begin: number;
  tensor: Tensor;
  file: FileReads;
  /** Number of the read that brings them; -1 before it begins, 0 when they are there. */
  read: number;
  /** That read was stopped, so that some bytes will be missing when it ends. */
  stopped: boolean;
}

/** Where a slot's bytes come from. */
export interface Filling {
  file(path: string): FileReads;
  repack: Repacker["repack"];
}

/** Room for any one expert of a model. */
export class Slot {
  /** Number of the expert that is in it or being read into it; -1 for none. */
  expert = -1;
  /** Number of the cache's use that needed it last. */
  lastUse = -1;
  /** It was filled because of a forecast, and has not been needed yet. */
  ahead = false;
  /** Its matrices, in the order of `assign`. */
  tensors: readonly Tensor[] = [];
  private parts: Part[] = [];
  /** What is to be called once all parts are there. */
  private repack: (() => void)[] = [];

  constructor(
    private readonly region: Region,
    private readonly begin: number,
  ) {}

  /** Gives the slot to another expert. */
  assign(expert: number, matrices: readonly StoredMatrix[], filling: Filling): void {
    this.expert = expert;
    this.parts = [];
    this.repack = [];
    let at = this.begin;
    this.tensors = matrices.map((matrix) => {
      const { dtype, rows, cols, loose } = matrix;
      const start = at;
      at += pagesOf(matrix);
      const part = ({ file, begin }: { file: string; begin: number }, page: number, type: DType, shape: readonly number[]): Tensor => {
        const tensor = this.region.tensor(type, shape, page + (begin % pageBytes));
        this.parts.push({ begin, tensor, file: filling.file(file), read: -1, stopped: false });
        return tensor;
      };
      if (loose === undefined) return part(matrix, start, dtype, [rows, cols]);
      const elements = part(loose.elements, start, "u8", [loose.elements.bytes]);
      const scales = loose.scales && part(loose.scales, start + pages(loose.elements), "u8", [loose.scales.bytes]);
      const tensor = this.region.tensor(dtype, [rows, cols], start);
      this.repack.push(() => filling.repack(tensor, matrix, elements, scales));
      return tensor;
    });
  }

  /** Whether every part is there or being read. */
  get whole(): boolean {
    return this.parts.every(({ read }) => read >= 0);
  }

  /** Whether all of it is there. */
  get complete(): boolean {
    return this.parts.length > 0 && this.parts.every(({ read }) => read === 0);
  }

  /** Whether it takes no more than its reads to have all of it. */
  get coming(): boolean {
    return this.pending && this.whole && this.repack.length === 0;
  }

  /** Whether any part is still being read. */
  get pending(): boolean {
    return this.parts.some(({ read }) => read > 0);
  }

  /** Starts reading what is missing, and returns its bytes. */
  fetch(urgent: boolean): number {
    let bytes = 0;
    for (const part of this.parts) {
      if (part.read > 0 && urgent) part.file.hurry(part.read);
      if (part.read >= 0) continue;
      part.read = part.file.start(part.tensor, part.begin, urgent);
      bytes += part.tensor.bytes;
    }
    return bytes;
  }

  /** Reads no more than has begun, and returns the bytes that will be missing. */
  stop(): number {
    let bytes = 0;
    for (const part of this.parts) {
      if (part.read <= 0) continue;
      const left = part.file.stop(part.read);
      part.stopped = left > 0;
      bytes += left;
    }
    return bytes;
  }

  /** Waits for its reads, and repacks what needs it. Throws ERR_SWITCHYARD_IO. */
  finish(): void {
    for (const part of this.parts) {
      const { read } = part;
      if (read <= 0) continue;
      part.read = -1;
      part.file.finish(read);
      part.read = part.stopped ? -1 : 0;
      part.stopped = false;
    }
    if (this.parts.some(({ read }) => read < 0)) return;
    for (const repack of this.repack) repack();
    this.repack = [];
  }

  /** Empties it, whatever its reads come to. */
  clear(): void {
    this.stop();
    while (this.pending) {
      try {
        this.finish();
      } catch {
        // What it would have held is not wanted.
      }
    }
    this.parts = [];
    this.repack = [];
    this.expert = -1;
  }
}

const pages = ({ begin, bytes }: { begin: number; bytes: number }): number => Math.ceil(((begin % pageBytes) + bytes) / pageBytes) * pageBytes;

/** Room for a matrix as it is read, and as products take it. */
function pagesOf({ dtype, begin, rows, cols, loose }: StoredMatrix): number {
  const bytes = byteLength(dtype, rows * cols);
  if (loose === undefined) return pages({ begin, bytes });
  return Math.max(pages(loose.elements) + (loose.scales === undefined ? 0 : pages(loose.scales)), pages({ begin: 0, bytes }));
}

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
