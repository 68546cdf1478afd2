import { parentPort } from "node:worker_threads";
import { SwitchyardError } from "../errors.js";
import { fitBlocks } from "./codecs.js";
import type { EncodingAnswer, EncodingJob } from "./encoder-pool.js";

/** A thread of an `EncoderPool`: one job after the other. */
parentPort?.on("message", ({ type, values, importance }: EncodingJob) => {
  try {
    const bytes = fitBlocks(type, values, importance);
    parentPort?.postMessage({ bytes } satisfies EncodingAnswer, [bytes.buffer]);
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    parentPort?.postMessage({ code: error.code, message: error.message } satisfies EncodingAnswer);
  }
});
