/**
 * The steering table: its size, and how long a lease of 1,024 endpoints (512 ports, TCP and UDP) takes to be published:
 * from the first call of the writer until a reader of the shared memory sees the last of them.
 *
 * Each lease is another block of ports, so that each is 1,024 insertions; the first few warm up and are not counted.
 */
import { performance } from 'node:perf_hooks';
import { load } from '../support/dist.mjs';
import { median, quantile } from '../support/measure.mjs';

const ENDPOINTS = 65536;
const MIB = 1024 * 1024;
const LEASE_PORTS = 512;
const ADDRESS = 0x0a4d0000;
const LEASES = 200;
const WARM_UP = 20;

export const variants = ['size', 'empty', 'half-full'];

export async function run(variant) {
  const [{ TableWriter }, { SteeringTable }, layout] = await Promise.all(['steering/table-writer', 'steering/table', 'steering/table-layout'].map(load));
  if (variant === 'size') return size(TableWriter, layout);

  // An empty table of 131,072 slots, or one with half of the endpoints that it takes; each made before any is measured.
  const writers = Array.from({ length: WARM_UP + LEASES }, () => {
    const writer = new TableWriter({ endpoints: ENDPOINTS, addresses: 4 });
    if (variant === 'half-full') for (let port = 1; port <= ENDPOINTS / 4; port++) for (const proto of [0, 1]) writer.lease(ADDRESS + 1, proto, port, 1, true);
    const words = new Uint32Array(writer.buffer);
    for (let w = 0; w < words.length; w += 1024) words[w] += 0; // the kernel has given the pages
    writer.addAddress(ADDRESS);
    return writer;
  });
  const times = [];
  for (const [n, writer] of writers.entries()) {
    const reader = new SteeringTable(writer.buffer);
    const first = 1024 + ((n * LEASE_PORTS) % 60000);
    const before = writer.generation;
    const start = performance.now();
    for (let port = first; port < first + LEASE_PORTS; port++) {
      writer.lease(ADDRESS, layout.PROTO_TCP, port, 3, true);
      writer.lease(ADDRESS, layout.PROTO_UDP, port, 3, true);
    }
    const last = reader.value(ADDRESS, layout.PROTO_UDP, first + LEASE_PORTS - 1);
    const took = performance.now() - start;
    if (writer.generation !== before || (last & layout.STATE_MASK) !== layout.STATE_LEASED) throw new Error('the lease is not in the table');
    if (n >= WARM_UP) times.push(took);
  }
  const line = (what, value) => ({ what: `lease of 1,024 endpoints into a ${variant} table, ${what}`, value, goal: 1, unit: 'ms', atMost: true, rounds: LEASES });
  return [line('median', median(times)), line('p99', quantile(times, 0.99))];
}

function size(TableWriter, layout) {
  const writer = new TableWriter({ endpoints: ENDPOINTS, addresses: 1 });
  const before = writer.generation;
  for (let port = 1; port <= ENDPOINTS / 2; port++) for (const proto of [0, 1]) writer.lease(ADDRESS, proto, port, 1, true);
  if (writer.endpoints !== ENDPOINTS || writer.generation !== before) throw new Error('the table has grown');
  const { byteLength } = writer.buffer;
  const header = layout.tableBytes(2, 0);
  if (layout.tableBytes(2, 2 * ENDPOINTS) !== byteLength) throw new Error(`the table has ${byteLength} bytes`);
  return [
    {
      what: '65,536 endpoints, table less header and addresses',
      value: (byteLength - header) / MIB,
      goal: 1,
      unit: 'MiB',
      atMost: true,
      detail: `${byteLength} bytes, of which header and addresses ${header}`,
      rounds: 1,
    },
  ];
}
