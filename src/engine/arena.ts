import { byteLength, type DType } from "../tensor/dtype.js";
import { sizeOf, type Tensor } from "../tensor/tensor.js";
import type { Memory, Region } from "./engine.js";

/** Alignment of every tensor, a cache line. */
const alignment = 64;

interface Block {
  region: Region;
  offset: number;
  bytes: number;
}

/**
 * Bump allocation in large regions, freed whole by `reset`. Blocks released earlier are handed out again
 * for requests of the same size, which is all the reuse that a stack of equal layers needs.
 */
export class Arena {
  private readonly regions: Region[] = [];
  private current = 0;
  private used = 0;
  private blocks = new Map<Tensor, Block>();
  private free = new Map<number, Block[]>();

  /** Regions are reserved address space: pages cost memory only once touched. */
  constructor(
    private readonly engine: Memory,
    private readonly regionBytes = 256 * 2 ** 20,
  ) {}

  /** An uninitialised tensor. Throws ERR_SWITCHYARD_MEMORY. */
  alloc(dtype: DType, shape: readonly number[]): Tensor {
    const bytes = Math.max(alignment, Math.ceil(byteLength(dtype, sizeOf(shape)) / alignment) * alignment);
    const block = this.free.get(bytes)?.pop() ?? this.bump(bytes);
    const tensor = block.region.tensor(dtype, shape, block.offset);
    this.blocks.set(tensor, block);
    return tensor;
  }

  /** Lets later allocations reuse the memory of `t`; ignores tensors that this arena did not allocate (views). */
  release(t: Tensor): void {
    const block = this.blocks.get(t);
    if (block === undefined) return;
    this.blocks.delete(t);
    const list = this.free.get(block.bytes);
    if (list === undefined) this.free.set(block.bytes, [block]);
    else list.push(block);
  }

  /** Forgets every tensor but keeps the memory. */
  reset(): void {
    // Not `clear`: V8 links a cleared table to its successor, so that one which has grown old keeps all later ones from dying young.
    this.blocks = new Map();
    this.free = new Map();
    this.current = 0;
    this.used = 0;
  }

  [Symbol.dispose](): void {
    this.reset();
    for (const region of this.regions.splice(0)) region.free();
  }

  private bump(bytes: number): Block {
    while (this.current < this.regions.length && this.used + bytes > (this.regions[this.current] as Region).bytes) {
      this.current++;
      this.used = 0;
    }
    if (this.current === this.regions.length) this.regions.push(this.engine.allocate(Math.max(bytes, this.regionBytes)));
    const block = { region: this.regions[this.current] as Region, offset: this.used, bytes };
    this.used += bytes;
    return block;
  }
}
