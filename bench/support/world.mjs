/**
 * What the steering cases run on: a steering table with N endpoints, and a pool of 64-byte frames for them.
 *
 * Endpoints    N/65536 addresses (at least one) with as many TCP as UDP ports each; of each 64 endpoints one is
 *              quarantined, two are leased and not in use, the rest in use by one of 64 links (or as many as asked for).
 * Frames       64 bytes each, TCP and UDP alike, endpoints drawn evenly: 90 % hit one in use; of 100 frames 4 are not leased,
 *              3 not in use, 1 quarantined, 1 for an address that is not ours, 1 an ARP request, IPv6 or echo request.
 * Layouts      ring: a slot each 2 KiB, the IP header 16-byte aligned, as in a packet ring. dense: 80 bytes apart, as in a
 *              capture file (16 bytes of record header before each).
 */
import { load } from './dist.mjs';
import { Random } from './random.mjs';

export const FRAME_BYTES = 64;
export const LINKS = 64;
const FIRST_PORT = 1024;
/** 10.77.0.0: neighbours of each other, as an operator's addresses are. */
const FIRST_ADDRESS = 0x0a4d0000;
export const STATION_MAC = Uint8Array.of(0x02, 0, 0, 0, 0, 1);

const LEASED = 1;
const IN_USE = 2;
const QUARANTINED = 3;

export const LAYOUTS = {
  ring: { pitch: 2048, first: 82 },
  dense: { pitch: 80, first: 40 },
};

/** Endpoint `n` of `endpoints`: [address, protocol bit, port]. */
function endpointAt(n, endpoints) {
  const perAddress = Math.min(endpoints, 65536);
  const within = n % perAddress;
  return [FIRST_ADDRESS + Math.floor(n / perAddress), within & 1, FIRST_PORT + (within >> 1)];
}

function stateAt(n) {
  const place = Math.imul(n, 0x9e3779b1) >>> 26;
  return place === 0 ? QUARANTINED : place <= 2 ? LEASED : IN_USE;
}

/** One of the endpoints in this state, drawn evenly: [address, protocol bit, port]. */
export function drawEndpoint(random, endpoints, state = IN_USE) {
  for (;;) {
    const n = random.below(endpoints);
    if (stateAt(n) === state) return endpointAt(n, endpoints);
  }
}

/** A table writer with `endpoints` leased, and used, as above. */
export async function makeTable(endpoints, links = LINKS) {
  const { TableWriter } = await load('steering/table-writer');
  const writer = new TableWriter({ endpoints, addresses: Math.ceil(endpoints / 65536) });
  for (let n = 0; n < endpoints; n++) {
    const [address, proto, port] = endpointAt(n, endpoints);
    writer.lease(address, proto, port, Math.floor(((Math.imul(n, 0x85ebca6b) >>> 0) / 2 ** 32) * links), false);
    const state = stateAt(n);
    if (state === IN_USE) writer.use(address, proto, port);
    if (state === QUARANTINED) writer.quarantine(address, proto, port);
  }
  return writer;
}

/** Slots over `count` frames in the given layout, all in one block of memory. */
export async function makeFrames(endpoints, count, layout) {
  const { FrameSlots } = await load('io/frame-io');
  const { pitch, first } = LAYOUTS[layout];
  const bytes = new Uint8Array(count * pitch + FRAME_BYTES);
  const slots = new FrameSlots(count);
  const random = new Random();
  const draw = (state) => drawEndpoint(random, endpoints, state);
  for (let i = 0; i < count; i++) {
    const at = i * pitch + first;
    slots.offset[i] = at;
    slots.length[i] = FRAME_BYTES;
    slots.wireLength[i] = FRAME_BYTES;
    writeFrame(bytes.subarray(at, at + FRAME_BYTES), random, draw);
  }
  slots.count = count;
  slots.lend(bytes);
  return slots;
}

function writeFrame(frame, random, draw) {
  const kind = random.below(100);
  if (kind < 90) writeTransport(frame, random, ...draw(IN_USE));
  else if (kind < 93) writeTransport(frame, random, ...draw(LEASED));
  else if (kind < 94) writeTransport(frame, random, ...draw(QUARANTINED));
  else if (kind < 98) writeTransport(frame, random, FIRST_ADDRESS, random.below(2), 40000 + random.below(20000));
  else if (kind < 99) writeTransport(frame, random, 0x0a580000 + random.below(256), random.below(2), 80);
  else writeOther(frame, random);
}

/** Ethernet and IPv4 headers; the checksum is left 0: no stage looks at it. */
function writeIpv4(frame, random, protocol, destination) {
  const view = new DataView(frame.buffer, frame.byteOffset, FRAME_BYTES);
  frame.set(STATION_MAC, 0);
  frame.set([2, 0, 0, 0, 0, 2], 6);
  view.setUint16(12, 0x0800);
  view.setUint16(14, 0x4500);
  view.setUint16(16, FRAME_BYTES - 14);
  view.setUint16(18, random.below(65536));
  view.setUint16(20, 0x4000);
  view.setUint8(22, 64);
  view.setUint8(23, protocol);
  view.setUint32(26, 0xc6336400 + random.below(256));
  view.setUint32(30, destination);
  return view;
}

function writeTransport(frame, random, address, proto, port) {
  const view = writeIpv4(frame, random, proto === 0 ? 6 : 17, address);
  view.setUint16(34, 1024 + random.below(60000));
  view.setUint16(36, port);
  if (proto === 0) view.setUint16(46, 0x5010);
  else view.setUint16(38, FRAME_BYTES - 34);
}

function writeOther(frame, random) {
  const which = random.below(3);
  const view = writeIpv4(frame, random, 1, FIRST_ADDRESS);
  view.setUint8(34, 8);
  if (which === 0) {
    frame.fill(0xff, 0, 6);
    view.setUint16(12, 0x0806);
    view.setUint32(14, 0x00010800);
    view.setUint32(18, 0x06040001);
    view.setUint32(38, FIRST_ADDRESS);
  } else if (which === 1) {
    view.setUint16(12, 0x86dd);
  }
}
