import { parseGguf } from "../../src/formats/gguf/reader.js";
import { ggufBytes, type GgufType, ggufTypes } from "../../src/formats/gguf/types.js";
import { memorySource } from "../../src/formats/source.js";
import type { Random } from "../../src/tensor/random.js";
import { chance, edge, mutateBytes, pick } from "./mutate.js";
import { accepted, ensure, type Target } from "./target.js";

/** Bytes of a GGUF file as they are written, each number wrong with probability `rate`. */
class Writer {
  private bytes = new Uint8Array(1024);
  private view = new DataView(this.bytes.buffer);
  at = 0;

  constructor(
    readonly random: Random,
    private readonly rate: number,
  ) {}

  private room(count: number): number {
    if (this.at + count > this.bytes.length) {
      const larger = new Uint8Array(2 * (this.at + count));
      larger.set(this.bytes);
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    this.at += count;
    return this.at - count;
  }

  private wrong(n: number): bigint {
    return this.rate > 0 && chance(this.random, this.rate) ? edge(this.random) : BigInt(n);
  }

  u32(n: number): void {
    const at = this.room(4);
    this.view.setUint32(at, Number(this.wrong(n) & 0xffffffffn), true);
  }

  u64(n: number): void {
    const at = this.room(8);
    this.view.setBigUint64(at, this.wrong(n), true);
  }

  raw(count: number): void {
    const at = this.room(count);
    for (let i = 0; i < count; i++) this.bytes[at + i] = this.random.next() & 255;
  }

  string(text: string): void {
    this.u64(text.length);
    const at = this.room(text.length);
    for (let i = 0; i < text.length; i++) this.bytes[at + i] = chance(this.random, this.rate / 4) ? this.random.below(256) : text.charCodeAt(i);
  }

  zeros(count: number): void {
    this.room(count);
  }

  done(): Uint8Array {
    return this.bytes.subarray(0, this.at);
  }
}

const sizes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
const [bool, string, array] = [7, 8, 9];
const text = (random: Random): string => "abcdefgh".slice(0, random.below(9));

function writeValue(w: Writer, type: number, depth: number): void {
  if (type === string) return w.string(text(w.random));
  if (type === bool) return w.zeros(1);
  if (type !== array) return w.raw(sizes[type] as number);
  const of = w.random.below(depth > 0 ? 13 : 9);
  const count = w.random.below(4);
  w.u32(of);
  w.u64(count);
  for (let i = 0; i < count; i++) writeValue(w, of, depth - 1);
}

const types = Object.keys(ggufTypes) as GgufType[];

function file(random: Random): Uint8Array {
  const spoiled = chance(random, 0.9);
  const w = new Writer(random, spoiled ? 0.01 : 0);
  const alignment = pick(random, [32, 32, 32, 1, 8, 64, 4096]);
  const keys = random.below(6);
  const tensors = random.below(5);
  for (const byte of [0x46554747, pick(random, [3, 3, 3, 2])]) w.u32(byte);
  w.u64(tensors);
  w.u64(keys + 1);
  w.string("general.alignment");
  w.u32(4);
  w.u32(alignment);
  for (let i = 0; i < keys; i++) {
    w.string(chance(random, 0.02) ? "key0" : `key${i}`);
    const type = random.below(13);
    w.u32(type);
    writeValue(w, type, 3);
  }
  let offset = 0;
  for (let i = 0; i < tensors; i++) {
    const type = pick(random, types);
    const shape = Array.from({ length: random.below(5) }, () => 1 + random.below(3));
    if (shape.length > 0) shape[0] = (shape[0] as number) * ggufTypes[type].elements;
    else if (ggufTypes[type].elements > 1) shape.push(ggufTypes[type].elements);
    w.string(`tensor${chance(random, 0.02) ? 0 : i}`);
    w.u32(shape.length);
    for (const n of shape) w.u64(n);
    w.u32(ggufTypes[type].id);
    w.u64(offset);
    offset += Math.ceil((ggufBytes(type, shape.toReversed()) as number) / alignment) * alignment;
  }
  w.zeros((alignment - (w.at % alignment)) % alignment);
  w.zeros(spoiled && chance(random, 0.1) ? random.below(200) : offset);
  return spoiled && chance(random, 0.5) ? mutateBytes(w.done(), random) : w.done();
}

export const gguf: Target = {
  about: "GGUF files: all value types, arrays in arrays, tensors of all types, with a wrong number here and there, and bytes changed anywhere",
  run(random) {
    const bytes = file(random);
    const read = accepted(() => parseGguf(memorySource(bytes, "x.gguf")), ["ERR_SWITCHYARD_FORMAT"], "x.gguf: ");
    if (read === undefined) return false;
    let at = 0;
    for (const { type, shape, begin, end } of [...read.tensors.values()].sort((a, b) => a.begin - b.begin)) {
      ensure(begin >= at && end <= bytes.length, "tensors lie in the file and do not overlap");
      ensure(ggufBytes(type, shape) === end - begin, "a tensor's shape says how many bytes it has");
      at = end;
    }
    for (const key of read.metadata.entries.keys()) {
      accepted(() => (chance(random, 0.5) ? read.metadata.integer(key) : read.metadata.string(key)), ["ERR_SWITCHYARD_FORMAT"], "x.gguf: ");
    }
    return true;
  },
};
