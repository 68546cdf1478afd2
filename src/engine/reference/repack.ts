import { type StoredDType, byteLength } from "../../tensor/dtype.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { LooseRows } from "../repacking.js";

const bytesOf = (t: Tensor): Uint8Array => t.storage as Uint8Array;

export function repack(out: Tensor, x: LooseRows): void {
  const bytes = bytesOf(out);
  const perRow = byteLength(out.dtype, out.cols);
  for (let r = 0; r < x.rows; r++) {
    const place = x.places === undefined ? r : ((x.places.storage as Int32Array)[r] as number);
    if (place >= 0) bytes.set(row(out.dtype as StoredDType, out.cols, x, r), place * perRow);
  }
}

function row(dtype: StoredDType, cols: number, x: LooseRows, r: number): Uint8Array {
  const elements = bytesOf(x.elements);
  if (dtype === "f16" || dtype === "bf16") return Uint8Array.from({ length: 2 * cols }, (_, i) => elements[2 * ((i >> 1) * x.rows + r) + (i & 1)] as number);
  const scales = bytesOf(x.scales as Tensor);
  if (dtype === "mxfp4") {
    const nibble = (i: number) => ((elements[(r * cols + i) >> 1] as number) >> (4 * (i & 1))) & 15;
    return Uint8Array.from({ length: (17 * cols) / 32 }, (_, i) => {
      const [block, within] = [Math.floor(i / 17), (i % 17) - 1];
      if (within < 0) return scales[(r * cols) / 32 + block] as number;
      return nibble(32 * block + within) | (nibble(32 * block + 16 + within) << 4);
    });
  }
  const [height, width] = x.block as [number, number];
  const size = x.scaleType === "bf16" ? 2 : 4;
  return Uint8Array.from({ length: byteLength(dtype, cols) }, (_, i) => {
    const [block, within] = [Math.floor(i / 132), (i % 132) - 4];
    if (within >= 0) return elements[r * cols + 128 * block + within] as number;
    // The two bytes of a bfloat16 are the upper ones of its f32.
    const scale = Math.floor(r / height) * Math.ceil(cols / width) + Math.floor((128 * block) / width);
    const byte = within + size;
    return byte < 0 ? 0 : (scales[scale * size + byte] as number);
  });
}
