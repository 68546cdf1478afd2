import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { writeFileAtomically } from "./atomic-file.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-atomic-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe("a file written atomically", () => {
  const path = join(root, "a+b.gguf");

  it("takes the place of what stood there, which an error leaves alone", async () => {
    await writeFileAtomically(path, async (handle) => handle.writeFile("first"));
    const failing = writeFileAtomically(path, async (handle) => {
      await handle.writeFile("sec");
      throw new Error("the disk is full");
    });
    await expect(failing).rejects.toThrow("the disk is full");
    expect(readdirSync(root)).toEqual(["a+b.gguf"]);
    expect(readFileSync(path, "utf8")).toBe("first");
  });

  it("brings the folders above it along", async () => {
    const deep = join(root, "new/folder/x.gguf");
    await writeFileAtomically(deep, async (handle) => handle.writeFile("x"));
    expect(readFileSync(deep, "utf8")).toBe("x");
    rmSync(join(root, "new"), { recursive: true });
  });

  it("takes what killed writers of it left away, and nothing of others", async () => {
    const dead = 2 ** 30; // above what Linux gives
    const kept = [`.a+b.gguf.new-${process.ppid}-0123abcd`, `.aab.gguf.new-${dead}-0123abcd`, `.a+b.gguf.new-${dead}`, "a+b.gguf.new"];
    const left = [`.a+b.gguf.new-${dead}-0123abcd`, `.a+b.gguf.new-${process.pid}-0123abcd`];
    for (const name of [...kept, ...left]) writeFileSync(join(root, name), "");
    await writeFileAtomically(path, async (handle) => {
      await handle.writeFile("third");
      await writeFileAtomically(join(root, "other"), async (other) => other.writeFile("beside"));
    });
    expect(readdirSync(root).toSorted()).toEqual(["a+b.gguf", "other", ...kept].toSorted());
    expect(readFileSync(path, "utf8")).toBe("third");
  });
});
