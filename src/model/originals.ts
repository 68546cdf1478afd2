import type { GgufMetadata, GgufValue } from "../formats/gguf/metadata.js";
import { sizeOf } from "../tensor/tensor.js";
import type { Elements, Piece } from "./families/names.js";
import type { PublishedTensor } from "./published.js";
import { joined } from "./stored.js";

/**
 * Metadata of a tensor whose elements are a function of ours (1 + w, -exp(w)), where rounding them to f32 lost what ours were: f32 [elements, in the
 * tensor's order]. Other programs pass over such keys.
 */
const keyOf = (tensor: string): string => `switchyard.original.${tensor}`;

/** Of all of them: readers bound what stands before the tensors. */
const maxBytes = 2 ** 24;

/** What a file keeps for these tensors, as far as there is room. */
export function originals(tensors: readonly PublishedTensor[]): [string, GgufValue][] {
  let room = maxBytes;
  return tensors.flatMap(({ name, sources, rows }): [string, GgufValue][] => {
    const { elements } = sources[0].piece;
    if (elements === undefined) return [];
    const ours = joined([...rows()].map(({ values }) => values));
    const back = ours.map(elements.fromOurs).map(elements.toOurs);
    const isLost = !Buffer.from(ours.buffer).equals(Buffer.from(back.buffer));
    return isLost && (room -= ours.byteLength) >= 0 ? [[keyOf(name), { type: "array", of: "f32", value: ours }]] : [];
  });
}

/**
 * From a tensor's elements to ours: for each of those that the file keeps, if it is what the tensor has, rounded. So a file may only say what
 * rounding lost, and one whose tensors were changed since is read as it is. Throws ERR_SWITCHYARD_FORMAT for a list of another length or type.
 */
export function fromOriginals(metadata: GgufMetadata, { name, shape, elements }: Piece): ((stored: Iterable<Float32Array>) => Iterable<Float32Array>) | undefined {
  const kept = elements && metadata.floats(keyOf(name), sizeOf(shape));
  return kept && ((stored) => restore(stored, kept, elements));
}

function* restore(stored: Iterable<Float32Array>, kept: Float32Array, { fromOurs, toOurs }: Elements): Generator<Float32Array> {
  let first = 0;
  for (const values of stored) {
    const ours = kept.subarray(first, first + values.length);
    yield values.map((x, i) => (Math.fround(fromOurs(ours[i] as number)) === x ? (ours[i] as number) : toOurs(x)));
    first += values.length;
  }
}
