import { Command } from "commander";
import type { Io } from "./io.js";
export function demoCommand(io: Io): Command { void io; return new Command("demo"); }
