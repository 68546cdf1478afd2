import { createHash } from "node:crypto";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { checkModelFolder, verifyFolder, writeFolderAtomically } from "./folder.js";
import { writeSafetensors } from "./safetensors-writer.js";

/** Calls of node:fs/promises until the process "dies": from then on every call fails, as if it were never made. */
const life = vi.hoisted(() => ({ left: Infinity, calls: 0 }));
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof fs>();
  const mortal = (name: string, f: unknown) =>
    typeof f === "function" && ["mkdir", "open", "readdir", "rename", "rm", "stat", "writeFile"].includes(name)
      ? (...args: unknown[]) => {
          life.calls++;
          return life.left-- > 0 ? (f as (...a: unknown[]) => unknown)(...args) : Promise.reject(new Error("dead"));
        }
      : f;
  return Object.fromEntries(Object.entries(real).map(([name, f]) => [name, mortal(name, f)]));
});

let root = "";
let target = "";
beforeEach(async () => {
  root = await fs.mkdtemp(join(tmpdir(), "switchyard-folder-"));
  target = join(root, "out", "model");
  onTestFinished(async () => {
    life.left = Infinity;
    await fs.rm(root, { recursive: true });
  });
});

const put = (content: string) =>
  writeFolderAtomically(target, async (folder) => {
    await fs.writeFile(join(folder, "a.txt"), content);
    await fs.mkdir(join(folder, "sub"));
    await fs.writeFile(join(folder, "sub", "b.txt"), content.repeat(2));
  });
const content = async () => [await fs.readFile(join(target, "a.txt"), "utf8"), await fs.readFile(join(target, "sub/b.txt"), "utf8")];
const refused = (code: string, message: string) => expect.objectContaining({ code: `ERR_SWITCHYARD_${code}`, message: expect.stringContaining(message) });

describe("writeFolderAtomically", () => {
  it("writes a folder with its manifest, and replaces it", async () => {
    await put("old");
    expect(await verifyFolder(target, { hashes: true })).toEqual({
      "a.txt": { bytes: 3, sha256: createHash("sha256").update("old").digest("hex") },
      "sub/b.txt": { bytes: 6, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
    });
    await put("new");
    expect(await content()).toEqual(["new", "newnew"]);
    expect(await fs.readdir(dirname(target))).toEqual(["model"]);
  });

  it("leaves the old folder and nothing else when writing fails", async () => {
    await put("old");
    const failure = Object.assign(new Error("write failed"), { code: "ENOSPC" });
    const failing = writeFolderAtomically(target, async (folder) => {
      await fs.writeFile(join(folder, "a.txt"), "half");
      throw failure;
    });
    await expect(failing).rejects.toEqual(refused("IO", `write ${target}: ENOSPC, the disk is full`));
    expect(await content()).toEqual(["old", "oldold"]);
    expect(await fs.readdir(dirname(target))).toEqual(["model"]);
    await expect(writeFolderAtomically(join(root, "fresh"), () => Promise.reject(new TypeError("bug")))).rejects.toThrow(TypeError);
    expect(await fs.readdir(root)).toEqual(["out"]);
  });

  it("reports a full disk under a tensor file", async () => {
    const failing = writeFolderAtomically(target, async (folder) => {
      await fs.symlink("/dev/full", join(folder, "model.safetensors"));
      await writeSafetensors(join(folder, "model.safetensors"), []);
    });
    await expect(failing).rejects.toEqual(refused("IO", "the disk is full"));
    expect(await fs.readdir(dirname(target))).toEqual([]);
  });

  it("does not replace what it did not write", async () => {
    await fs.mkdir(target, { recursive: true });
    await put("into an empty folder");
    await fs.writeFile(join(target, "notes.md"), "mine");
    await expect(put("x")).rejects.toEqual(refused("IO", '"notes.md", which is in no manifest'));
    await fs.rm(join(target, "manifest.json"));
    await expect(put("x")).rejects.toEqual(refused("IO", "which is in no manifest"));
    await fs.writeFile(join(root, "file"), "");
    await expect(writeFolderAtomically(join(root, "file", "x"), async () => undefined)).rejects.toEqual(refused("IO", "is in the way"));
    await expect(writeFolderAtomically(join(root, "file"), async () => undefined)).rejects.toEqual(refused("IO", "not a folder"));
    expect((await content())[0]).toBe("into an empty folder");
  });

  it("keeps the old content or the new, complete, whenever the process dies", async () => {
    life.calls = 0;
    await put("0");
    await put("1");
    const callsNeeded = life.calls;
    const outcomes = new Set<string>();
    for (let step = 0; step <= callsNeeded; step++) {
      const now = (await content())[0]!;
      const next = `${step + 2}`;
      life.left = step;
      const died = await put(next).then(() => false, () => true);
      life.left = Infinity;
      // A dead process is not this one: give its leftovers the number of a process that cannot exist.
      for (const name of await fs.readdir(dirname(target))) {
        if (name.startsWith(".")) await fs.rename(join(dirname(target), name), join(dirname(target), name.replace(`-${process.pid}-`, "-4194305-")));
      }
      expect(await verifyFolder(target, { hashes: true }), `died at call ${step}`).toBeDefined();
      const [a, b] = await content();
      expect([now, next]).toContain(a);
      expect(b).toBe(a! + a!);
      if (!died) expect(a).toBe(next);
      outcomes.add(died ? (a === next ? "new" : "old") : "lived");
      await put(a!);
      expect(await fs.readdir(dirname(target)), `died at call ${step}`).toEqual([basename(target)]);
    }
    expect([...outcomes].toSorted()).toEqual(["lived", "new", "old"]);
  });
});

describe("checkModelFolder", () => {
  it("names what may be meant of a folder without config.json", async () => {
    await fs.mkdir(target, { recursive: true });
    expect(() => checkModelFolder(target)).toThrow(/expected a folder with a config\.json, which this has not; name the folder of a model, or a \.gguf file$/);
    for (const name of ["b.gguf", "a.GGUF"]) await fs.writeFile(join(target, name), "");
    expect(() => checkModelFolder(target)).toThrow(/name the file that is meant: \S+a\.GGUF, \S+b\.gguf$/);
    await fs.writeFile(join(target, "config.json"), "{}");
    checkModelFolder(target);
  });
});

describe("verifyFolder", () => {
  it("is silent about a folder without manifest, and refuses what does not match one", async () => {
    await expect(verifyFolder(target)).rejects.toEqual(refused("CHECKPOINT", "expected the folder of a model, or a .gguf file, found neither"));
    await fs.mkdir(dirname(target), { recursive: true });
    await fs.writeFile(target, "");
    await expect(verifyFolder(target)).rejects.toEqual(refused("CHECKPOINT", "got another file; name the folder that it is in"));
    await fs.rm(target);
    await put("x");
    await fs.writeFile(join(target, "a.txt"), "y");
    expect(await verifyFolder(target)).toBeDefined();
    await expect(verifyFolder(target, { hashes: true })).rejects.toEqual(refused("CHECKPOINT", "a.txt: expected sha256"));
    await fs.writeFile(join(target, "a.txt"), "xy");
    await expect(verifyFolder(target)).rejects.toEqual(refused("CHECKPOINT", "a.txt: expected 1 bytes, got 2"));
    await fs.rm(join(target, "a.txt"));
    await expect(verifyFolder(target)).rejects.toEqual(refused("CHECKPOINT", "a.txt: expected 1 bytes, the file is missing"));
    await fs.rm(join(target, "manifest.json"));
    expect(await verifyFolder(target)).toBeUndefined();
  });

  it.each(["../a.txt", "/etc/passwd", "a/../../b", "", "a//b", "./a", "a\\b"])("refuses a manifest that names %j", async (name) => {
    await put("x");
    await fs.writeFile(join(target, "manifest.json"), JSON.stringify({ files: { [name]: { bytes: 0, sha256: "0".repeat(64) } } }));
    await expect(verifyFolder(target)).rejects.toEqual(refused("FORMAT", "manifest.json: files"));
  });

  it.each(["", "{", "[]", '{"files":{"a":{"bytes":-1,"sha256":""}}}', '{"files":{},"files":{}}'])("refuses the manifest %j", async (text) => {
    await put("x");
    await fs.writeFile(join(target, "manifest.json"), text);
    await expect(verifyFolder(target)).rejects.toEqual(refused("FORMAT", "manifest.json"));
  });
});
