/** The configuration file: what the control plane is told, with its defaults. */
import { describe, expect, it } from 'vitest';
import { parseConfig, type Config } from '../../src/base/config.js';
import { failure, POLICY } from '../support/config.js';

describe('what the control plane is told', () => {
  const pool = (text: string): Config['pool'] => parseConfig(`pool: ${text}`, 'f').pool;
  const guest = (text: string): Config['guests'][number] => parseConfig(`guests: { web: ${text} }`, 'f').guests[0];

  it('is read whole', () => {
    const config = parseConfig(
      `admin: { socket: /run/a.sock, group: berth }
store: { path: /srv/berth }
pool: { ports: "20000-59999", reserve: 0, quarantine: 90s }
guests:
  web:
    agent: { socket: /run/w.sock, connect: true }
    policy: { block: 256, maxPorts: 512, threshold: literal, allow: { tcp: "80,443" }, deny: { udp: 53 }, implicit: false, leaseTime: 1.5h }
`,
      'f',
    );
    expect(config).toMatchObject({
      admin: { socket: '/run/a.sock', group: 'berth' },
      store: { path: '/srv/berth' },
      pool: { ports: '20000-59999', reserve: 0, quarantineMs: 90_000 },
    });
    expect(config.guests[0].agent).toEqual({ socket: '/run/w.sock', connect: true });
    expect(config.guests[0].policy).toEqual({
      block: 256,
      maxPorts: 512,
      threshold: 'literal',
      allow: { tcp: '80,443', udp: null },
      deny: { tcp: null, udp: 53 },
      implicit: false,
      leaseTimeMs: 5_400_000,
    });
    expect(structuredClone(config)).toEqual(config);
  });

  it('may be said in part', () => {
    expect(pool('{ ports: 20000 }')).toEqual({ ports: 20000, reserve: 2048, quarantineMs: 60_000 });
    expect(pool('off')).toEqual({ ports: null, reserve: 2048, quarantineMs: 60_000 });
    expect(parseConfig('admin: { group: 0 }', 'f').admin).toEqual({ socket: '/run/berth/admin.sock', group: 0 });
    expect(parseConfig('store: {}', 'f').store).toEqual({ path: '/var/lib/berth' });
    expect(guest('{ agent: {} }').agent).toEqual({ socket: '/run/berth/web.sock', connect: false });
    expect(guest('{ policy: { block: 1 } }').policy).toEqual({ ...POLICY, block: 1 });
  });

  it.each([
    ['250ms', 250],
    ['0s', 0],
    ['1.5s', 1500],
    ['1.001s', 1001],
    ['60s', 60_000],
    ['60 s', 60_000],
    ['2m', 120_000],
    ['1h', 3_600_000],
    ['365d', 31_536_000_000],
    ['60', 60_000],
    ['0.5', 500],
  ])('reads the time %s', (text, milliseconds) => {
    expect(pool(`{ quarantine: ${text} }`).quarantineMs).toBe(milliseconds);
  });

  it.each(['1w', '-1s', '-1', '1e3s', '0.5ms', '366d', '.inf', '.nan', '""', '1h30m', '1H', '[1s]'])('refuses the time %s', (text) => {
    expect(failure(`pool: { quarantine: ${text} }`)).toMatchObject({ code: 'ERR_CONFIG_VALUE' });
  });

  it.each(['0', '3', '65536', '1.5', '-2', '"1024"'])('refuses a block of %s', (text) => {
    expect(failure(`guests: { web: { policy: { block: ${text} } } }`)).toMatchObject({ code: 'ERR_CONFIG_VALUE' });
  });

  it('accepts a socket path of 107 bytes, and no longer one', () => {
    const path = (bytes: number): string => `/${'a'.repeat(bytes - 1)}`;
    expect(guest(`{ agent: { socket: ${path(107)} } }`).agent?.socket).toBe(path(107));
    expect(failure(`guests: { web: { agent: { socket: ${path(108)} } } }`)).toMatchObject({ code: 'ERR_CONFIG_VALUE' });
    expect(failure(`guests: { web: { agent: { socket: /${'ä'.repeat(54)} } } }`)).toMatchObject({ code: 'ERR_CONFIG_VALUE' });
  });

  it.each(['""', 'run/a', '/', '/run/', '/run/..', '"/a\0b"'])('refuses %s as a socket', (path) => {
    expect(failure(`admin: { socket: ${path} }`)).toMatchObject({ code: 'ERR_CONFIG_VALUE' });
  });
});
