import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { check, SwitchyardError } from "../../errors.js";
import { typedArray, type TypedArray } from "../../tensor/dtype.js";
import { f32ToF16 } from "../../tensor/half.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { FileReads, Memory, Region } from "../engine.js";
import { EngineRegion } from "../region.js";

const GiB = 2 ** 30;

/** A region inside one ArrayBuffer of V8. */
const bufferRegion = (buffer: ArrayBuffer, release?: () => void): Region => new EngineRegion(buffer.byteLength, (dtype, size, at) => typedArray(dtype, size, buffer, at), release);

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
    return bufferRegion(buffer, () => {
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
      return bufferRegion(buffer);
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
