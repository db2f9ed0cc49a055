/** The configuration file: what is accepted, with which defaults, and the line that each mistake ends in. */
import { describe, expect, it } from 'vitest';
import { lineOf, parseConfig, place, requireForRun } from '../../src/base/config.js';
import { failure, POLICY } from '../support/config.js';

const FULL = `# a comment
nic: eth0
backend: cap
addresses: [192.0.2.10, 192.0.2.11]
notInUse: reject
rejectRate: 5
guests:
  web:
    link: { tap: tap-web, mac: "02:00:5e:10:00:01" }
    lease: { tcp: "80,443", udp: 53 }
    use: all
  db.1:
    link: { netns: db, configure: dhcp }
    lease:
      address: 192.0.2.20
    use:
      tcp: 5432
`;

describe('a configuration that is right', () => {
  it('is read whole', () => {
    const config = parseConfig(FULL, 'f.yaml');
    expect(config).toMatchObject({
      file: 'f.yaml',
      nic: 'eth0',
      backend: 'cap',
      fastPath: 'auto',
      cpuLatency: 'auto',
      addresses: ['192.0.2.10', '192.0.2.11'],
      notInUse: 'reject',
      rejectRate: 5,
      guests: [
        {
          name: 'web',
          link: { kind: 'tap', tap: 'tap-web', mac: '02:00:5e:10:00:01', configure: null },
          lease: { address: null, tcp: '80,443', udp: 53 },
          use: 'all',
        },
        {
          name: 'db.1',
          link: { kind: 'netns', netns: 'db', name: 'eth0', mac: null, configure: 'dhcp' },
          lease: { address: '192.0.2.20', tcp: null, udp: null },
          use: { tcp: 5432, udp: null },
        },
      ],
    });
  });

  it('gets its defaults', () => {
    const config = parseConfig('guests: { a: {} }', 'f.yaml');
    expect(config).toEqual({
      file: 'f.yaml',
      lines: config.lines,
      nic: null,
      backend: 'packet',
      fastPath: 'auto',
      cpuLatency: 'auto',
      addresses: null,
      notInUse: 'drop',
      rejectRate: 100,
      guests: [{ name: 'a', link: null, lease: null, use: { tcp: null, udp: null }, map: null, agent: null, policy: POLICY, pool: null }],
      admin: { socket: '/run/berth/admin.sock', group: null },
      store: { path: '/var/lib/berth' },
      pool: { ports: null, reserve: 2048, quarantineMs: 60_000 },
      networks: [],
      pools: [],
    });
  });

  it('may give one address without a list', () => {
    expect(parseConfig('addresses: 192.0.2.10', 'f').addresses).toEqual(['192.0.2.10']);
  });

  it('may have anchors and aliases', () => {
    const { guests } = parseConfig('guests:\n  a: &a { lease: &ports { tcp: 80 } }\n  b: *a\n  c: { lease: *ports }\n', 'f');
    expect(guests.map(({ lease }) => lease?.tcp)).toEqual([80, 80, 80]);
  });

  it('may use one anchor many times', () => {
    const guests = Array.from({ length: 2000 }, (_, i) => `  g${i}: { use: *u }\n`).join('');
    expect(parseConfig(`guests:\n  first: { use: &u all }\n${guests}`, 'f').guests).toHaveLength(2001);
  });

  it('may give guests names that look like numbers, as they are written', () => {
    expect(parseConfig('guests: { 007: {}, constructor: {} }', 'f').guests.map(({ name }) => name).sort()).toEqual(['007', 'constructor']);
  });

  it('may begin with a byte order mark and end its lines with CR LF', () => {
    expect(parseConfig('\ufeffnic: eth0\r\nbackend: cap\r\n', 'f')).toMatchObject({ nic: 'eth0', backend: 'cap' });
  });

  it('is plain data', () => {
    const config = parseConfig(FULL, 'f.yaml');
    expect(structuredClone(config)).toEqual(config);
  });

  it('knows the line of each key, and of the key around one that is left out', () => {
    const config = parseConfig(FULL, 'f.yaml');
    expect(place(config, ['nic'])).toBe('f.yaml:2: nic');
    expect(place(config, ['addresses', 1])).toBe('f.yaml:4: addresses[1]');
    expect(place(config, ['guests', 'db.1', 'use', 'tcp'])).toBe('f.yaml:17: guests.db.1.use.tcp');
    expect(place(config, ['guests', 'db.1', 'link', 'name'])).toBe('f.yaml:13: guests.db.1.link.name');
    expect(lineOf(config.lines, ['nothing'])).toBe(1);
  });
});

const GUEST_NAME = 'a guest name: a letter or digit, then at most 62 letters, digits, ".", "_" or "-"';
const INTERFACE = 'an interface name: 1 to 15 bytes without white space or any of / : % " \\ ; { }';
const ADDRESSES = 'IPv4 addresses, as [192.0.2.10]';
const PORTS = 'ports, as 80 or "80,443,8000-8999"';
const LINK = 'a link, as { tap: tap-web } or { netns: web, name: eth0 }';
const ROOT_KEYS = 'nic, backend, fastPath, cpuLatency, addresses, notInUse, rejectRate, guests, admin, store, pool, networks, pools';
const GUEST_KEYS = 'link, lease, use, agent, policy, pool, mode, inside, gateway, map, block';
const SOCKET = 'an absolute path of at most 107 bytes, as /run/berth/web.sock';
const GROUP = 'a group of this host, as berth, or its number';
const QUARANTINE = 'a time, 0s to 365d, as 60s, or a number of seconds';
const LEASE_TIME = 'a time, 1ms to 365d, as 1h, or a number of seconds';

describe('a configuration that is wrong: one line', () => {
  const rows: [name: string, text: string, code: string, message: string][] = [
    ['an unknown key', 'nic: eth0\nnotInuse: drop', 'ERR_CONFIG_UNKNOWN_KEY', `f.yaml:2: notInuse: unknown key (got "notInuse", expected one of ${ROOT_KEYS}); did you mean "notInUse"?`],
    ['a key that means nothing', 'zzzzzzzzzzzz: 1', 'ERR_CONFIG_UNKNOWN_KEY', `f.yaml:1: zzzzzzzzzzzz: unknown key (got "zzzzzzzzzzzz", expected one of ${ROOT_KEYS}); the nearest known key is "nic"`],
    ['an unknown key of a guest', 'guests:\n  web:\n    leese: {}', 'ERR_CONFIG_UNKNOWN_KEY', `f.yaml:3: guests.web.leese: unknown key (got "leese", expected one of ${GUEST_KEYS}); did you mean "lease"?`],
    ['an unknown key of a link', 'guests:\n  web:\n    link: { tab: x, tap: y }', 'ERR_CONFIG_UNKNOWN_KEY', 'f.yaml:3: guests.web.link.tab: unknown key (got "tab", expected one of tap, netns, name, configure, mac); did you mean "tap"?'],
    ['an unknown key of a lease', 'guests:\n  web:\n    lease:\n      tcpp: 80', 'ERR_CONFIG_UNKNOWN_KEY', 'f.yaml:4: guests.web.lease.tcpp: unknown key (got "tcpp", expected one of address, tcp, udp); did you mean "tcp"?'],
    ['an unknown key of use', 'guests:\n  web:\n    use:\n      ucp: 80', 'ERR_CONFIG_UNKNOWN_KEY', 'f.yaml:4: guests.web.use.ucp: unknown key (got "ucp", expected one of tcp, udp); did you mean "tcp"?'],
    ['a merge key', 'guests:\n  a: &a {}\n  b: { <<: *a }', 'ERR_CONFIG_UNKNOWN_KEY', `f.yaml:3: guests.b.<<: unknown key (got "<<", expected one of ${GUEST_KEYS}); the nearest known key is "use"`],
    ['__proto__ as a key', '__proto__: { nic: eth0 }', 'ERR_CONFIG_UNKNOWN_KEY', `f.yaml:1: __proto__: unknown key (got "__proto__", expected one of ${ROOT_KEYS}); the nearest known key is "pool"`],
    ['a key given twice', 'nic: a\nguests:\n  web: {}\n  db: {}\n  web: {}', 'ERR_CONFIG_SYNTAX', 'f.yaml:5: guests.web: key given twice (lines 3 and 5); keep one'],
    ['a tab', 'guests:\n\tweb: {}', 'ERR_CONFIG_SYNTAX', 'f.yaml:2:1: a tab in the indentation; indent with spaces'],
    ['a bracket left open', 'nic: eth0\naddresses: [192.0.2.10', 'ERR_CONFIG_SYNTAX', 'f.yaml:2:23: not valid YAML: Flow sequence in block collection must be sufficiently indented and end with a ]'],
    ['an unknown tag', 'nic: !foo eth0', 'ERR_CONFIG_SYNTAX', 'f.yaml:1:6: not valid YAML: Unresolved tag: !foo'],
    ['two documents', 'nic: eth0\n---\nnic: eth1', 'ERR_CONFIG_SYNTAX', 'f.yaml:2:1: a second document begins (expected one); remove the `---` line'],
    ['an alias of nothing', 'nic: eth0\nguests: *g', 'ERR_CONFIG_SYNTAX', 'f.yaml:2: *g has no anchor before it; write &g at the value that it stands for'],
    ['an alias of itself', 'guests: &g\n  a: *g', 'ERR_CONFIG_SYNTAX', 'f.yaml:2: nested too deeply (more than 32 levels); no configuration needs that'],
    ['an empty file', '', 'ERR_CONFIG_SYNTAX', 'f.yaml:1: the file is empty (expected a configuration); `berth check --help` shows one'],
    ['only comments', '# nothing\n', 'ERR_CONFIG_SYNTAX', 'f.yaml:1: the file is empty (expected a configuration); `berth check --help` shows one'],
    ['a list instead of a map', '- nic: eth0', 'ERR_CONFIG_VALUE', 'f.yaml:1: wrong value (got a list, expected a map with the keys of a configuration (nic, addresses, guests, ...))'],
    ['a text instead of a map', 'eth0', 'ERR_CONFIG_VALUE', 'f.yaml:1: wrong value (got "eth0", expected a map with the keys of a configuration (nic, addresses, guests, ...))'],
    ['guests as a list', 'nic: a\nguests:\n  - web', 'ERR_CONFIG_VALUE', 'f.yaml:2: guests: wrong value (got a list, expected a map of guests by name)'],
    ['guests of nothing', 'guests:\n', 'ERR_CONFIG_VALUE', 'f.yaml:1: guests: wrong value (got nothing, expected a map of guests by name)'],
    ['a guest of nothing', 'guests:\n  web:\n', 'ERR_CONFIG_VALUE', 'f.yaml:2: guests.web: wrong value (got nothing, expected a map with link, lease, use, agent, policy and pool)'],
    ['a link as text', 'guests: { web: { link: tap0 } }', 'ERR_CONFIG_VALUE', `f.yaml:1: guests.web.link: wrong value (got "tap0", expected ${LINK})`],
    ['a link that is both', 'guests:\n  web:\n    link: { tap: a, netns: b }', 'ERR_CONFIG_VALUE', 'f.yaml:3: guests.web.link: a link is either a tap or a network namespace (got both, expected one of tap and netns)'],
    ['a link that is neither', 'guests:\n  web:\n    link: {}', 'ERR_CONFIG_VALUE', 'f.yaml:3: guests.web.link: a link is either a tap or a network namespace (got neither, expected one of tap and netns)'],
    ['a tap with a name', 'guests:\n  web:\n    link: { tap: a, name: b }', 'ERR_CONFIG_VALUE', 'f.yaml:3: guests.web.link.name: a tap link has no name besides `tap` (`name` is the interface inside a namespace); remove it'],
    ['a link that is configured otherwise', 'guests:\n  web:\n    link: { tap: a, configure: static }', 'ERR_CONFIG_VALUE', 'f.yaml:3: guests.web.link.configure: wrong value (got "static", expected dhcp)'],
    ['ports as a list', 'guests: { web: { lease: { tcp: [80] } } }', 'ERR_CONFIG_VALUE', `f.yaml:1: guests.web.lease.tcp: wrong value (got a list, expected ${PORTS})`],
    ['ports of nothing', 'guests:\n  web:\n    use: { tcp: }', 'ERR_CONFIG_VALUE', `f.yaml:3: guests.web.use.tcp: wrong value (got nothing, expected ${PORTS})`],
    ['use that is not all', 'guests: { web: { use: some } }', 'ERR_CONFIG_VALUE', 'f.yaml:1: guests.web.use: wrong value (got "some", expected all, or ports as { tcp: "80,8000-8010" })'],
    ['no latency', 'cpuLatency: 1ms', 'ERR_CONFIG_VALUE', 'f.yaml:1: cpuLatency: wrong value (got "1ms", expected auto, off, or microseconds, 0 to 1000)'],
    ['a latency below none', 'cpuLatency: -1', 'ERR_CONFIG_VALUE', 'f.yaml:1: cpuLatency: wrong value (got -1, expected auto, off, or microseconds, 0 to 1000)'],
    ['an unknown back end', 'backend: xdp', 'ERR_CONFIG_VALUE', 'f.yaml:1: backend: wrong value (got "xdp", expected packet or cap)'],
    ['an unknown policy', 'notInUse: ignore', 'ERR_CONFIG_VALUE', 'f.yaml:1: notInUse: wrong value (got "ignore", expected drop or reject)'],
    ['a rate of 0', 'rejectRate: 0', 'ERR_CONFIG_VALUE', 'f.yaml:1: rejectRate: wrong value (got 0, expected a whole number of answers a second, 1 to 1000000)'],
    ['a rate of half', 'rejectRate: 0.5', 'ERR_CONFIG_VALUE', 'f.yaml:1: rejectRate: wrong value (got 0.5, expected a whole number of answers a second, 1 to 1000000)'],
    ['no address in the list', 'addresses: []', 'ERR_CONFIG_VALUE', `f.yaml:1: addresses: wrong value (got an empty list, expected ${ADDRESSES})`],
    ['a number as an address', 'addresses:\n  - 192.0.2.1\n  - 10.5', 'ERR_CONFIG_VALUE', 'f.yaml:3: addresses[1]: wrong value (got 10.5, expected an IPv4 address, as 192.0.2.10)'],
    ['addresses as a map', 'addresses: { a: 1 }', 'ERR_CONFIG_VALUE', `f.yaml:1: addresses: wrong value (got a map, expected ${ADDRESSES})`],
    ['an interface name that is a number', 'nic: 0', 'ERR_CONFIG_VALUE', `f.yaml:1: nic: wrong value (got 0, expected ${INTERFACE}); write it in quotes`],
    ...['"', '\\', ';', '{', '}'].map((bad): [string, string, string, string] => [
      `an interface name with ${bad}`,
      `nic: 'e${bad}0'`,
      'ERR_CONFIG_VALUE',
      `f.yaml:1: nic: wrong value (got ${JSON.stringify(`e${bad}0`)}, expected ${INTERFACE})`,
    ]),
    ['an interface name of 16 bytes', 'nic: abcdefghijklmnop', 'ERR_CONFIG_VALUE', `f.yaml:1: nic: wrong value (got "abcdefghijklmnop", expected ${INTERFACE})`],
    ['a namespace that leaves its folder', 'guests: { web: { link: { netns: ../x } } }', 'ERR_CONFIG_VALUE', 'f.yaml:1: guests.web.link.netns: wrong value (got "../x", expected the name of a network namespace, as `ip netns` lists it: no "/" or white space)'],
    ['a guest named by a path', 'guests:\n  a/b: {}', 'ERR_CONFIG_VALUE', `f.yaml:2: guests.a/b: wrong name (got "a/b", expected ${GUEST_NAME}); rename the guest`],
    ['a guest named __proto__', 'guests:\n  __proto__: {}', 'ERR_CONFIG_VALUE', `f.yaml:2: guests.__proto__: wrong name (got "__proto__", expected ${GUEST_NAME}); rename the guest`],
  ];
  const controlRows: [name: string, text: string, message: string][] = [
    ['an admin socket that is relative', 'admin: { socket: admin.sock }', `admin.socket: wrong value (got "admin.sock", expected ${SOCKET})`],
    ['an admin as text', 'admin: /run/a.sock', 'admin: wrong value (got "/run/a.sock", expected a map with socket and group)'],
    ['a group below 0', 'admin: { group: -1 }', `admin.group: wrong value (got -1, expected ${GROUP})`],
    ['a group that is no name', 'admin: { group: "a b" }', `admin.group: wrong value (got "a b", expected ${GROUP})`],
    ['a store that is relative', 'store: { path: var }', 'store.path: wrong value (got "var", expected an absolute path, as /var/lib/berth)'],
    ['a pool that is on', 'pool: on', 'pool: wrong value (got "on", expected a pool, as { ports: "20000-59999" }, or off)'],
    ['a pool of a list', 'pool: { ports: [1] }', `pool.ports: wrong value (got a list, expected ${PORTS})`],
    ['a reserve below 0', 'pool: { reserve: -1 }', 'pool.reserve: wrong value (got -1, expected a number of ports, 0 to 65535)'],
    ['a time of no unit', 'pool: { quarantine: "60" }', `pool.quarantine: wrong value (got "60", expected ${QUARANTINE})`],
    ['a time of nothing', 'pool: { quarantine: }', `pool.quarantine: wrong value (got nothing, expected ${QUARANTINE})`],
    ['an agent as text', 'guests: { web: { agent: /a } }', 'guests.web.agent: wrong value (got "/a", expected an agent, as { socket: /run/berth/web.sock })'],
    ['connect that is no yes or no', 'guests: { web: { agent: { connect: 1 } } }', 'guests.web.agent.connect: wrong value (got 1, expected true or false)'],
    ['a policy as text', 'guests: { web: { policy: strict } }', 'guests.web.policy: wrong value (got "strict", expected a policy, as { maxPorts: 4096, allow: { tcp: "80,443" } })'],
    ['a block of 1000', 'guests: { web: { policy: { block: 1000 } } }', 'guests.web.policy.block: wrong value (got 1000, expected a power of two, 1 to 32768)'],
    ['too many ports', 'guests: { web: { policy: { maxPorts: 65536 } } }', 'guests.web.policy.maxPorts: wrong value (got 65536, expected a number of ports, 0 to 65535)'],
    ['an unknown threshold', 'guests: { web: { policy: { threshold: lax } } }', 'guests.web.policy.threshold: wrong value (got "lax", expected strict or literal)'],
    ['allow as text', 'guests: { web: { policy: { allow: "80" } } }', 'guests.web.policy.allow: wrong value (got "80", expected ports by protocol, as { tcp: "80,443", udp: 53 })'],
    ['implicit that is no yes or no', 'guests: { web: { policy: { implicit: "no" } } }', 'guests.web.policy.implicit: wrong value (got "no", expected true or false)'],
    ['a lease time of 0', 'guests: { web: { policy: { leaseTime: 0 } } }', `guests.web.policy.leaseTime: wrong value (got 0, expected ${LEASE_TIME})`],
  ];
  const unknownRows: [text: string, path: string, known: string, nearest: string][] = [
    ['admin: { sockt: /a }', 'admin.sockt', 'socket, group', 'socket'],
    ['store: { paht: /a }', 'store.paht', 'path', 'path'],
    ['pool: { port: 80 }', 'pool.port', 'ports, reserve, quarantine', 'ports'],
    ['guests: { web: { agent: { conect: true } } }', 'guests.web.agent.conect', 'socket, connect', 'connect'],
    ['guests: { web: { policy: { maxports: 1 } } }', 'guests.web.policy.maxports', 'block, maxPorts, threshold, allow, deny, implicit, leaseTime', 'maxPorts'],
    ['guests: { web: { policy: { allow: { tpc: 1 } } } }', 'guests.web.policy.allow.tpc', 'tcp, udp', 'tcp'],
    ['guests: { web: { policy: { deny: { upd: 1 } } } }', 'guests.web.policy.deny.upd', 'tcp, udp', 'udp'],
  ];
  for (const [name, text, message] of controlRows) rows.push([name, text, 'ERR_CONFIG_VALUE', `f.yaml:1: ${message}`]);
  for (const [text, path, known, near] of unknownRows) {
    const key = path.slice(path.lastIndexOf('.') + 1);
    const message = `f.yaml:1: ${path}: unknown key (got "${key}", expected one of ${known}); did you mean "${near}"?`;
    rows.push([`an unknown key ${path}`, text, 'ERR_CONFIG_UNKNOWN_KEY', message]);
  }
  it.each(rows)('%s', (_name, text, code, message) => {
    expect(failure(text)).toEqual({ code, message, exitCode: 2 });
  });

  it.each(['""', '.', '..', 'a/b', '"a b"', '"a\\tb"', 'a:b', 'tap%d', '"\\x01"', 'äääääääää'])('refuses %s as an interface name', (name) => {
    expect(failure(`guests: { web: { link: { tap: ${name} } } }`)).toMatchObject({ code: 'ERR_CONFIG_VALUE' });
  });

  it.each(['""', '.', '.web', '-web', '"a b"', 'ä', `a${'b'.repeat(63)}`, '"a\\nb"'])('refuses %s as a guest name, on one line', (name) => {
    const { code, message } = failure(`guests: { ${name}: {} }`);
    expect(code).toBe('ERR_CONFIG_VALUE');
    expect(message).not.toContain('\n');
  });

  it('accepts a guest name of 63 characters', () => {
    expect(parseConfig(`guests: { a${'b'.repeat(62)}: {} }`, 'f').guests).toHaveLength(1);
  });
});

describe('a configuration that is wrong in several places', () => {
  it('gets a line for each, in the order of the file, under the code of the first', () => {
    const { code, message } = failure('nic: a/b\nguests:\n  web: { lese: 1 }\n  -db: {}\nbackend: xdp\nzoo: 1\n');
    expect(code).toBe('ERR_CONFIG_VALUE');
    expect(message.split('\n').map((line) => line.slice(0, line.indexOf(' (got')))).toEqual([
      'f.yaml:1: nic: wrong value',
      'f.yaml:3: guests.web.lese: unknown key',
      'f.yaml:4: guests.-db: wrong name',
      'f.yaml:5: backend: wrong value',
      'f.yaml:6: zoo: unknown key',
    ]);
  });

  it('shows fifty and counts the rest', () => {
    const { message } = failure(Array.from({ length: 60 }, (_, i) => `key${i}: 1`).join('\n'));
    expect(message.split('\n')).toHaveLength(51);
    expect(message).toMatch(/\nf\.yaml: and 10 more problems$/);
  });
});

describe('what berth run needs', () => {
  it('is a NIC, and a link for each guest', () => {
    expect(requireForRun(parseConfig('nic: eth0\nguests: { a: { link: { tap: t } } }', 'f'))).toBe('eth0');
    expect(() => requireForRun(parseConfig('guests:\n  a: {}\n', 'f'))).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG_VALUE', message: expect.stringMatching(/^f:1: nic: missing .*\nf:2: guests\.a\.link: missing [^\n]*$/) as string }),
    );
  });
});
