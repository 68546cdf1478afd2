import { colorEnabled, type Environment, type Paint, painter, type TextStream, visibleWidth } from "../train/log/format.js";

/** What a command needs to know about where it prints. */
export interface Terminal {
  color: boolean;
  paint: Paint;
  /** Columns; 80 where unknown. */
  width: number;
  /** Text of a model or a file as it may be printed: a terminal would obey its control characters, a file gets them as they are. */
  shown(text: string): string;
}

export function terminal(stream: TextStream, env: Environment): Terminal {
  const color = colorEnabled(stream, env);
  return { color, paint: painter(color), width: stream.columns ?? 80, shown: (text) => (stream.isTTY === true ? withoutControls(text) : text) };
}

/** Control characters but tab and line break as their pictures (U+2400 to U+2421), those above ASCII as U+FFFD. */
function withoutControls(text: string): string {
  return text.replaceAll(/(?!\t|\r?\n)\p{Cc}/gu, (c) => (c < "\u007f" ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : c === "\u007f" ? "\u2421" : "\ufffd"));
}

/** Columns two spaces apart, under a header; cells that are numbers stand right. Every row has the header's length. */
export function table(header: readonly string[], rows: readonly (readonly (string | number)[])[], paint: Paint = painter(false)): string {
  const cells = rows.map((row) => row.map(String));
  const widths = header.map((name, column) => Math.max(visibleWidth(name), ...cells.map((row) => visibleWidth(row[column]!))));
  const numeric = header.map((_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === "number"));
  const line = (row: readonly string[]): string =>
    row.map((cell, column) => pad(cell, widths[column]!, numeric[column]!)).join("  ").trimEnd();
  return [paint(line(header), "dim"), ...cells.map(line)].join("\n");
}

function pad(cell: string, width: number, right: boolean): string {
  const space = " ".repeat(width - visibleWidth(cell));
  return right ? space + cell : cell + space;
}

/**
 * Text on the background of one expert: hues of the 6 x 6 x 6 colour cube that lie far apart for neighbours, and are the
 * same in every layer and run. Without colour the text as it is.
 */
export function paintExpert(text: string, expert: number, color: boolean): string {
  if (!color) return text;
  const hue = (expert * goldenAngle) % 6;
  const level = (shift: number): number => Math.round(2 + 3 * Math.min(1, Math.max(0, Math.abs(((hue + shift) % 6) - 3) - 1)));
  return `\u001b[48;5;${16 + 36 * level(0) + 6 * level(4) + level(2)}m\u001b[38;5;16m${text}\u001b[0m`;
}

/** In sixths of a turn. */
const goldenAngle = 6 * 0.381966;
