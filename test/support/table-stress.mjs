/**
 * A thread of the table stress test: the one writer, or a reader. Runs on the built modules (workerData.dist).
 *
 * Endpoints    numbered; kind by number: every 16th is stable (in use for ever), the next never leased, the others come
 *              and go: a window moves over them, each is leased, in use, leased, quarantined and free in turn, and has
 *              another owner the next time round.
 * Stamps       one word an endpoint: round, stage and "busy", stored before and after each change. A look-up between two
 *              equal stamps that are not busy must give exactly the stage's value; while busy, the stage's or the one
 *              before; across a change, an owner of this endpoint. Everything else is a wrong answer.
 * Visitors     addresses that come, have eight endpoints in use for a while, and leave for ever; so their indices are used again,
 *              under the same ports. A stamp each, as above: there, it has its own value; before and after, none.
 * Late reader  in a superseded buffer that is full, an endpoint that came later may be missing: counted, not wrong.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';

const { dist, role, ports, shared, lookups, seed } = workerData;
const layout = await import(`${dist}/steering/table-layout.js`);
const { SteeringTable } = await import(`${dist}/steering/table.js`);

const ADDRESSES = 8;
const ENDPOINTS = 2 ** 17;
/** The last address is dedicated: what has no entry there belongs to WHOLE_OWNER. */
const WHOLE_ADDRESS = 0x0a000000 + ADDRESSES - 1;
const WHOLE_OWNER = 4242;
const LONGEST_WINDOW = 6000;
const STAGES = 5; // free, leased, in use, leased, quarantined
const [FREE, LEASED, USED, ENDED] = [0, 1, 2, 3];

// ENDPOINTS stamps, then: head of the window, its length, 1 when the readers are done, the latest visitor; from VISITS on a stamp each
// for the last VISITORS of them.
const stamps = new Int32Array(shared);
const HEAD = ENDPOINTS;
const WINDOW = ENDPOINTS + 1;
const DONE = ENDPOINTS + 2;
const LATEST = ENDPOINTS + 3;
const VISITS = ENDPOINTS + 16;
const VISITORS = 1024;
/** So many are there at a time. */
const STAY = 3;
/** Steps of the window between two. */
const EVERY = 64;

const addressOf = (n) => 0x0a000000 + (n % ADDRESSES);
const protoOf = (n) => (n >>> 3) & 1;
const portOf = (n) => 1 + (((n >>> 4) * 7919) % 65521);
const isStable = (n) => n % 16 === 5;
const isNever = (n) => n % 16 === 6;
const mayImply = (n) => n % 8 === 3;
const ownerOf = (n, round) => (Math.imul(n + 1, 0x9e3779b1) + Math.imul(round, 40503)) >>> 16;
const hiding = (n) => (addressOf(n) === WHOLE_ADDRESS ? ((WHOLE_OWNER << 16) | layout.STATE_IN_USE) >>> 0 : 0);
const stateOf = [0, layout.STATE_LEASED, layout.STATE_IN_USE, layout.STATE_LEASED, layout.STATE_QUARANTINED];
const stampOf = (round, stage, busy) => (round << 4) | (stage << 1) | busy;

/** The value word of endpoint n at a stage; where it has no entry, the wildcard's or none. */
function valueAt(n, round, stage) {
  if (stage === FREE) return hiding(n);
  return ((ownerOf(n, round) << 16) | (mayImply(n) ? layout.MAY_IMPLY : 0) | stateOf[stage]) >>> 0;
}

/** The same, as D7 may have changed it. */
function isAt(n, round, stage, value) {
  const expected = valueAt(n, round, stage);
  if (value === expected) return true;
  if (!mayImply(n) || (stage !== LEASED && stage !== ENDED)) return false;
  const implied = ((expected & ~layout.STATE_MASK) | layout.STATE_IN_USE | layout.IMPLICIT) >>> 0;
  return value === implied || value === (implied | layout.ACTIVE) >>> 0;
}

const visitorAddress = (v) => 0x0b000000 + v;
const visitAt = (v) => VISITS + (v % VISITORS);
const visitStamp = (v, isThere, busy) => (v << 2) | (isThere << 1) | busy;
const visitorValue = (v) => ((((v * 40503) & 0xffff) << 16) | layout.STATE_IN_USE) >>> 0;

function random(state) {
  let x = state | 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

async function write() {
  const { TableWriter } = await import(`${dist}/steering/table-writer.js`);
  const next = random(seed);
  let rebuilds = 0;
  let changes = 0;
  const writer = new TableWriter({
    endpoints: 16,
    addresses: 1,
    publish: (buffer, generation) => {
      rebuilds++;
      for (const port of ports) port.postMessage({ buffer, generation });
    },
  });
  ports.forEach((_port, reader) => writer.addReader(reader));
  for (let n = 0; n < ADDRESSES; n++) writer.addAddress(addressOf(n));
  writer.leaseWhole(WHOLE_ADDRESS, WHOLE_OWNER, false);
  writer.useWhole(WHOLE_ADDRESS);
  for (let n = 0; n < ENDPOINTS; n++) {
    if (!isStable(n)) continue;
    writer.lease(addressOf(n), protoOf(n), portOf(n), ownerOf(n, 0), false);
    writer.use(addressOf(n), protoOf(n), portOf(n));
  }
  // Readers start in whatever buffer is current now; what was published before does not concern them.
  for (const port of ports) port.postMessage({ start: true, buffer: writer.buffer, generation: writer.generation });

  const change = (n, round, stage) => {
    if (n < 0 || isStable(n) || isNever(n)) return;
    const at = [addressOf(n), protoOf(n), portOf(n)];
    Atomics.store(stamps, n, stampOf(round, stage, 1));
    if (stage === FREE) writer.release(...at);
    else if (stage === LEASED) writer.lease(...at, ownerOf(n, round), mayImply(n));
    else if (stage === USED) writer.use(...at);
    else if (stage === ENDED) writer.endUse(...at);
    else writer.quarantine(...at);
    Atomics.store(stamps, n, stampOf(round, stage, 0));
    changes++;
  };

  const indices = new Set();
  let reused = 0;
  const come = (v) => {
    Atomics.store(stamps, visitAt(v), visitStamp(v, 1, 1));
    const index = writer.addAddress(visitorAddress(v));
    if (indices.has(index)) reused++;
    indices.add(index);
    for (let port = 1; port <= 4; port++) {
      for (const proto of [0, 1]) {
        writer.lease(visitorAddress(v), proto, port, visitorValue(v) >>> 16, false);
        writer.use(visitorAddress(v), proto, port);
      }
    }
    Atomics.store(stamps, visitAt(v), visitStamp(v, 1, 0));
    Atomics.store(stamps, LATEST, v);
  };
  const leave = (v) => {
    Atomics.store(stamps, visitAt(v), visitStamp(v, 0, 1));
    writer.removeAddress(visitorAddress(v));
    Atomics.store(stamps, visitAt(v), visitStamp(v, 0, 0));
  };
  let visits = 0;

  for (let round = 1; Atomics.load(stamps, DONE) === 0; round++) {
    // The window grows and shrinks from round to round, so that tables grow, fill with tombstones and are rebuilt.
    const window = 200 + (next() % (LONGEST_WINDOW - 200));
    Atomics.store(stamps, WINDOW, window);
    for (let head = 0; head < ENDPOINTS + window; head++) {
      Atomics.store(stamps, HEAD, head);
      if (head < ENDPOINTS) change(head, round, 1);
      for (let stage = 2; stage < STAGES; stage++) {
        const n = head - Math.floor((window * (stage - 1)) / STAGES);
        if (n < ENDPOINTS) change(n, round, stage);
      }
      change(head - window, round, FREE);
      if (head % EVERY === 0) {
        come(++visits);
        if (visits > STAY) leave(visits - STAY);
      }
      if (head % 32 !== 0) continue;
      for (const [reader, port] of ports.entries()) {
        for (let message = receiveMessageOnPort(port); message !== undefined; message = receiveMessageOnPort(port)) writer.adopted(reader, message.message);
      }
      if (head % 8192 === 0) writer.sweepIdle(head % 16384 === 0 ? 0 : 1);
      if (Atomics.load(stamps, DONE) !== 0) break;
    }
  }
  parentPort.postMessage({ role, rebuilds, changes, visits, reused, highest: Math.max(...indices) });
}

function read() {
  const [port] = ports;
  const next = random(seed);
  const found = { role, lookups: 0, exact: 0, stable: 0, never: 0, implied: 0, visited: 0, adopted: 0, late: 0, wrong: 0, examples: [] };
  let table;
  let latest;
  const receive = () => {
    for (let message = receiveMessageOnPort(port); message !== undefined; message = receiveMessageOnPort(port)) {
      if (message.message.start || latest?.generation < message.message.generation) latest = message.message;
    }
  };
  while (latest === undefined) {
    receive();
    Atomics.wait(stamps, DONE, 0, 1);
  }
  const adopt = () => {
    table = new SteeringTable(latest.buffer);
    port.postMessage(latest.generation);
    found.adopted++;
  };
  adopt();

  const isLate = (value, n) => value === hiding(n) && table.superseded && 4 * (table.words[layout.H_KEYS] + 1) > 3 * table.words[layout.H_CAPACITY];
  const wrong = (n, value, before, after) => {
    found.wrong++;
    if (found.examples.length < 5) found.examples.push({ n, value: value.toString(16), before: before.toString(16), after: after.toString(16), generation: table.generation });
  };

  const lookUp = (n) => {
    const before = Atomics.load(stamps, n);
    const value = table.value(addressOf(n), protoOf(n), portOf(n));
    check(n, before, value, Atomics.load(stamps, n));
  };

  const visit = Array.from({ length: 32 }, () => ({ v: 0, proto: 0, port: 0, before: 0, at: 0 }));
  /** Visitors, in the same way as lookUpSeveral: one that comes next, those that are there, some that have left. */
  const lookUpVisitors = () => {
    const latest = Atomics.load(stamps, LATEST);
    for (const one of visit) {
      const r = next();
      one.v = Math.max(1, latest + 1 - (r % (2 * STAY + 2)));
      one.proto = (r >>> 8) & 1;
      one.port = 1 + ((r >>> 9) & 3);
      one.before = Atomics.load(stamps, visitAt(one.v));
      one.at = table.position(visitorAddress(one.v), one.proto, one.port);
    }
    for (const { v, proto, port, before, at } of visit) {
      let value = at < 0 ? 0 : Atomics.load(table.words, at);
      if (value === 0) value = table.value(visitorAddress(v), proto, port);
      const after = Atomics.load(stamps, visitAt(v));
      found.lookups++;
      const isThere = before === visitStamp(v, 1, 0);
      const isSure = before === after && (before & 1) === 0;
      const isOwn = isSure ? isThere && value === visitorValue(v) : value >>> 16 === visitorValue(v) >>> 16;
      if (isOwn) found.visited++;
      else if (value === 0 && isSure && isThere && table.superseded) found.late++;
      else if (value !== 0 || (isSure && isThere)) wrong(-v, value, before, after);
    }
  };

  // As the engine does it: the positions of a batch first, the values later; what is free by then is looked up again.
  const several = Array.from({ length: 32 }, () => ({ n: 0, before: 0, at: 0 }));
  const lookUpSeveral = (pick) => {
    for (const one of several) {
      one.n = pick();
      one.before = Atomics.load(stamps, one.n);
      one.at = table.position(addressOf(one.n), protoOf(one.n), portOf(one.n));
    }
    for (const { n, before, at } of several) {
      let value = at < 0 ? 0 : Atomics.load(table.words, at);
      if ((value & layout.STATE_MASK) === layout.STATE_FREE) value = table.value(addressOf(n), protoOf(n), portOf(n));
      check(n, before, value, Atomics.load(stamps, n));
    }
  };

  const check = (n, before, value, after) => {
    found.lookups++;
    if (isStable(n)) {
      found.stable++;
      if (value !== ((ownerOf(n, 0) << 16) | layout.STATE_IN_USE) >>> 0) wrong(n, value, before, after);
      return;
    }
    if (isNever(n)) {
      found.never++;
      if (value !== hiding(n)) wrong(n, value, before, after);
      return;
    }
    const round = before >> 4;
    const stage = (before >> 1) & 7;
    if (before !== after) {
      // Anything that this endpoint was in the rounds between.
      let isOwn = value === hiding(n);
      for (let r = Math.max(0, round - 1); r <= after >> 4; r++) isOwn ||= value >>> 16 === ownerOf(n, r);
      if (!isOwn) wrong(n, value, before, after);
    } else if ((before & 1) === 1) {
      const [was, wasRound] = stage === LEASED ? [FREE, round] : stage === FREE ? [STAGES - 1, round] : [stage - 1, round];
      if (!isAt(n, round, stage, value) && !isAt(n, wasRound, was, value) && !isLate(value, n)) wrong(n, value, before, after);
    } else {
      found.exact++;
      if (!isAt(n, round, stage, value)) {
        if (isLate(value, n)) found.late++;
        else wrong(n, value, before, after);
      } else if (mayImply(n) && (value & layout.STATE_MASK) === layout.STATE_LEASED && next() % 4 === 0) {
        // D7, as the egress verdict does it.
        const at = table.position(addressOf(n), protoOf(n), portOf(n));
        const implied = ((value & ~layout.STATE_MASK) | layout.STATE_IN_USE | layout.IMPLICIT | layout.ACTIVE) >>> 0;
        if (at >= 0 && Atomics.compareExchange(table.words, at, value, implied) === value) found.implied++;
      }
    }
  };

  /** A stable endpoint, one never leased, any, or one near which something is happening. */
  const pick = () => {
    const r = next();
    const sort = r & 15;
    if (sort < 3) return ((r >>> 4) % (ENDPOINTS / 16)) * 16 + 5;
    if (sort < 4) return ((r >>> 4) % (ENDPOINTS / 16)) * 16 + 6;
    if (sort < 6) return (r >>> 4) % ENDPOINTS;
    // Most of them just ahead of a stage's place in the window: about to change.
    const window = Atomics.load(stamps, WINDOW);
    const places = sort < 10 ? Math.floor((window * ((r >>> 4) % STAGES)) / STAGES) - ((r >>> 8) % 16) + 4 : (r >>> 4) % (window + 20);
    return Math.min(ENDPOINTS - 1, Math.max(0, Atomics.load(stamps, HEAD) - places));
  };

  let patience = 0;
  while (found.lookups < lookups) {
    // A batch: the same table throughout, as in the engine. Readers adopt late on purpose.
    for (let i = 0; i < 128; i++) lookUp(pick());
    for (let i = 0; i < 4; i++) lookUpSeveral(pick);
    lookUpVisitors();
    if (!table.superseded || --patience > 0) continue;
    receive();
    if (latest.generation > table.generation) {
      adopt();
      patience = next() % 40;
    }
  }
  parentPort.postMessage(found);
}

if (role === 'writer') await write();
else read();
