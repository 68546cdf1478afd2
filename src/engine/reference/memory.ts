import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { check, SwitchyardError } from "../../errors.js";
import { byteLength, type DType, isStored, type TypedArray } from "../../tensor/dtype.js";
import { f32ToF16 } from "../../tensor/half.js";
import { isWholeBlocks, sizeOf, Tensor } from "../../tensor/tensor.js";
import type { FileReads, Memory, Region } from "../engine.js";

const GiB = 2 ** 30;

/** A region inside one ArrayBuffer of V8. */
class BufferRegion implements Region {
  constructor(
    private buffer: ArrayBuffer | undefined,
    readonly bytes: number,
    private readonly onFree: () => void,
  ) {}

  tensor(dtype: DType, shape: readonly number[], byteOffset: number): Tensor {
    const { buffer } = this;
    check(buffer !== undefined, "ERR_SWITCHYARD_ENGINE", () => "tensor: the region has been freed");
    const size = sizeOf(shape);
    const alignment = isStored(dtype) ? 1 : byteLength(dtype, 1);
    check(isWholeBlocks(dtype, shape), "ERR_SWITCHYARD_SHAPE", () => `tensor: a row of ${dtype}[${shape.join(", ")}] is not a whole number of blocks`);
    check(
      byteOffset >= 0 && byteOffset % alignment === 0 && byteOffset + byteLength(dtype, size) <= this.bytes,
      "ERR_SWITCHYARD_ENGINE",
      () => `tensor: ${dtype}[${shape.join(", ")}] at byte ${byteOffset} needs a multiple of ${alignment} within ${this.bytes} bytes`,
    );
    return new Tensor(dtype, shape, elements(dtype, buffer, byteOffset, size));
  }

  free(): void {
    if (this.buffer === undefined) return;
    this.buffer = undefined;
    this.onFree();
  }
}

function elements(dtype: DType, buffer: ArrayBuffer, byteOffset: number, size: number): TypedArray {
  switch (dtype) {
    case "f32":
      return new Float32Array(buffer, byteOffset, size);
    case "f64":
      return new Float64Array(buffer, byteOffset, size);
    case "i32":
      return new Int32Array(buffer, byteOffset, size);
    default:
      return new Uint8Array(buffer, byteOffset, byteLength(dtype, size));
  }
}

function array(t: Tensor): TypedArray {
  const { storage } = t;
  check(typeof storage !== "number", "ERR_SWITCHYARD_ENGINE", () => `reference engine: ${t} lives in another engine's memory`);
  return storage;
}

function withIoErrors<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    throw new SwitchyardError("ERR_SWITCHYARD_IO", `openFile: cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

export class ReferenceMemory implements Memory {
  allocatedBytes = 0;

  allocate(bytes: number): Region {
    const buffer = this.buffer(bytes);
    this.allocatedBytes += bytes;
    return new BufferRegion(buffer, bytes, () => {
      this.allocatedBytes -= bytes;
    });
  }

  /** Reads the whole file in: this engine is the fallback, and V8 cannot map files. */
  mapFile(path: string): Region {
    let file: number | undefined;
    try {
      file = openSync(path, "r");
      const bytes = fstatSync(file).size;
      check(
        bytes <= 4 * GiB,
        "ERR_SWITCHYARD_MEMORY",
        () => `mapFile: ${path} has ${bytes} bytes; the reference engine reads files of at most 4 GiB: build the native engine`,
      );
      const buffer = this.buffer(bytes);
      for (let at = 0; at < bytes; ) {
        const read = readSync(file, new Uint8Array(buffer, at, Math.min(GiB, bytes - at)), { position: at });
        check(read > 0, "ERR_SWITCHYARD_IO", () => `mapFile: ${path} ended at byte ${at} of ${bytes}: it was cut while being read`);
        at += read;
      }
      return new BufferRegion(buffer, bytes, () => {});
    } catch (cause) {
      if (cause instanceof SwitchyardError) throw cause;
      throw new SwitchyardError("ERR_SWITCHYARD_IO", `mapFile: cannot read ${path}: ${(cause as Error).message}`, { cause });
    } finally {
      if (file !== undefined) closeSync(file);
    }
  }

  /** Each read runs when it is started. */
  openFile(path: string): FileReads {
    const file = withIoErrors(path, () => openSync(path, "r"));
    return {
      start: (out, begin) => {
        const { buffer, byteOffset } = array(out);
        const bytes = withIoErrors(path, () => readSync(file, new Uint8Array(buffer, byteOffset, out.bytes), { position: begin }));
        check(bytes === out.bytes, "ERR_SWITCHYARD_IO", () => `read: ${path} was cut short while it was in use; restore the file and load the model again`);
        return 1;
      },
      hurry: () => {},
      stop: () => 0,
      finish: () => {},
      close: () => closeSync(file),
    };
  }

  read(t: Tensor): TypedArray {
    return array(t).slice();
  }

  write(t: Tensor, values: ArrayLike<number>): void {
    const target = array(t);
    check(values.length === target.length, "ERR_SWITCHYARD_SHAPE", () => `write: expected ${target.length} values for ${t}, got ${values.length}`);
    target.set(values);
  }

  copy(out: Tensor, x: Tensor): void {
    const values = array(x);
    if (out.dtype === "f16" && out.size === x.size && (values instanceof Float32Array || values instanceof Float64Array)) return array(out).set(new Uint8Array(f32ToF16(values).buffer));
    check(out.size === x.size && out.dtype === x.dtype, "ERR_SWITCHYARD_SHAPE", () => `copy: cannot copy ${x} to ${out}`);
    array(out).set(values);
  }

  together<R>(compute: () => R): R {
    return compute();
  }

  /** Its files are copies in memory. */
  advise(): void {}

  fill(out: Tensor, value: number): void {
    array(out).fill(value);
  }

  private buffer(bytes: number): ArrayBuffer {
    try {
      return new ArrayBuffer(bytes);
    } catch (cause) {
      const message = `allocate: V8 refused an array of ${bytes} bytes; use a smaller model or batch, or build the native engine`;
      throw new SwitchyardError("ERR_SWITCHYARD_MEMORY", message, { cause });
    }
  }
}
