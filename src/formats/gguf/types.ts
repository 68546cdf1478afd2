/** Element types of GGUF: the id in the file, elements and bytes of one block. Blocks lie along a tensor's fastest dimension. */
const types = {
  F32: [0, 1, 4], F16: [1, 1, 2], Q4_0: [2, 32, 18], Q4_1: [3, 32, 20], Q5_0: [6, 32, 22], Q5_1: [7, 32, 24], Q8_0: [8, 32, 34], Q8_1: [9, 32, 36],
  Q2_K: [10, 256, 84], Q3_K: [11, 256, 110], Q4_K: [12, 256, 144], Q5_K: [13, 256, 176], Q6_K: [14, 256, 210], Q8_K: [15, 256, 292],
  IQ2_XXS: [16, 256, 66], IQ2_XS: [17, 256, 74], IQ3_XXS: [18, 256, 98], IQ1_S: [19, 256, 50], IQ4_NL: [20, 32, 18], IQ3_S: [21, 256, 110],
  IQ2_S: [22, 256, 82], IQ4_XS: [23, 256, 136], I8: [24, 1, 1], I16: [25, 1, 2], I32: [26, 1, 4], I64: [27, 1, 8], F64: [28, 1, 8],
  IQ1_M: [29, 256, 56], BF16: [30, 1, 2], TQ1_0: [34, 256, 54], TQ2_0: [35, 256, 66], MXFP4: [39, 32, 17], NVFP4: [40, 64, 36],
} as const satisfies Record<string, readonly [number, number, number]>;

export type GgufType = keyof typeof types;

interface BlockSize {
  id: number;
  elements: number;
  bytes: number;
}

export const ggufTypes = Object.fromEntries(Object.entries(types).map(([name, [id, elements, bytes]]) => [name, { id, elements, bytes }])) as Readonly<Record<GgufType, BlockSize>>;

/** The type with this id in a file, or undefined. */
export const ggufTypeOf: ReadonlyMap<number, GgufType> = new Map(Object.entries(ggufTypes).map(([name, { id }]) => [id, name as GgufType]));

/** Bytes of a tensor whose rows, of the last dimension, are whole blocks; undefined where they are not. */
export function ggufBytes(type: GgufType, shape: readonly number[]): number | undefined {
  const { elements, bytes } = ggufTypes[type];
  const blocks = (shape.at(-1) ?? 1) / elements;
  return Number.isInteger(blocks) ? shape.slice(0, -1).reduce((product, n) => product * n, blocks) * bytes : undefined;
}

/** `general.file_type`: how llama.cpp calls a file of mostly this type. */
export const ggufFileTypeIds: Readonly<Partial<Record<GgufType, number>>> = {
  F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q8_0: 7, Q5_0: 8, Q5_1: 9, Q2_K: 10, Q4_K: 14, Q5_K: 16, Q6_K: 18, IQ4_NL: 25, IQ4_XS: 30, BF16: 32, TQ1_0: 36, TQ2_0: 37, MXFP4: 38,
};
