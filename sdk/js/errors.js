/**
 * How a step fails on purpose: throw one of these. `payload` is what `weir:step/types.failure` looks like from JavaScript; the
 * component's bindings return it to Weir. Any other exception has none, and traps.
 */
export class Failure extends Error {
  constructor(tag, reason, value, options) {
    super(reason, options);
    this.name = new.target.name;
    this.payload = { tag, val: value };
  }
}

/** This input can never work: it becomes a dead letter. */
export class Reject extends Failure {
  constructor(reason, options) {
    super("reject", reason, String(reason), options);
  }
}

/** Try again, as `retry:` in the graph allows; after `afterMs` milliseconds if given. */
export class Retry extends Failure {
  constructor(reason, { afterMs, ...options } = {}) {
    const delay = afterMs === undefined ? undefined : BigInt(Math.max(0, Math.round(afterMs)));
    super("retry", reason, [delay, String(reason)], options);
    this.afterMs = afterMs;
  }
}

/** Nothing of this graph can work any more. */
export class Fatal extends Failure {
  constructor(reason, options) {
    super("fatal", reason, String(reason), options);
  }
}

export function reject(reason, options) {
  throw new Reject(reason, options);
}

export function retry(reason, options) {
  throw new Retry(reason, options);
}

export function fatal(reason, options) {
  throw new Fatal(reason, options);
}
