/** What a list needs of an addon: see native/binding/commands.cpp. */
export interface ListAddon {
  /** Names of the ops that a list can hold, in the order of their numbers. */
  commands(): string[];
  start(list: Float64Array, length: number): void;
  run(list: Float64Array, length: number): void;
}

type Argument = number | Float64Array;

/** Numbers that a list has room for: the ops of some layers. */
const room = 2 ** 14;
/** Numbers of so many ops are handed over at a time. */
const some = 64;

/**
 * Ops that JavaScript does not wait for: another thread runs them while it prepares those that follow, and one call runs what is left. In between,
 * JavaScript does not lose the caches to what they read.
 */
export class CommandList<A extends ListAddon> {
  /** The addon, with ops that wait in the list; whatever else is called of it runs the list first. */
  readonly addon: A;
  private readonly list = new Float64Array(room);
  private length = 0;
  private started = 0;

  constructor(private readonly real: A) {
    const numbers = new Map(real.commands().map((name, number) => [name, number]));
    const entries = Object.entries(real).map(([name, op]: [string, (...args: unknown[]) => unknown]) => {
      const number = numbers.get(name);
      if (number !== undefined) return [name, (...args: Argument[]) => this.push(number, args)];
      const first = (...args: unknown[]) => {
        this.run();
        return op(...args);
      };
      return [name, first];
    });
    this.addon = Object.fromEntries(entries) as A;
  }

  private push(number: number, args: readonly Argument[]): void {
    const addresses = args.find((x) => typeof x === "object");
    const { length = 0 } = addresses ?? {};
    if (this.length + 3 + args.length + length > room) this.run();
    const { list } = this;
    let at = this.length;
    list[at++] = number;
    list[at++] = args.length;
    list[at++] = length;
    for (const x of args) list[at++] = typeof x === "number" ? x : 0;
    if (addresses !== undefined) list.set(addresses, at);
    this.length = at + length;
    if (this.length - this.started < some) return;
    this.started = this.length;
    this.real.start(list, this.length);
  }

  /** Throws what the first op that fails throws; those after it are forgotten. */
  run(): void {
    const { length } = this;
    this.length = this.started = 0;
    if (length > 0) this.real.run(this.list, length);
  }

  /** Forgets what waits. */
  clear(): void {
    if (this.started > 0) this.real.run(this.list, 0);
    this.length = this.started = 0;
  }
}
