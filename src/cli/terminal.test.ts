import { expect, test } from "vitest";
import { painter } from "../train/log/format.js";
import { paintExpert, table, terminal } from "./terminal.js";

test("terminal: colour and width of a stream", () => {
  const write = () => true;
  expect(terminal({ isTTY: true, columns: 100, write }, {})).toMatchObject({ color: true, width: 100 });
  const pipe = terminal({ write }, {});
  expect(pipe).toMatchObject({ color: false, width: 80 });
  expect(pipe.paint("x", "red")).toBe("x");
});

test("shown: a terminal obeys no control character of the text but tab and line break; a file gets all of them", () => {
  const text = "a\tb\r\nc\n\u001b[2Jd\re\u0000\u007f\u009b2Jf \u00e9";
  const write = () => true;
  expect(terminal({ isTTY: true, write }, {}).shown(text)).toBe("a\tb\r\nc\n\u241b[2Jd\u240de\u2400\u2421\ufffd2Jf \u00e9");
  expect(terminal({ write }, {}).shown(text)).toBe(text);
});

test("table: columns line up, numbers to the right, colours take no room", () => {
  const red = painter(true)("hot", "red");
  expect(table(["expert", "load", "tokens"], [[red, 12, "the of"], ["cool", 3, "{ }"]])).toBe(
    ["expert  load  tokens", `${red}       12  the of`, "cool       3  { }"].join("\n"),
  );
  expect(table(["name", "n"], [])).toBe("name  n");
});

test("paintExpert: another background for each of 16 experts, the text unchanged", () => {
  const painted = Array.from({ length: 16 }, (_, expert) => paintExpert("x", expert, true));
  expect(new Set(painted).size).toBe(16);
  for (const text of painted) {
    const color = Number(/^\u001b\[48;5;(\d+)m\u001b\[38;5;16mx\u001b\[0m$/.exec(text)?.[1]);
    expect(color).toBeGreaterThanOrEqual(16);
    expect(color).toBeLessThanOrEqual(231);
  }
  expect(paintExpert("x", 3, false)).toBe("x");
});
