import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { check } from "../errors.js";
import { withIoErrors } from "../formats/io.js";
import { abandoned, sibling } from "../formats/siblings.js";

/**
 * Claims a run folder until disposed: two processes that train in it would mix their checkpoints and logs. Claims of dead processes are removed, and
 * those of other machines and containers, whose processes nobody sees here; of two that come at once perhaps both are refused. Throws ERR_SWITCHYARD_USAGE naming the process that trains in it, ERR_SWITCHYARD_IO.
 */
export function claimRun(out: string): Disposable {
  const folder = resolve(out);
  const { path, release } = sibling(join(folder, "train.jsonl"), "claim");
  const claim = {
    [Symbol.dispose]() {
      rmSync(path, { force: true });
      release();
    },
  };
  try {
    withIoErrors("train in", out, () => {
      writeFileSync(path, "");
      for (const name of readdirSync(folder)) {
        if (!name.startsWith(".train.jsonl.claim-") || name === basename(path)) continue;
        check(
          abandoned(join(folder, name)) !== undefined,
          "ERR_SWITCHYARD_USAGE",
          () => `train: process ${name.split("-")[1]} trains in ${out}; wait for its end, or choose another folder (if it is no training, remove ${join(out, name)})`,
        );
        rmSync(join(folder, name), { force: true });
      }
    });
  } catch (error) {
    claim[Symbol.dispose]();
    throw error;
  }
  return claim;
}
