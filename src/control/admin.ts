/**
 * Admin interface: HTTP/JSON on a Unix socket, for the operator and `berth status | lease | pool | explain`.
 *
 * Who          the file's mode is the password: 0600, or 0660 with the configured group, from the moment it exists.
 * Socket       one that a killed daemon left is replaced; one that somebody answers on is refused, and so is a file that is
 *              no socket. Removed at stop.
 * Described    at /openapi.json, made from the schemas that requests are checked against.
 * Not here     what the answers are (admin-desk.ts).
 */
import { chmodSync, chownSync, readFileSync, rmSync } from 'node:fs';
import swagger from '@fastify/swagger';
import { fastify, type FastifyInstance } from 'fastify';
import type { AdminDesk } from './admin-desk.js';
import { Refused } from './admin-refused.js';
import { schemas } from './admin-schemas.js';
import type { PoolDesk } from './pools/pool-desk.js';
import { NO_PORTS, type Ports, type ProtoName } from './lease-state.js';
import { makeRoom } from './socket-path.js';
import { isStoreFailure } from './store.js';
import { type Config, place } from '../base/config.js';
import { BerthError, ConfigError, messageOf, newFileReason } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { parseIpv4 } from '../wire/address.js';
import { PortSet } from '../wire/port-set.js';

const BODY_LIMIT = 64 * 1024;
const REQUEST_MS = 10_000;
const GROUPS = '/etc/group';

interface Named {
  guest: string;
  block?: boolean;
  tcp?: string;
  udp?: string;
}

export class AdminServer {
  private readonly app: FastifyInstance;
  private readonly path: string;

  private constructor(app: FastifyInstance, path: string) {
    this.app = app;
    this.path = path;
  }

  static async start(config: Config, desk: AdminDesk, pools: PoolDesk, log: Log): Promise<AdminServer> {
    const { socket: path } = config.admin;
    const gid = groupId(config);
    const app = await createApp(desk, pools, log);
    try {
      await makeRoom(path);
      await listen(app, path, gid);
    } catch (error) {
      app.server.close();
      await app.close();
      if (error instanceof BerthError) throw error;
      throw new BerthError('ERR_ADMIN_SOCKET', `admin socket ${path} cannot be listened on (${newFileReason(error)}); mend that, or set admin.socket`, { cause: error });
    }
    return new AdminServer(app, path);
  }

  async close(): Promise<void> {
    const { server } = this.app;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
    await this.app.close();
    rmSync(this.path, { force: true });
  }
}

async function createApp(desk: AdminDesk, pools: PoolDesk, log: Log): Promise<FastifyInstance> {
  const app = fastify({ bodyLimit: BODY_LIMIT, requestTimeout: REQUEST_MS, forceCloseConnections: true, ajv: { customOptions: { removeAdditional: false } } });
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Berth admin interface', description: 'HTTP over the daemon\'s Unix socket.', version: '1' },
      servers: [{ url: 'http://localhost' }],
    },
  });
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    const isStores = isStoreFailure(error); // which has been said
    const status = error instanceof Refused ? error.status : isStores ? 503 : (error.statusCode ?? 500);
    if (status >= 500 && !isStores) log.error({ err: error }, 'an admin request failed');
    const code = error instanceof BerthError ? error.code : status < 500 ? 'ERR_REQUEST' : 'ERR_INTERNAL';
    void reply.code(status).send({ error: code, message: error.message });
  });
  app.setNotFoundHandler((request, reply) => {
    void reply.code(404).send({ error: 'ERR_ROUTE', message: `there is no ${request.method} ${request.url.slice(0, 80)}; GET /openapi.json says what there is` });
  });

  app.get('/openapi.json', { schema: { summary: 'This description', response: { 200: { description: 'OpenAPI 3.1', type: 'object', additionalProperties: true } } } }, () => app.swagger());
  app.get('/health', { schema: schemas.health }, () => desk.health());
  app.get('/status', { schema: schemas.status }, () => desk.status());
  app.get('/counters', { schema: schemas.counters }, () => desk.counters());
  app.get('/guests', { schema: schemas.guests }, () => desk.guests());
  // The settings are checked as those of a configuration are, whose words are better: the schema only describes them.
  app.post<{ Body: { name: string } }>('/guests', { schema: schemas.addGuest, validatorCompiler: () => () => true }, ({ body }) => {
    if (typeof body !== 'object' || body === null || typeof body.name !== 'string') throw new Refused(400, 'ERR_REQUEST', 'say the guest\'s name, with its settings beside it');
    const { name, ...setting } = body;
    return desk.addGuest(name, setting);
  });
  app.delete<{ Params: { name: string } }>('/guests/:name', { schema: schemas.removeGuest }, ({ params }) => desk.removeGuest(params.name));
  app.get<{ Querystring: Partial<Named> }>('/leases', { schema: schemas.leases }, ({ query }) => (query.guest === undefined ? desk.leases() : desk.leasesOf(query.guest)));
  app.post<{ Body: Named }>('/leases', { schema: schemas.grant }, ({ body }) => {
    const ports = portsOf(body);
    const named = !ports.tcp.isEmpty || !ports.udp.isEmpty;
    if (named === (body.block === true)) throw new Refused(400, 'ERR_REQUEST', 'ask for either a block (block: true) or ports (tcp, udp)');
    return named ? desk.grantPorts(body.guest, ports) : desk.grantBlock(body.guest);
  });
  app.delete<{ Querystring: Named }>('/leases', { schema: schemas.revoke }, ({ query }) => {
    if (query.tcp === undefined && query.udp === undefined) throw new Refused(400, 'ERR_REQUEST', 'say which ports are taken back (tcp, udp)');
    return desk.revoke(query.guest, portsOf(query));
  });
  app.post<{ Body: Named }>('/leases/renew', { schema: schemas.renew }, ({ body }) => desk.renew(body.guest));
  app.get<{ Querystring: { guest?: string } }>('/maps', { schema: schemas.maps }, ({ query }) => desk.maps.list(query.guest));
  app.post<{ Body: Named & { to?: number } }>('/maps', { schema: schemas.map }, ({ body }) => {
    if ((body.tcp === undefined) === (body.udp === undefined)) throw new Refused(400, 'ERR_REQUEST', 'say ports of one protocol (tcp or udp)');
    portsOf(body);
    return desk.maps.add(body.guest, { proto: body.tcp === undefined ? 'udp' : 'tcp', ports: body.tcp ?? body.udp ?? '', to: body.to ?? null });
  });
  app.delete<{ Querystring: Named }>('/maps', { schema: schemas.unmap }, ({ query }) => {
    if (query.tcp === undefined && query.udp === undefined) throw new Refused(400, 'ERR_REQUEST', 'say which ports are to be mapped no more (tcp, udp)');
    return desk.maps.remove(query.guest, portsOf(query));
  });
  app.get<{ Querystring: { port: number; proto: ProtoName; address?: string } }>('/explain', { schema: schemas.explain }, ({ query }) =>
    desk.explain(query.proto, query.port, query.address === undefined ? null : readAddress(query.address)),
  );
  app.get('/pools', { schema: schemas.pools }, () => pools.list());
  app.get<{ Params: { address: string } }>('/pools/addresses/:address', { schema: schemas.explainAddress }, ({ params }) => {
    const found = pools.explain(readAddress(params.address));
    if (found === null) throw new Refused(404, 'ERR_NO_POOL', `${params.address} is in no pool; \`berth pool ls\` shows what is`);
    return found;
  });
  await app.ready();
  return app;
}

function readAddress(text: string): number {
  const address = parseIpv4(text);
  if (address === null) throw new Refused(400, 'ERR_REQUEST', `not an IPv4 address: ${text}`);
  return address;
}

function portsOf({ tcp, udp }: Named): Ports {
  try {
    return { tcp: tcp === undefined ? NO_PORTS.tcp : PortSet.parse(tcp), udp: udp === undefined ? NO_PORTS.udp : PortSet.parse(udp) };
  } catch (error) {
    throw new Refused(400, 'ERR_PORT_SET', messageOf(error));
  }
}

/** Not through fastify: the file must be made under our umask, and Node makes it before listen() returns. */
async function listen({ server }: FastifyInstance, path: string, gid: number | null): Promise<void> {
  const before = process.umask(0o177);
  const listening = new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  process.umask(before);
  await listening;
  if (gid === null) return;
  chownSync(path, -1, gid);
  chmodSync(path, 0o660);
}

/** The number of the group that may use the socket; null: root alone. */
function groupId(config: Config): number | null {
  const { group } = config.admin;
  if (group === null || typeof group === 'number') return group;
  const line = readFileSync(GROUPS, 'utf8').split('\n').find((one) => one.startsWith(`${group}:`));
  if (line === undefined) throw new ConfigError('ERR_ADMIN_GROUP', `${place(config, ['admin', 'group'])}: there is no group ${group} on this host; add it (groupadd), or name another`);
  return Number(line.split(':')[2]);
}
