import { Arena } from "../engine/arena.js";
import type { Engine, ExpertMatrices } from "../engine/engine.js";
import { byteLength } from "../tensor/dtype.js";
import { sizeOf, type Tensor } from "../tensor/tensor.js";
import type { Columns } from "./families/names.js";
import { copyMapped, mapStack, mapWeight, type ParameterSource, type StoredRows, type StoredStack } from "./mapped.js";
import { MappedFiles } from "./mapped-files.js";
import type { ParameterSpec } from "./parameter-specs.js";
import { copyRepacked, type Repacked } from "./repacked.js";

type InPlace = Pick<ParameterSource, "rows" | "repacked" | "reordered" | "apart">;

/** What of a source products can take. */
const inPlace = ({ shape, apart }: ParameterSpec, source: ParameterSource): InPlace => (shape.length === 1 ? {} : apart ? { apart: source.apart } : source);

/** Bytes of a parameter as the native engine's products take it; f32 without a source. */
export function bytesInPlace(spec: ParameterSpec, source: ParameterSource | undefined): number {
  const { rows, repacked, reordered, apart } = source === undefined ? {} : inPlace(spec, source);
  const cols = spec.shape.at(-1) as number;
  const stored = rows ?? (reordered && [reordered]);
  if (stored !== undefined) return stored.reduce((sum, part) => sum + byteLength(part.dtype, part.rows * cols), 0);
  return apart?.reduce((sum, { dtype, shape }) => sum + byteLength(dtype, sizeOf(shape)), 0) ?? byteLength(repacked?.dtype ?? "f32", sizeOf(spec.shape));
}

/** The parameters that products take in the types of their files, without floats being made of them: mapped, or copied where bytes stand in another order. */
export class StoredWeights {
  private readonly parts = new Map<string, readonly ExpertMatrices[]>();
  /** Where those come from that are not the parameter's rows as they are. */
  private readonly otherwise = new Map<string, ParameterSource>();
  private readonly arena: Arena;
  private readonly files: MappedFiles;

  constructor(private readonly engine: Engine) {
    this.arena = new Arena(engine);
    this.files = new MappedFiles(engine);
  }

  /** Whether a parameter is now one of them. */
  take(spec: ParameterSpec, source: ParameterSource, onBytes: ((bytes: number) => void) | undefined): boolean {
    const { name, shape } = spec;
    const { rows, repacked, reordered, apart } = this.inPlace(spec, source);
    const asItIs = rows === undefined ? repacked && [this.repack(shape, repacked, onBytes)] : this.map(shape, rows);
    const otherwise = reordered === undefined ? this.mapStacks(apart) : this.map(shape, [reordered]);
    const parts = asItIs ?? otherwise;
    if (parts === undefined) return false;
    this.parts.set(name, parts);
    if (parts === otherwise) this.otherwise.set(name, source);
    return true;
  }

  /** Bytes that `take` would repack. */
  repackedBytes(spec: ParameterSpec, source: ParameterSource): number {
    const { rows, repacked } = this.inPlace(spec, source);
    return rows === undefined && repacked !== undefined ? byteLength(repacked.dtype, sizeOf(spec.shape)) : 0;
  }

  /** Only the native engine has products of stored types. */
  private inPlace(spec: ParameterSpec, source: ParameterSource): InPlace {
    return this.engine.name === "native" ? inPlace(spec, source) : {};
  }

  private map(shape: readonly number[], stored: readonly StoredRows[]): readonly ExpertMatrices[] | undefined {
    return mapWeight(this.files, this.arena, this.engine, shape, stored);
  }

  private mapStacks(stacks: readonly StoredStack[] = []): readonly ExpertMatrices[] | undefined {
    const mapped = stacks.map((stack) => mapStack(this.files, stack));
    return mapped.length > 0 && mapped.every((stack) => stack !== undefined) ? mapped : undefined;
  }

  private repack(shape: readonly number[], repacked: Repacked, onBytes: ((bytes: number) => void) | undefined): Tensor {
    const tensor = this.arena.alloc(repacked.dtype, shape);
    copyRepacked(this.engine, tensor, repacked, onBytes);
    return tensor;
  }

  get(name: string): readonly ExpertMatrices[] | undefined {
    return this.parts.get(name);
  }

  /** The order of a matrix' columns, where it is not the parameter's. */
  columns(name: string): Columns | undefined {
    return this.otherwise.get(name)?.reordered?.columns;
  }

  /** The stacks of matrices of a parameter that products take apart. */
  apart(name: string): readonly (readonly Tensor[])[] | undefined {
    return this.otherwise.get(name)?.apart && (this.parts.get(name) as readonly (readonly Tensor[])[]);
  }

  /** Copies a parameter, if it is one of them, into a float tensor of its shape. */
  copy(name: string, target: Tensor): void {
    const [parts, otherwise] = [this.parts.get(name), this.otherwise.get(name)];
    if (otherwise !== undefined) otherwise.read(this.engine, target);
    else if (parts !== undefined) copyMapped(this.engine, target, parts);
  }

  get tensors(): readonly Tensor[] {
    return [...this.parts.values()].flat(2) as Tensor[];
  }

  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
    this.files[Symbol.dispose]();
  }
}
