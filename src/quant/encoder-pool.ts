import { existsSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { type ErrorCode, SwitchyardError } from "../errors.js";
import type { GgufType } from "../formats/gguf/types.js";
import { fitBlocks } from "./codecs.js";

export interface EncodingJob {
  type: GgufType;
  values: Float32Array<ArrayBuffer>;
  importance: Float32Array;
}

export type EncodingAnswer = { bytes: Uint8Array<ArrayBuffer> } | { code: ErrorCode; message: string };

const workerFile = new URL("./encoder-worker.js", import.meta.url);

/** Rows encoded on several threads, by `fitBlocks`: the same bytes. Threads start with the first jobs. Sources that were not compiled run on this thread. */
export class EncoderPool {
  private readonly workers: Worker[] = [];
  private readonly idle: Worker[] = [];
  private readonly waiting: ((worker: Worker) => void)[] = [];

  constructor(readonly threads: number) {}

  /** Takes the memory of `values`. Rejects as `fitBlocks` throws. */
  async encode(job: EncodingJob): Promise<Uint8Array<ArrayBuffer>> {
    if (!existsSync(workerFile)) return fitBlocks(job.type, job.values, job.importance);
    const worker = await this.take();
    const answer = await new Promise<EncodingAnswer>((resolve, reject) => {
      worker.once("error", reject).once("message", (message: EncodingAnswer) => {
        worker.off("error", reject);
        resolve(message);
      });
      worker.postMessage(job, [job.values.buffer]);
    });
    // A thread that failed is not given back: the error ends whatever was to be written.
    this.give(worker);
    if ("bytes" in answer) return answer.bytes;
    throw new SwitchyardError(answer.code, answer.message);
  }

  private async take(): Promise<Worker> {
    const idle = this.idle.pop();
    if (idle !== undefined) return idle;
    if (this.workers.length >= this.threads) return new Promise((resolve) => this.waiting.push(resolve));
    // Options of the process, such as --input-type, may not fit a file.
    const worker = new Worker(workerFile, { execArgv: [] });
    this.workers.push(worker);
    return worker;
  }

  private give(worker: Worker): void {
    const next = this.waiting.shift();
    if (next === undefined) this.idle.push(worker);
    else next(worker);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.terminate()));
  }
}
