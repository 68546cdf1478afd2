import { closeSync, openSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { makeFolders, withIoErrors } from "../../formats/io.js";
import { bytes, concat, double, doubles, fixedFloat, string, varint } from "./protobuf.js";
import type { StepRecord } from "./record.js";
import { tfRecord } from "./tfrecord.js";

/**
 * Writes a run as a TensorBoard event file (TFRecords of `tensorflow.Event`): a scalar per number of the record, and
 * per layer the load as a histogram whose bucket e is expert e.
 */
export class TensorBoardLog {
  readonly path: string;
  private readonly fd: number;

  /**
   * Opens a new event file in `folder`, which is made when missing; TensorBoard reads all files of a folder as one run.
   * It is told to forget what older files say beyond `resumeStep`, or all of it in a new run. Throws ERR_SWITCHYARD_IO.
   */
  constructor(folder: string, options: { resumeStep?: number } = {}) {
    // TensorBoard reads the files in the order of their names: the time comes first, in microseconds, so that no two are equal.
    const time = Math.round((performance.timeOrigin + performance.now()) * 1000);
    this.path = join(folder, `events.out.tfevents.${time}.${hostname()}.${process.pid}`);
    this.fd = this.io(() => {
      makeFolders(folder);
      return openSync(this.path, "wx");
    });
    try {
      this.append(event(0, string(3, "brain.Event:2")));
      this.append(event((options.resumeStep ?? -1) + 1, sessionStart));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Appends one event with all values of the step. Throws ERR_SWITCHYARD_IO. */
  write(record: StepRecord): void {
    const values = [...scalars(record)].filter(([, value]) => value !== null).map(([tag, value]) => scalar(tag, value!));
    const loads = record.moe.map((layer) => loadHistogram(`moe/load/layer_${layer.layer}`, layer.load));
    this.append(event(record.step, bytes(5, concat([...values, ...loads]))));
  }

  close(): void {
    closeSync(this.fd);
  }

  private append(data: Uint8Array): void {
    this.io(() => writeFileSync(this.fd, tfRecord(data)));
  }

  private io<T>(action: () => T): T {
    return withIoErrors("TensorBoard log: cannot write", this.path, action);
  }
}

/** Every number of a record under its TensorBoard tag; tags are grouped by their first word. */
export function* scalars(record: StepRecord): Generator<[tag: string, value: number | null]> {
  yield ["train/loss", record.loss];
  yield ["train/ce", record.ce];
  yield ["train/z", record.z];
  yield ["train/lr", record.lr];
  yield ["train/tokens", record.tokens];
  if (record.aux) {
    yield [`train/aux_${record.aux.method}_raw`, record.aux.raw];
    yield [`train/aux_${record.aux.method}_scaled`, record.aux.scaled];
  }
  for (const [kind, norm] of Object.entries(record.grad_norm)) yield [`grad_norm/${kind}`, norm];
  yield ["speed/tok_s", record.tok_s];
  yield ["speed/flops_s", record.flops_s];
  yield ["speed/mfu", record.mfu];
  yield ["speed/rss", record.rss];
  if (record.eval) {
    yield ["eval/loss", record.eval.loss];
    yield ["eval/perplexity", record.eval.perplexity];
  }
  for (const layer of record.moe) {
    for (const [name, value] of Object.entries(layer)) {
      if (typeof value === "number" && name !== "layer") yield [`moe/${name}/layer_${layer.layer}`, value];
    }
  }
}

// Field numbers of tensorflow/core/util/event.proto and framework/summary.proto.

const sessionStart = bytes(7, varint(1, 1));

const event = (step: number, what: Uint8Array): Uint8Array => concat([double(1, Date.now() / 1000), varint(2, step), what]);

const scalar = (tag: string, value: number): Uint8Array => bytes(1, concat([string(1, tag), fixedFloat(2, value)]));

/** HistogramProto with one bucket [e, e + 1) per expert, holding its share of the load. */
function loadHistogram(tag: string, load_E: readonly number[]): Uint8Array {
  const histogram = concat([
    double(1, 0),
    double(2, load_E.length),
    double(3, load_E.reduce((sum, n) => sum + n, 0)),
    double(4, load_E.reduce((sum, n, e) => sum + n * (e + 0.5), 0)),
    double(5, load_E.reduce((sum, n, e) => sum + n * (e + 0.5) ** 2, 0)),
    doubles(6, load_E.map((_, e) => e + 1)),
    doubles(7, load_E),
  ]);
  return bytes(1, concat([string(1, tag), bytes(5, histogram)]));
}
