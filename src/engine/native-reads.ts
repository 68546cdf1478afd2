import { constants } from "node:os";
import { check, SwitchyardError } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";
import type { FileReads } from "./engine.js";

/** The addon's part in it: native/core/reads.h. */
export interface ReadsAddon {
  /** The file's number, or the system's error number, negated. */
  openReads(path: string): number;
  closeReads(file: number): void;
  startRead(file: number, begin: number, bytes: number, out: number, urgent: number): number;
  makeUrgent(read: number): void;
  stopRead(read: number): number;
  /** 0, the system's error number, or -1 where the file ended before. */
  finishRead(read: number): number;
}

/** ERR_SWITCHYARD_IO with the name of an error number. */
export function systemError(what: string, path: string, error: number, remedy: string): SwitchyardError {
  const code = Object.entries(constants.errno).find(([, value]) => value === error)?.[0] ?? `error ${error}`;
  return new SwitchyardError("ERR_SWITCHYARD_IO", `${what} ${path}: ${code}; ${remedy}`, { details: { path, code } });
}

/** Reads by the addon's own threads. */
export class NativeReads implements FileReads {
  private readonly file: number;

  constructor(
    private readonly addon: ReadsAddon,
    private readonly path: string,
  ) {
    this.file = addon.openReads(path);
    if (this.file < 0) throw systemError("openFile: cannot open", path, -this.file, "it must be a readable file");
  }

  start(out: Tensor, begin: number, urgent: boolean): number {
    return this.addon.startRead(this.file, begin, out.bytes, out.storage as number, Number(urgent));
  }

  hurry(read: number): void {
    this.addon.makeUrgent(read);
  }

  stop(read: number): number {
    return this.addon.stopRead(read);
  }

  finish(read: number): void {
    const error = this.addon.finishRead(read);
    check(error >= 0, "ERR_SWITCHYARD_IO", () => `read: ${this.path} was cut short while it was in use; restore the file and load the model again`);
    if (error > 0) throw systemError("read: cannot read", this.path, error, "check the disk, and load the model again");
  }

  close(): void {
    this.addon.closeReads(this.file);
  }
}
