/**
 * Messages between a guest's agent and the host: their shapes, checked on arrival. In words, with examples: README.md.
 *
 * Fields      unknown ones are ignored; a set of ports is its text on the wire ("80,8000-8999", "" for none) and a PortSet here.
 * State       answers carry all that the guest holds, not what has changed: a lost answer is mended by any later one.
 * Clocks      `until` is the host's wall clock, for people; an agent renews by its own clock, every third of leaseTimeMs.
 * Not here    what is granted (control/leases.ts), lines and JSON-RPC (codec.ts).
 */
import { z } from 'zod';
import { messageOf } from '../base/errors.js';
import { parseIpv4, parseMac } from '../wire/address.js';
import { PortSet } from '../wire/port-set.js';

export const PROTOCOL_VERSION = 1;

const ports = z.string().transform((text, context) => {
  if (text === '') return PortSet.EMPTY;
  try {
    return PortSet.parse(text);
  } catch (error) {
    context.addIssue({ code: 'custom', message: messageOf(error) });
    return z.NEVER;
  }
});
const someProtocols = z.object({ tcp: ports.default(PortSet.EMPTY), udp: ports.default(PortSet.EMPTY) });
const port = z.int().min(1).max(65535);
const ipv4 = z.string().refine((text) => parseIpv4(text) !== null, { message: 'not an IPv4 address' });
const milliseconds = z.number().min(0);
const count = z.int().min(0);

const block = z.object({ first: port, last: port, until: milliseconds.optional() }).refine(({ first, last }) => first <= last, { message: 'ends before it starts' });
const address = z.object({ address: ipv4, prefix: z.int().min(0).max(32) });
const mtu = z.int().min(68).max(65535);
const policy = z.object({
  block: count.default(1024),
  maxPorts: count.optional(),
  threshold: z.enum(['strict', 'literal']).optional(),
  allow: someProtocols.optional(),
  deny: someProtocols.optional(),
  implicit: z.boolean().default(true),
  leaseTimeMs: z.number().positive().default(3_600_000),
});
const holding = z.object({
  leases: someProtocols,
  blocks: z.array(block).default([]),
  until: milliseconds.optional(),
});
const welcome = holding.extend({
  guest: z.string(),
  addresses: z.array(address),
  gateway: ipv4.nullable().default(null),
  mtu: mtu.nullable().default(null),
  mac: z.string().refine((text) => parseMac(text) !== null, { message: 'not a MAC address' }).nullable().default(null),
  dns: z.array(z.string()).default([]),
  policy: policy.prefault({}),
  epoch: count,
});
const nothing = z.object({});

/** Agent → host: what may be asked, and the answer. */
export const REQUESTS = {
  hello: { params: z.object({ version: z.int(), epoch: count, used: someProtocols.prefault({}) }), result: welcome },
  'list-free': { params: z.object({ proto: z.enum(['tcp', 'udp']).optional(), limit: count.optional() }), result: someProtocols },
  request: { params: someProtocols.extend({ block: z.boolean().default(false) }), result: holding },
  release: { params: someProtocols, result: nothing },
  use: { params: someProtocols.extend({ all: z.boolean().default(false) }), result: z.object({ leases: someProtocols.optional(), blocks: z.array(block).optional(), until: milliseconds.optional() }) },
  'end-use': { params: someProtocols, result: nothing },
  renew: { params: nothing, result: z.object({ until: milliseconds.optional() }) },
} as const;

/** Host → agent, without an answer. */
export const NOTIFICATIONS = {
  revoked: someProtocols.extend({ reason: z.string().default('') }),
  granted: holding,
  changed: z.object({
    addresses: z.array(address).optional(),
    gateway: ipv4.nullable().optional(),
    dns: z.array(z.string()).optional(),
    mtu: mtu.nullable().optional(),
  }),
} as const;

const refusal = z.object({ code: z.string(), epoch: count.optional() });

export type Method = keyof typeof REQUESTS;
/** What a request carries, as the receiver has it. */
export type Params<M extends Method> = z.output<(typeof REQUESTS)[M]['params']>;
/** The same for its sender, who may leave out what has a default. */
export type ParamsToSend<M extends Method> = Sent<z.input<(typeof REQUESTS)[M]['params']>>;
export type Result<M extends Method> = z.output<(typeof REQUESTS)[M]['result']>;
export type ResultToSend<M extends Method> = Sent<z.input<(typeof REQUESTS)[M]['result']>>;
export type Notification = keyof typeof NOTIFICATIONS;
export type Notice<N extends Notification> = z.output<(typeof NOTIFICATIONS)[N]>;
export type NoticeToSend<N extends Notification> = Sent<z.input<(typeof NOTIFICATIONS)[N]>>;
export type Ports = z.output<typeof someProtocols>;
export type Welcome = Result<'hello'>;
export type Holding = Result<'request'>;
export type Block = z.output<typeof block>;

/** In what is sent, a set of ports may stand in the place of its text. */
type Sent<T> = { [K in keyof T]: K extends 'tcp' | 'udp' ? PortSet | T[K] : T[K] extends (infer Item)[] | undefined ? Item[] | Exclude<T[K], unknown[]> : T[K] extends object | undefined ? Sent<T[K]> : T[K] };

export type Checked<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string };

export function isMethod(name: string): name is Method {
  return Object.hasOwn(REQUESTS, name);
}

export function isNotification(name: string): name is Notification {
  return Object.hasOwn(NOTIFICATIONS, name);
}

/** What was sent, its defaults filled in; or one line that says what is wrong with it. */
export function checkParams<M extends Method>(method: M, value: unknown): Checked<Params<M>> {
  return check<Params<M>>(REQUESTS[method].params, value);
}

export function checkResult<M extends Method>(method: M, value: unknown): Checked<Result<M>> {
  return check<Result<M>>(REQUESTS[method].result, value);
}

export function checkNotice<N extends Notification>(name: N, value: unknown): Checked<Notice<N>> {
  return check<Notice<N>>(NOTIFICATIONS[name], value);
}

/** The `data` of a refusal: its permanent code, and with ERR_OLD_EPOCH the epoch that the host has. */
export function readRefusal(data: unknown): { code: string; epoch?: number | undefined } {
  const read = refusal.safeParse(data);
  return read.success ? read.data : { code: 'ERR_REFUSED' };
}

/** Ranges a message may carry in one set: two sets of them, at 12 bytes each, and the rest stay below a line's limit. */
const MAX_RANGES = 2500;

/** Cuts what does not fit in one message into parts that do; one empty part for nothing. */
export function inParts({ tcp, udp }: Ports): Ports[] {
  const [tcpParts, udpParts] = [cut(tcp), cut(udp)];
  const parts: Ports[] = [];
  for (let i = 0; i < Math.max(1, tcpParts.length, udpParts.length); i++) parts.push({ tcp: tcpParts[i] ?? PortSet.EMPTY, udp: udpParts[i] ?? PortSet.EMPTY });
  return parts;
}

function cut(set: PortSet): PortSet[] {
  const ranges = [...set.ranges()];
  if (ranges.length <= MAX_RANGES) return [set];
  const parts: PortSet[] = [];
  for (let i = 0; i < ranges.length; i += MAX_RANGES) parts.push(PortSet.fromRanges(ranges.slice(i, i + MAX_RANGES)));
  return parts;
}

function check<T>(schema: z.ZodType<unknown>, value: unknown): Checked<T> {
  const read = schema.safeParse(value);
  if (read.success) return { ok: true, value: read.data as T };
  const [issue] = read.error.issues;
  const where = issue.path.map(String).join('.');
  return { ok: false, problem: `${where === '' ? '' : `${where}: `}${issue.message}`.slice(0, 300) };
}
