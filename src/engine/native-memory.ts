import { check } from "../errors.js";
import { show } from "../options.js";
import { type DType, isStored, storedBlocks, typedArray, type TypedArray } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import type { FileReads, LooseRows, Memory, Precision, Region, RepackingOps } from "./engine.js";
import { CommandList } from "./command-list.js";
import { settle } from "./late-updates.js";
import type { NativeAddon } from "./native-addon.js";
import { NativeReads, systemError } from "./native-reads.js";
import { EngineRegion } from "./region.js";

const arrayTag: Partial<Record<DType, string>> = { f32: "[object Float32Array]", f64: "[object Float64Array]", i32: "[object Int32Array]" };
export const fillCode: Partial<Record<DType, number>> = { f32: 0, f64: 1, i32: 2 };
/** In the order of the enumerators of native/kernels/stored.h; -1 for what no product takes. */
export const storedTypes: readonly DType[] = ["f32", ...(Object.keys(storedBlocks) as DType[])];

/** Threads that there are at most: kMaxThreads of native/core/pool.h. */
export const mostThreads = 256;

/** A tensor's address, at which no update waits any more; 0 for none. A tensor of another engine yields a typed array, which the addon refuses. */
export function address(t: Tensor | undefined): number {
  if (t === undefined) return 0;
  settle(t);
  return t.storage as number;
}

/** Memory, files, threads and speed of the native engine; its subclasses add the arithmetic. */
export class NativeMemory implements Memory, RepackingOps {
  readonly name = "native";
  readonly float = "f32";
  readonly isa: string;
  /** Index of the kernel variant, the first argument of every op that computes. */
  protected readonly variant: number;
  protected readonly addon: NativeAddon;
  private held = 0;
  protected readonly commands: CommandList;

  /** Throws ERR_SWITCHYARD_ENGINE when this machine cannot run `isa`; without it the best variant is taken. */
  constructor(
    addon: NativeAddon,
    readonly source: string,
    isa?: string,
  ) {
    this.commands = CommandList.of(addon);
    this.addon = this.commands.addon;
    const isas = addon.isas();
    this.variant = isa === undefined ? isas.findLastIndex((name) => name !== null) : isas.indexOf(isa);
    check(
      this.variant >= 0,
      "ERR_SWITCHYARD_ENGINE",
      () => `engine: kernel variant "${isa}" does not exist or this CPU cannot run it; use one of ${isas.filter((name) => name !== null).join(", ")}`,
    );
    this.isa = isas[this.variant] as string;
  }

  together<R>(compute: () => R): R {
    return this.commands.together(compute);
  }

  get threads(): number {
    return this.addon.threads(0);
  }

  set threads(n: number) {
    check(Number.isInteger(n) && n >= 1 && n <= mostThreads, "ERR_SWITCHYARD_USAGE", () => `threads: expected an integer from 1 to ${mostThreads}, got ${show(n)}`);
    this.addon.threads(n);
  }

  /** What the threads could do at most, measured anew (some 20 ms): 1e9 operations/s of independent multiply-adds; bf16 where the CPU has them. */
  peakGflops(of: Precision | "int8" = "f32"): number {
    return this.addon.peak(this.variant, 2e6, of === "int8" ? 2 : of === "bf16" ? 1 : 0) / 1e9;
  }

  /** GB/s at which the threads read `t` once, which should be much larger than the caches. */
  readBandwidth(t: Tensor): number {
    return this.addon.readBandwidth(address(t), t.bytes) / 1e9;
  }

  get allocatedBytes(): number {
    return this.held;
  }

  allocate(bytes: number): Region {
    const start = this.addon.allocate(bytes);
    check(start !== 0, "ERR_SWITCHYARD_MEMORY", () => `allocate: the system has no ${bytes} bytes left; use a smaller model, batch or context`);
    this.held += bytes;
    return new EngineRegion(bytes, (_, __, at) => start + at, () => {
      settle({ storage: start, bytes });
      this.addon.release(start);
      this.held -= bytes;
    });
  }

  mapFile(path: string): Region {
    const mapped = this.addon.mapFile(path);
    if (typeof mapped === "number") throw systemError("mapFile: cannot map", path, mapped, "it must be a readable, non-empty file");
    return new EngineRegion(mapped.bytes, (_, __, at) => mapped.address + at, () => this.addon.release(mapped.address));
  }

  openFile(path: string): FileReads {
    return new NativeReads(this.addon, path);
  }

  read(t: Tensor): TypedArray {
    const values = typedArray(t.dtype, t.size);
    this.addon.read(values, address(t));
    // What is missing of a file reads as zeros: nothing that was computed from it leaves the engine.
    check(!this.addon.fileWasCut(), "ERR_SWITCHYARD_IO", () => "read: a file of a loaded model was cut short while it was in use; dispose of the model, restore the file and load it again");
    return values;
  }

  write(t: Tensor, values: ArrayLike<number>): void {
    const count = isStored(t.dtype) ? t.bytes : t.size;
    check(values.length === count, "ERR_SWITCHYARD_SHAPE", () => `write: ${t} takes ${count} values, got ${values.length}`);
    let typed = values as TypedArray;
    if (Object.prototype.toString.call(values) !== (arrayTag[t.dtype] ?? "[object Uint8Array]")) {
      typed = typedArray(t.dtype, t.size);
      typed.set(values);
    }
    this.addon.write(address(t), typed);
  }

  copy(out: Tensor, x: Tensor): void {
    const narrows = out.dtype === "f16" && x.dtype === "f32";
    check(out.size === x.size && (narrows || out.dtype === x.dtype), "ERR_SWITCHYARD_SHAPE", () => `copy: ${x} does not fit ${out}`);
    if (narrows) this.addon.narrow(this.variant, address(out), address(x), x.size);
    else this.addon.copy(this.variant, address(out), address(x), out.bytes);
  }

  advise(t: Tensor, needed: boolean): void {
    this.addon.advise(address(t), t.bytes, Number(needed));
  }

  fill(out: Tensor, value: number): void {
    const code = fillCode[out.dtype];
    check(code !== undefined, "ERR_SWITCHYARD_DTYPE", () => `fill: expected f32, f64 or i32, got ${out}`);
    this.addon.fill(this.variant, address(out), out.size, value, code);
  }

  repack(out: Tensor, { rows, elements, scales, block = [0, 0], scaleType = "f32", places }: LooseRows): void {
    this.addon.repack(address(out), storedTypes.indexOf(out.dtype), out.rows, address(elements), address(scales), rows, out.cols, address(places), storedTypes.indexOf(scaleType), ...block);
  }
}
