import { check } from "../errors.js";
import { LateTensor, type Tensor } from "../tensor/tensor.js";
import type { ExpertMatrices, MatmulOptions } from "./engine.js";

/** Whether operands of a product with b are rounded to bfloat16. */
export const roundsToBf16 = ({ dtype }: Tensor, { precision }: MatmulOptions): boolean => precision === "bf16" || (precision === undefined && dtype === "bf16");

/** What a product needs to know of a list of matrices. */
interface MatrixList {
  addresses: Float64Array;
  /** They have one type and shape. */
  alike: boolean;
  /** Those of one type that follow one another. */
  runs: readonly { begin: number; matrices: readonly Tensor[] }[];
}

/** Kept as long as the list: to look at each matrix costs more than a small product. */
export function matricesOf(list: readonly Tensor[]): MatrixList {
  let known = matrixLists.get(list);
  if (known === undefined) {
    const [first] = list as [Tensor];
    const begins = list.flatMap(({ dtype }, e) => (e > 0 && dtype === list[e - 1]?.dtype ? [] : [e]));
    known = {
      addresses: Float64Array.from(list, ({ storage }) => storage as number),
      alike: begins.length === 1 && list.every((w) => w.rows === first.rows && w.cols === first.cols),
      runs: begins.map((begin, i) => ({ begin, matrices: list.slice(begin, begins[i + 1]) })),
    };
    matrixLists.set(list, known);
  }
  return known;
}
const matrixLists = new WeakMap<readonly Tensor[], MatrixList>();

/** The addresses of two lists one after the other, if all their matrices have one type and shape; of late ones, if those of the second stand after those of the first. */
export function pairOf(first: ExpertMatrices, second: ExpertMatrices): Float64Array | undefined {
  if ("shape" in first || "shape" in second) return undefined;
  const known = pairs.get(first);
  if (known?.second === second) return known.addresses;
  const [a, b] = [matricesOf(first), matricesOf(second)];
  const [x, y] = [first[0] as Tensor, second[0] as Tensor];
  const alike = a.alike && b.alike && first.length === second.length && x.dtype === y.dtype && x.rows === y.rows && x.cols === y.cols;
  const follows = !(x instanceof LateTensor) || y.storage === (x.storage as number) + 8 * first.length;
  const addresses = alike && follows ? Float64Array.from([...a.addresses, ...b.addresses]) : undefined;
  pairs.set(first, { second, addresses });
  return addresses;
}
const pairs = new WeakMap<readonly Tensor[], { second: readonly Tensor[]; addresses: Float64Array | undefined }>();

/** The first column of each result of `matmuls`: after those before it that have the same `out`. */
export function columnsOf(outs: readonly Tensor[], bs: readonly Tensor[]): number[] {
  check(outs.length === bs.length, "ERR_SWITCHYARD_SHAPE", () => `matmuls: expected a result for each of ${bs.length} weights, got ${outs.length}`);
  return outs.map((out, i) => bs.reduce((column, b, j) => (j < i && outs[j] === out ? column + b.rows : column), 0));
}
