/** Numbers, colours and expert loads as text; shared by the progress line and the commands. */

const codes = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, blue: 34, magenta: 35, cyan: 36 } as const;

type Color = keyof typeof codes;

/** Colours text, or returns it as it is. */
export type Paint = (text: string, color: Color) => string;

/** A stream as far as formatting is concerned: process.stdout, or a stand-in. */
export interface TextStream {
  isTTY?: boolean | undefined;
  columns?: number | undefined;
  write(text: string): unknown;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** FORCE_COLOR decides when set ("0" or "false": no), then NO_COLOR (no-color.org), then whether the stream is a terminal. */
export function colorEnabled(stream: TextStream, env: Environment): boolean {
  if (env.FORCE_COLOR) return env.FORCE_COLOR !== "0" && env.FORCE_COLOR !== "false";
  return !env.NO_COLOR && stream.isTTY === true && env.TERM !== "dumb";
}

export function painter(enabled: boolean): Paint {
  return enabled ? (text, color) => `\u001b[${codes[color]}m${text}\u001b[0m` : (text) => text;
}

/** On a terminal: what is written next takes the place of the line. */
export const eraseLine = "\r\u001b[2K";

const escapes = /\u001b\[[0-9;]*m/g;

/** Columns that a text takes, colours apart; every character counts as one. */
export function visibleWidth(text: string): number {
  return [...text.replace(escapes, "")].length;
}

/** Three significant digits and a decimal prefix: 12345 -> "12.3k", 7e10 -> "70.0G", 0.0123 -> "0.0123". */
export function formatNumber(n: number): string {
  const prefixes = ["", "k", "M", "G", "T", "P"];
  const size = Math.abs(n);
  if (!Number.isFinite(n) || size === 0) return String(n);
  if (size < 1) return String(Number(n.toPrecision(3)));
  // Rounded first, so that 999,950 is 1.00M and not 1000k.
  const exponent = Math.min(Math.floor(Math.log10(Number(size.toPrecision(3))) / 3), prefixes.length - 1);
  const scaled = n / 1000 ** exponent;
  if (exponent === 0 && Number.isInteger(n)) return String(n);
  return scaled.toFixed(Math.abs(scaled) < 9.995 ? 2 : Math.abs(scaled) < 99.95 ? 1 : 0) + prefixes[exponent];
}

/** 1536 -> "1.5 KiB". */
export function formatBytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const exponent = n < 1 ? 0 : Math.min(Math.floor(Math.log2(n) / 10), units.length - 1);
  return `${(n / 1024 ** exponent).toFixed(exponent === 0 ? 0 : 1)} ${units[exponent]}`;
}

/** 0.256 -> "26%". */
export function formatPercent(share: number): string {
  return `${Math.round(100 * share)}%`;
}

/** Seconds: 0.34 -> "0.3s", 45 -> "45s", 185 -> "3m05s", 7620 -> "2h07m", 100800 -> "1d04h". */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  if (seconds < 9.95) return `${seconds.toFixed(1)}s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s}s`;
  const pair = (large: number, unit: string, small: number, subunit: string) => `${large}${unit}${String(small).padStart(2, "0")}${subunit}`;
  if (s < 3600) return pair(Math.floor(s / 60), "m", s % 60, "s");
  const minutes = Math.round(s / 60);
  if (minutes < 24 * 60) return pair(Math.floor(minutes / 60), "h", minutes % 60, "m");
  const hours = Math.round(s / 3600);
  return pair(Math.floor(hours / 24), "d", hours % 24, "h");
}

/** Colour of an expert's load relative to the mean (1 = balanced): idle, low, fair, high, overloaded. */
function loadColor(relative: number): Color {
  if (relative < 0.01) return "magenta";
  if (relative < 0.5) return "blue";
  if (relative < 1.5) return "green";
  return relative < 2.5 ? "yellow" : "red";
}

/** Eighths of a block, U+2581 to U+2588, after a low line for a dead expert. */
const blocks = ["_", ...Array.from({ length: 8 }, (_, i) => String.fromCodePoint(0x2581 + i))];

/**
 * One character per expert: half a block is the mean load, a whole one twice the mean or more, "_" a dead expert (below
 * 1 % of the mean). With more experts than `width`, neighbours share a character and the largest load of them shows.
 */
export function loadBar(load_E: readonly number[], paint: Paint, width = 32): string {
  const cells = Math.min(load_E.length, width);
  const total = load_E.reduce((sum, n) => sum + n, 0);
  return Array.from({ length: cells }, (_, cell) => {
    const experts = load_E.slice(Math.floor((cell * load_E.length) / cells), Math.floor(((cell + 1) * load_E.length) / cells));
    const relative = total === 0 ? 0 : (Math.max(...experts) * load_E.length) / total;
    const height = relative < 0.01 ? 0 : Math.min(8, Math.max(1, Math.round(relative * 4)));
    return paint(blocks[height]!, loadColor(relative));
  }).join("");
}
