// Draws a terminal's output, colours and all, as an SVG: node scripts/terminal-svg.mjs [--from TEXT] [--to TEXT] < output > picture.svg
// With --from and --to only the lines from the first that contains the one to the first after it that contains the other.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

const { values } = parseArgs({ options: { from: { type: "string" }, to: { type: "string" } } });
const width = 7.8;
const height = 17;
const [background, foreground, dim] = ["#15181e", "#d7dae0", "#8b919c"];
const basic = { 31: "#ff6b6b", 32: "#7bd88f", 33: "#ffd866", 34: "#6ba7ff", 35: "#c792ea", 36: "#5ad4e6" };

function cube(n) {
  if (n >= 232) return `rgb(${Array(3).fill(8 + 10 * (n - 232)).join(",")})`;
  const level = (i) => (i === 0 ? 0 : 55 + 40 * i);
  const i = n - 16;
  return `rgb(${level(Math.floor(i / 36))},${level(Math.floor(i / 6) % 6)},${level(i % 6)})`;
}

/** Pieces of a line: text, colour, background, weight. */
function* pieces(line) {
  let style = {};
  for (const part of line.split(/(\u001b\[[0-9;]*m)/)) {
    const codes = /^\u001b\[([0-9;]*)m$/.exec(part)?.[1];
    if (codes === undefined) {
      if (part !== "") yield { text: part, ...style };
      continue;
    }
    const [first, second, third] = codes.split(";").map(Number);
    if (first === 0) style = {};
    else if (first === 38 && second === 5) style = { ...style, fill: cube(third) };
    else if (first === 48 && second === 5) style = { ...style, back: cube(third) };
    else if (first === 1) style = { ...style, bold: true };
    else if (first === 2) style = { ...style, fill: dim };
    else if (first in basic) style = { ...style, fill: basic[first] };
  }
}

const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const all = readFileSync(0, "utf8").trimEnd().split("\n");
const start = values.from === undefined ? 0 : all.findIndex((line) => line.includes(values.from));
const end = values.to === undefined ? all.length : start + all.slice(start).findIndex((line) => line.includes(values.to));
const lines = all.slice(start, end);
const columns = Math.max(...lines.map((line) => [...pieces(line)].reduce((n, { text }) => n + [...text].length, 0)));
const body = lines.map((line, row) => {
  let column = 0;
  const y = 14 + row * height;
  const out = [];
  for (const { text, fill = foreground, back, bold } of pieces(line)) {
    const length = [...text].length;
    const x = (14 + column * width).toFixed(1);
    if (back !== undefined) out.push(`<rect x="${x}" y="${y}" width="${(length * width).toFixed(1)}" height="${height}" fill="${back}"/>`);
    if (text.trim() !== "") out.push(`<text x="${x}" y="${y + 12.5}" fill="${fill}"${bold ? ' font-weight="bold"' : ""} textLength="${(length * width).toFixed(1)}">${escape(text)}</text>`);
    column += length;
  }
  return out.join("");
});
const [w, h] = [Math.ceil(28 + columns * width), 28 + lines.length * height];
process.stdout.write(
  `<svg xmlns="http://www.w3.org/2000/svg" width="${w}" height="${h}" viewBox="0 0 ${w} ${h}" font-family="ui-monospace,Menlo,Consolas,monospace" font-size="12.5" xml:space="preserve">`
    + `<rect width="100%" height="100%" rx="8" fill="${background}"/>\n${body.filter(Boolean).join("\n")}\n</svg>\n`,
);
