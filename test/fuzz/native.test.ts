import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";

const root = new URL("../../", import.meta.url).pathname;
const build = join(root, "build/fuzz-test");
const compiler = process.env["CXX"] ?? "g++";
const program = join(tmpdir(), `switchyard-sanitizers-${process.pid}`);
const trial = spawnSync(compiler, ["-fsanitize=address,undefined", "-x", "c++", "-", "-o", program], { input: "int main() {}" });
rmSync(program, { force: true });
const isa = process.platform === "linux" && readFileSync("/proc/cpuinfo", "utf8").includes("avx2") ? "avx2" : "x86_64";

describe.skipIf(trial.status !== 0)("a short run of the native fuzz targets with both sanitizers (skipped where the compiler has no sanitizers; make fuzz has the long ones)", () => {
  // One variant, not optimised: 12 s of the processor instead of minutes.
  beforeAll(() => {
    const { status, stderr } = spawnSync("make", ["-s", join(build, "fuzz"), `BUILD=${build}`, `ISAS=${isa}`, "SANITIZE=1", "CXXFLAGS=-O0", `CXX=${compiler}`], { cwd: root, encoding: "utf8" });
    expect(status, stderr).toBe(0);
  }, 600_000);

  it.each([["blocks", 1500], ["routing", 5000], ["files", 1000]] as const)("%s", (target, inputs) => {
    const { status, stdout, stderr } = spawnSync(join(build, "fuzz"), [target, "--inputs", String(inputs)], { cwd: tmpdir(), encoding: "utf8" });
    expect(status, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ target, inputs, variants: isa });
  }, 300_000);

  it("what kills a run is told, with the input", () => {
    const { status, stderr } = spawnSync("sh", ["-c", `ulimit -t 1; exec ${join(build, "fuzz")} routing --inputs 100000000`], { encoding: "utf8" });
    expect(status).toBe(1);
    expect(stderr).toMatch(/routing, seed 1, input \d+: the process ended with signal \d+/);
  }, 300_000);
});
