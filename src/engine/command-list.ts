import { type ErrorCode, errorCodes, SwitchyardError } from "../errors.js";
import type { NativeAddon } from "./native-addon.js";

type Argument = number | Float64Array;

/** Numbers that a list has room for: the ops of some layers. A longer list of addresses than that is run at once. */
const room = 2 ** 14;
/** Whenever the list has become longer by so many numbers (a few ops), the other thread is told how far it may go. */
const handedOver = 64;

/** One per addon: its engines share memory, so that an op of one must not overtake those of another that still wait. */
const lists = new WeakMap<NativeAddon, CommandList>();

/**
 * Ops that are run later than JavaScript calls them. A call writes the number of the op and its arguments, all numbers, into the list; a native thread runs
 * what is in it while JavaScript prepares the ops that follow, and `run` runs what is left. That saves the time of JavaScript, which would otherwise
 * stand between the products, and its data stays in the caches of its own core.
 */
export class CommandList {
  /** The addon. Inside `together` its ops wait in the list, and whatever else is called of it runs the list first. */
  readonly addon: NativeAddon;
  private readonly list = new Float64Array(room);
  private length = 0;
  /** How much of it the other thread may run. */
  private started = 0;
  private isOpen = false;
  /** What is to be done where the list stops, by the number of the op, from 1 on. */
  private stops: (() => void)[] = [];

  private readonly real: NativeAddon;
  private readonly demandNumber: number;

  private constructor(addon: NativeAddon) {
    this.real = withTypedErrors(addon);
    const numbers = new Map(addon.commands().map((name, number) => [name, number]));
    this.demandNumber = numbers.get("demand") as number;
    const entries = Object.entries(this.real).map(([name, op]: [string, (...args: unknown[]) => unknown]) => {
      const number = numbers.get(name);
      if (number !== undefined) return [name, (...args: Argument[]) => (this.isOpen && this.push(number, args) ? undefined : op(...args))];
      const first = (...args: unknown[]) => {
        this.run();
        return op(...args);
      };
      return [name, first];
    });
    this.addon = Object.fromEntries(entries) as unknown as NativeAddon;
  }

  /** The list of all engines of an addon. */
  static of(addon: NativeAddon): CommandList {
    let list = lists.get(addon);
    if (list === undefined) lists.set(addon, (list = new CommandList(addon)));
    return list;
  }

  /** Runs `compute`, then the ops of it that still wait, even when it throws. Throws what `compute` throws, or what the first op throws that fails. */
  together<R>(compute: () => R): R {
    if (this.isOpen) return compute();
    this.isOpen = true;
    try {
      return compute();
    } finally {
      this.isOpen = false;
      this.run();
    }
  }

  /** The op `demand`. Where it finds something missing, now or when the list has come to it, `provide` is called, which may use the engine, but not `together`. */
  demand(args: readonly number[], provide: () => void): void {
    if (!this.isOpen) {
      if (this.real.demand(...args, 1)) provide();
      return;
    }
    this.makeRoom(args.length + 4);
    this.push(this.demandNumber, [...args, this.stops.push(provide)]);
  }

  /** Adds an op: its number, how many arguments and how many addresses it has, the arguments, the addresses. Returns false if it never fits: then all others have run. */
  private push(number: number, args: readonly Argument[]): boolean {
    let addresses: Float64Array | undefined;
    for (const x of args) if (typeof x !== "number") addresses = x;
    const length = addresses === undefined ? 0 : addresses.length;
    const needed = 3 + args.length + length;
    this.makeRoom(needed);
    if (needed > room) return false;
    const { list } = this;
    let at = this.length;
    list[at++] = number;
    list[at++] = args.length;
    list[at++] = length;
    for (const x of args) list[at++] = typeof x === "number" ? x : 0;
    if (addresses !== undefined) list.set(addresses, at);
    this.length = at + length;
    if (this.length - this.started >= handedOver) {
      this.started = this.length;
      this.real.start(list, this.length);
    }
    return true;
  }

  private makeRoom(numbers: number): void {
    if (this.length + numbers > room) this.run();
  }

  private run(): void {
    const { length, list, stops, isOpen } = this;
    this.length = this.started = 0;
    if (length === 0) return;
    this.stops = [];
    this.isOpen = false;
    try {
      for (let stop = this.real.run(list, length); stop > 0; stop = this.real.run(list, length)) this.resume(stops[stop - 1] as () => void);
    } finally {
      this.isOpen = isOpen;
    }
  }

  /** If it fails, the ops after it are not run. */
  private resume(provide: () => void): void {
    try {
      provide();
    } catch (error) {
      this.real.run(this.list, 0);
      throw error;
    }
  }
}

/** The same functions; what they throw with a code of ours, as native code does, is a SwitchyardError. */
function withTypedErrors(addon: NativeAddon): NativeAddon {
  const entries = Object.entries(addon).map(([name, op]: [string, (...args: unknown[]) => unknown]) => {
    const typed = (...args: unknown[]) => {
      try {
        return op(...args);
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        throw code !== undefined && code in errorCodes ? new SwitchyardError(code as ErrorCode, message, { cause: error }) : error;
      }
    };
    return [name, typed];
  });
  return Object.fromEntries(entries) as unknown as NativeAddon;
}
