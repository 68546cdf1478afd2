/** The few Protocol Buffers encodings that TensorBoard's event files need; each function writes one field. */

const utf8 = new TextEncoder();

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}

/** An integer from 0 to 2^53 - 1 (int32, int64, enum). */
export function varint(field: number, value: number): Uint8Array {
  return Uint8Array.from([...key(field, 0), ...base128(value)]);
}

export function double(field: number, value: number): Uint8Array {
  const out = new Uint8Array(9);
  out[0] = key(field, 1)[0]!;
  new DataView(out.buffer).setFloat64(1, value, true);
  return out;
}

/** A 32-bit float. */
export function fixedFloat(field: number, value: number): Uint8Array {
  const out = new Uint8Array(5);
  out[0] = key(field, 5)[0]!;
  new DataView(out.buffer).setFloat32(1, value, true);
  return out;
}

/** Bytes, or a nested message. */
export function bytes(field: number, value: Uint8Array): Uint8Array {
  return concat([Uint8Array.from([...key(field, 2), ...base128(value.length)]), value]);
}

export function string(field: number, value: string): Uint8Array {
  return bytes(field, utf8.encode(value));
}

/** A packed repeated double. */
export function doubles(field: number, values: readonly number[]): Uint8Array {
  const out = new DataView(new ArrayBuffer(values.length * 8));
  values.forEach((value, i) => out.setFloat64(i * 8, value, true));
  return bytes(field, new Uint8Array(out.buffer));
}

/** Field number (below 16) and wire type: one byte. */
const key = (field: number, wireType: number): number[] => [field * 8 + wireType];

function base128(value: number): number[] {
  const out: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) out.push((value % 128) + 128);
  return [...out, value];
}
