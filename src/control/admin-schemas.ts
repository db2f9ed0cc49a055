/** JSON schemas of the admin interface's routes: what they take is checked against them, and /openapi.json is made of them. */

import { guestJsonSchema } from '../base/config.js';

const text = { type: 'string' } as const;
const wholeNumber = { type: 'integer' } as const;
const yesNo = { type: 'boolean' } as const;
const time = { type: 'string', description: 'ISO 8601' } as const;
const timeOrNull = { type: ['string', 'null'], description: 'ISO 8601; null: no end' } as const;
const textOrNull = { type: ['string', 'null'] } as const;
const portsGiven = { type: 'string', minLength: 1, maxLength: 8192, description: 'ports, as 80 or 80,443,8000-8999' } as const;
const guestGiven = { type: 'string', minLength: 1, maxLength: 64, description: 'the name of a guest' } as const;
const addressGiven = { type: 'string', maxLength: 15, description: 'an IPv4 address' } as const;
const proto = { type: 'string', enum: ['tcp', 'udp'] } as const;

function object(properties: Record<string, object>): object {
  return { type: 'object', properties, required: Object.keys(properties) };
}
function list(items: object): object {
  return { type: 'array', items };
}
/** What a client sends: unknown keys are refused, they are mostly slips of the pen. */
function given(properties: Record<string, object>, required: string[]): object {
  return { type: 'object', properties, required, additionalProperties: false };
}

const portTexts = object({ tcp: text, udp: text });
const blocks = list(object({ first: wholeNumber, last: wholeNumber, until: time }));
const counters = { type: 'object', additionalProperties: true, description: 'frames and bytes by direction, verdict and reason, and by guest' };
const failure = { ...object({ error: { ...text, description: 'a permanent code, as ERR_PORT_TAKEN' }, message: text }), description: 'refused' };

const guest = object({
  name: text,
  source: { type: 'string', enum: ['configuration', 'run time'] },
  link: object({ description: text, attached: yesNo }),
  agent: { type: 'string', enum: ['connected', 'away', 'none'] },
  whole: textOrNull,
  address: textOrNull,
  leased: portTexts,
  used: portTexts,
  blocks,
  count: wholeNumber,
  maxPorts: wholeNumber,
});
const status = object({
  pid: wholeNumber,
  startedAt: time,
  nic: object({ name: text, mac: text, mtu: wholeNumber, backend: text }),
  networks: list(object({ name: text, nic: text, mac: text })),
  addresses: list(text),
  notInUse: text,
  guests: list(guest),
  agents: object({ bad: wholeNumber, closed: wholeNumber }),
  cpuLatency: { ...object({ isHeld: yesNo, heldMs: wholeNumber }), type: ['object', 'null'] },
  counters,
});
const health = object({ status: { type: 'string', enum: ['ok', 'degraded'] }, pid: wholeNumber, startedAt: time, problems: list(text) });
const lease = object({
  guest: text,
  addresses: list(text),
  proto: text,
  ports: text,
  state: { type: 'string', enum: ['leased', 'quarantined'] },
  source: { type: 'string', enum: ['configuration', 'run time', 'granted'] },
  block: yesNo,
  since: time,
  until: timeOrNull,
});
const leaseAnswer = object({ guest: text, changed: portTexts, leased: portTexts, blocks, until: timeOrNull });
const place = object({
  address: text,
  state: { type: 'string', enum: ['free', 'leased', 'in use', 'quarantined'] },
  guest: textOrNull,
  source: textOrNull,
  since: timeOrNull,
  until: timeOrNull,
  verdict: { type: 'string', enum: ['forward', 'discard', 'reject', 'pass'] },
  reason: textOrNull,
  words: list(text),
});
const hostSocket = object({ state: text, local: text, owner: textOrNull });
const explanation = object({ proto, port: wholeNumber, places: list(place), host: { type: ['array', 'null'], items: hostSocket }, words: list(text) });

const poolLine = {
  pool: text,
  network: text,
  address: { ...text, description: 'an address, or a range of unused ones' },
  count: wholeNumber,
  state: { type: 'string', enum: ['unused', 'leased', 'in use', 'quarantined'] },
  guest: textOrNull,
  ports: textOrNull,
  since: timeOrNull,
  until: timeOrNull,
};

const mapStatus = {
  guest: text,
  inside: text,
  gateway: text,
  block: { ...text, description: 'the ports that its own connections leave by' },
  maps: list(object({ proto, ports: text, to: text })),
};
const mapChange = object({ ...mapStatus, message: text });
const portGiven = { type: 'integer', minimum: 1, maximum: 65535, description: 'the inside port of the first outside port; left out: the same' } as const;

interface RouteSchema {
  summary: string;
  body?: object;
  querystring?: object;
  params?: object;
  response: Record<string, object>;
}

function route(summary: string, answer: object, takes: Pick<RouteSchema, 'body' | 'querystring' | 'params'> = {}): RouteSchema {
  return { summary, ...takes, response: { '2xx': { description: 'done', ...answer }, default: failure } };
}

export const schemas = {
  health: route('Whether the daemon runs as configured, and what is missing', health),
  status: route('NIC, addresses, guests with what they hold and use, counters', status),
  counters: route('Counters of the data plane', counters),
  guests: route('Every guest with what it holds and uses', list(guest)),
  addGuest: route('Add a guest, with settings as in the configuration; it is kept over restarts', guest, {
    body: guestJsonSchema({ name: guestGiven }),
  }),
  removeGuest: route('Remove a guest: its uses end, its leases are quarantined, its link is given back', object({ name: text, returns: yesNo, message: text }), {
    params: given({ name: guestGiven }, ['name']),
  }),
  leases: route('Every lease and quarantine, or those of one guest', list(lease), { querystring: given({ guest: guestGiven }, []) }),
  grant: route('Grant a guest a block, or ports by name, within its policy', leaseAnswer, {
    body: given({ guest: guestGiven, block: yesNo, tcp: portsGiven, udp: portsGiven }, ['guest']),
  }),
  revoke: route('Take ports back from a guest; its agent is told', leaseAnswer, {
    querystring: given({ guest: guestGiven, tcp: portsGiven, udp: portsGiven }, ['guest']),
  }),
  renew: route('Let all leases of a guest last from now on', leaseAnswer, { body: given({ guest: guestGiven }, ['guest']) }),
  pools: route('Every address of the pools, and every block of ports of one: its state, whose it is and since when', list(object(poolLine))),
  explainAddress: route('Who has an address of a pool, or ports of it, why it was chosen over the others, and where a frame for it goes', object({ address: text, pool: text, network: text, lines: list(object(poolLine)), words: list(text) }), {
    params: given({ address: addressGiven }, ['address']),
  }),
  maps: route('Every mapped guest with what is mapped to it, or one of them', list(object(mapStatus)), { querystring: given({ guest: guestGiven }, []) }),
  map: route('Map outside ports to a mapped guest; it is kept over restarts', mapChange, {
    body: given({ guest: guestGiven, tcp: portsGiven, udp: portsGiven, to: portGiven }, ['guest']),
  }),
  unmap: route('Map outside ports no more: they are quarantined', mapChange, { querystring: given({ guest: guestGiven, tcp: portsGiven, udp: portsGiven }, ['guest']) }),
  explain: route('Who has an endpoint, since when, and where a frame for it goes', explanation, {
    querystring: given({ port: { type: 'integer', minimum: 1, maximum: 65535 }, proto, address: addressGiven }, ['port', 'proto']),
  }),
};
