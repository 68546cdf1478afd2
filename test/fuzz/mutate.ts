import type { Random } from "../../src/tensor/random.js";

export const pick = <T>(random: Random, list: readonly T[]): T => list[random.below(list.length)] as T;
export const chance = (random: Random, probability: number): boolean => random.float() < probability;

/** Numbers at which readers go wrong: borders of widths, signs, caps, and what wraps when multiplied. */
const edges: readonly bigint[] = [0n, 1n, 2n, 3n, 4n, 7n, 8n, 9n, 12n, 13n, 31n, 32n, 33n, 63n, 127n, 128n, 255n, 256n, 350n, 351n, 1000n, 4096n, 65_535n, 65_536n]
  .concat([20n, 24n, 25n, 30n, 31n, 32n, 33n, 52n, 53n, 60n, 61n, 62n, 63n, 64n].flatMap((bits) => [2n ** bits - 1n, 2n ** bits, 2n ** bits + 1n]))
  .filter((n) => n < 2n ** 64n);

export const edge = (random: Random): bigint => pick(random, edges);

/** Changes bytes in one to four places: bits, values of all widths, pieces left out, doubled, moved in; or cuts the end off. */
export function mutateBytes(input: Uint8Array, random: Random, alphabet?: Uint8Array): Uint8Array {
  let bytes = input;
  for (let left = 1 + random.below(4); left > 0; left--) bytes = mutateOnce(bytes, random, alphabet);
  return bytes;
}

function mutateOnce(input: Uint8Array, random: Random, alphabet: Uint8Array | undefined): Uint8Array {
  const at = random.below(input.length + 1);
  const byte = () => (alphabet !== undefined && chance(random, 0.8) ? (alphabet[random.below(alphabet.length)] as number) : random.below(256));
  const length = Math.min(random.below(1 << random.below(7)), input.length - at);
  const splice = (insert: ArrayLike<number>, remove: number): Uint8Array => {
    const out = new Uint8Array(input.length - remove + insert.length);
    out.set(input.subarray(0, at));
    out.set(insert, at);
    out.set(input.subarray(at + remove), at + insert.length);
    return out;
  };
  switch (random.below(8)) {
    case 0:
      return splice([], length);
    case 1:
      return splice(input.slice(at, at + length), 0);
    case 2:
      return splice(Array.from({ length: 1 + random.below(8) }, byte), 0);
    case 3:
      return input.slice(0, at);
    case 4:
    case 5: {
      const width = pick(random, [1, 2, 4, 8]);
      if (at + width > input.length) return input;
      const number = new Uint8Array(BigUint64Array.of(edge(random)).buffer, 0, width);
      return splice(number, width);
    }
    default:
      return at === input.length ? input : splice([chance(random, 0.5) ? byte() : (input[at] as number) ^ (1 << random.below(8))], 1);
  }
}
