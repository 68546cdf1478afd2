import { Model } from "../generate/model.js";
import { eraseLine, formatBytes } from "../train/log/format.js";
import type { Io } from "./io.js";

/** `Model.load` for a command, which says what takes long, and what a budget would be better at. */
export async function loadModel(io: Io, path: string, { memory, json }: { memory?: number | undefined; json?: boolean | undefined }): Promise<Model> {
  const model = await Model.load(path, { memory, onProgress: loadProgress(io, json) });
  const { config, engine, parameters } = model;
  if (memory !== undefined || config.moe === undefined || engine.name !== "native") return model;
  const bytes = parameters.list.reduce((sum, { name }) => sum + parameters.bytes(name), 0);
  if (bytes > io.memory) {
    io.stderr.write(`switchyard: ${path}: ${formatBytes(bytes)} of weights, and this process may take ${formatBytes(io.memory)}; --memory ${Math.floor((0.95 * io.memory) / 2 ** 20)}MiB keeps the experts that fit, and reads others when they are needed\n`);
  }
  return model;
}

/** What `Model.load` tells a terminal, on a line that goes again, of weights that take more than a second to pack; nothing where nobody looks. */
export function loadProgress({ stderr }: Io, json = false, now: () => number = () => performance.now()): ((done: number, total: number) => void) | undefined {
  if (json || stderr.isTTY !== true) return undefined;
  let shownMs = now() + 900;
  let shown = false;
  return (done, total) => {
    const isDue = now() - shownMs >= 100;
    if (!isDue && !(shown && done === total)) return;
    shownMs = now();
    shown = done < total;
    stderr.write(shown ? `${eraseLine}packing weights: ${formatBytes(done)} of ${formatBytes(total)}` : eraseLine);
  };
}
