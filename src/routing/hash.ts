import type { Tape } from "../autograd/tape.js";
import { randomBits } from "../engine/reference/random.js";
import type { Tensor } from "../tensor/tensor.js";

/** Fixed for good: models trained with hash routing depend on it. */
const seed = 0x48415348;

/**
 * k distinct experts for every token id: i32 [T,k], a fixed function of the id (Hash Layers, Roller et al. 2021,
 * arXiv 2106.04426, random hashing). Slot j draws among the experts that slots 0..j-1 left over.
 */
export function hashExperts(tape: Tape, tokenIds: Tensor, k: number, experts: number): Tensor {
  const bits = randomBits(seed);
  const chosen_TK = new Int32Array(tokenIds.size * k);
  tape.engine.read(tokenIds).forEach((id, t) => {
    const taken: number[] = []; // rising
    for (let j = 0; j < k; j++) {
      let e = bits(id * k + j) % (experts - j);
      let place = 0;
      for (; place < j && e >= (taken[place] as number); place++) e++;
      taken.splice(place, 0, e);
      chosen_TK[t * k + j] = e;
    }
  });
  return tape.constant([tokenIds.size, k], chosen_TK, "i32");
}
