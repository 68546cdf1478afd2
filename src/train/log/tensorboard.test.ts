import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { stepRecord } from "../../../test/fixtures/step-record.js";
import { scalars, TensorBoardLog } from "./tensorboard.js";
import { crc32c } from "./tfrecord.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "switchyard-tb-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

// An independent reader: CRC bit by bit, and any Protocol Buffers message as field number -> values.

function slowCrc(data: Buffer): number {
  let crc = 0xffffffffn;
  for (const byte of data) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ 0x82f63b78n : crc >> 1n;
  }
  crc ^= 0xffffffffn;
  return Number((((crc >> 15n) | (crc << 17n)) + 0xa282ead8n) & 0xffffffffn);
}

function readRecords(file: Buffer): Buffer[] {
  const records: Buffer[] = [];
  for (let at = 0; at < file.length; ) {
    const length = Number(file.readBigUInt64LE(at));
    expect(file.readUInt32LE(at + 8)).toBe(slowCrc(file.subarray(at, at + 8)));
    const data = file.subarray(at + 12, at + 12 + length);
    expect(file.readUInt32LE(at + 12 + length)).toBe(slowCrc(data));
    records.push(data);
    at += length + 16;
  }
  return records;
}

type Message = Map<number, (bigint | number | Buffer)[]>;

function decode(data: Buffer): Message {
  const message: Message = new Map();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = data[at++]!;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  const take = (length: number): Buffer => data.subarray(at, (at += length));
  while (at < data.length) {
    const key = Number(varint());
    const read: Record<number, () => bigint | number | Buffer> = {
      0: varint,
      1: () => take(8).readDoubleLE(),
      2: () => take(Number(varint())),
      5: () => take(4).readFloatLE(),
    };
    message.set(key >> 3, [...(message.get(key >> 3) ?? []), read[key & 7]!()]);
  }
  expect(at).toBe(data.length);
  return message;
}

const field = <T>(message: Message, number: number): T => message.get(number)?.[0] as T;
const text = (message: Message, number: number): string => field<Buffer>(message, number).toString();
const packed = (message: Message, number: number): number[] => {
  const data = field<Buffer>(message, number);
  return Array.from({ length: data.length / 8 }, (_, i) => data.readDoubleLE(i * 8));
};

function readEvents(path: string) {
  return readRecords(readFileSync(path)).map((record) => {
    const message = decode(record);
    const summary = field<Buffer | undefined>(message, 5);
    const values = new Map((summary ? (decode(summary).get(1) as Buffer[]) : []).map(decode).map((value) => [text(value, 1), value]));
    return { message, step: Number(field<bigint>(message, 2)), values };
  });
}

describe("TensorBoardLog", () => {
  test("starts with the version and then has one event per record with all its numbers", () => {
    const log = new TensorBoardLog(join(folder, "new", "run"));
    const before = Date.now() / 1000;
    const record = stepRecord(300, { eval: { loss: 1.5, perplexity: 4.48 } });
    log.write(record);
    log.write(stepRecord(2 ** 40));
    log.close();

    const events = readEvents(log.path);
    expect(log.path).toMatch(/new\/run\/events\.out\.tfevents\.\d+\./);
    expect(events.map((event) => event.step)).toEqual([0, 0, 300, 2 ** 40]);
    expect(text(events[0]!.message, 3)).toBe("brain.Event:2");
    expect(Math.abs(field<number>(events[2]!.message, 1) - before)).toBeLessThan(5);

    const found = new Map([...events[2]!.values].filter(([, value]) => value.has(2)).map(([tag, value]) => [tag, field<number>(value, 2)]));
    const expected = new Map([...scalars(record)].flatMap(([tag, value]) => (value === null ? [] : [[tag, Math.fround(value)] as const])));
    expect(found).toEqual(expected);
    expect(found.get("train/loss")).toBe(2.5);
    expect(found.get("eval/loss")).toBe(1.5);
    expect(found.get("train/aux_switch_raw")).toBe(1.5);
    expect(found.get("grad_norm/router")).toBe(0.125);
    expect(found.get("moe/maxvio/layer_2")).toBe(1);
    expect(found.get("moe/dead/layer_2")).toBe(1);
    expect(found.has("train/z")).toBe(false);
    expect(events[3]!.values.has("eval/loss")).toBe(false);
  });

  test("the load of a layer is a histogram with one bucket per expert", () => {
    const log = new TensorBoardLog(folder);
    log.write(stepRecord(1));
    log.close();
    const histogram = decode(field<Buffer>(readEvents(log.path)[2]!.values.get("moe/load/layer_2")!, 5));
    expect([1, 2, 3].map((number) => field<number>(histogram, number))).toEqual([0, 4, 1]);
    expect(field<number>(histogram, 4)).toBeCloseTo((6 * 0.5 + 2 * 1.5 + 4 * 2.5) / 12, 14);
    expect(packed(histogram, 6)).toEqual([1, 2, 3, 4]);
    expect(packed(histogram, 7)).toEqual([6 / 12, 2 / 12, 4 / 12, 0]);
  });

  test("resuming opens a second file that starts with a session from the next step", () => {
    new TensorBoardLog(folder).close();
    const log = new TensorBoardLog(folder, { resumeStep: 10 });
    log.close();
    const [, start] = readEvents(log.path);
    expect(start!.step).toBe(11);
    expect(field<bigint>(decode(field<Buffer>(start!.message, 7)), 1)).toBe(1n);
    expect(readdirSync(folder).length).toBe(2);
  });

  test("says which folder it cannot write to", () => {
    const file = join(folder, "file");
    writeFileSync(file, "");
    expect(() => new TensorBoardLog(file)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_IO", message: expect.stringContaining(file) }));
  });
});

test("CRC-32C of the check string and of 32 zero bytes (RFC 3720, B.4)", () => {
  expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
});
