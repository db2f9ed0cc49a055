/** `berth check`: what a configuration means, in words. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/base/config.js';
import { checkCommand } from '../../src/cli/commands/check.js';
import { describeConfig } from '../../src/cli/describe-config.js';
import { resolveLeases } from '../../src/control/static-leases.js';

function describeText(text: string): string[] {
  const config = parseConfig(text, 'berth.yaml');
  const output = describeConfig(config, resolveLeases(config, { sharedLater: true }));
  expect(output.endsWith('\n')).toBe(true);
  return output.trimEnd().split('\n');
}

const DROPPED = 'A frame for a leased port not in use is dropped silently. Everything else goes to the host.';

describe('berth check', () => {
  it('says what each guest has', () => {
    expect(
      describeText(`
nic: eth0
addresses: [192.0.2.10]
guests:
  web:
    link: { tap: tap-web }
    lease: { tcp: "80,443,8000-8999", udp: "53" }
    use: { tcp: "80,8000-8010" }
  db:
    link: { netns: db }
    lease: { address: 192.0.2.20 }
    use: all
  one:
    link: { netns: one, name: e1 }
    lease: { address: 192.0.2.21, udp: 5 }
  later:
    link: { tap: tap-later }
`),
    ).toEqual([
      'berth.yaml is valid.',
      'NIC eth0 (packet back end), shared address 192.0.2.10.',
      'guest web on tap tap-web: 1,003 endpoints leased',
      '  tcp 80, 443, 8000-8999; udp 53',
      '  in use from the start: tcp 80, 8000-8010',
      'guest db on interface eth0 in network namespace db: the whole address 192.0.2.20 leased',
      '  in use from the start: all of it',
      'guest one on interface e1 in network namespace one: 1 endpoint leased on 192.0.2.21',
      '  udp 5',
      '  in use from the start: none',
      'guest later on tap tap-later: nothing leased',
      DROPPED,
    ]);
  });

  it('says of a guest that Berth configures by DHCP what it is told, and from which ports its own connections work', () => {
    const guest = (lease: string): string[] =>
      describeText(`nic: eth0\naddresses: [192.0.2.10]\nguests: { web: { link: { tap: t, configure: dhcp }, lease: { ${lease} } } }`).slice(2, -1).filter((line) => /DHCP|own/.test(line));
    const told = "  told by DHCP: 192.0.2.10, with the host's mask, gateway, name servers and MTU";
    expect(guest('tcp: "80,40000-44095", udp: 40000-44095')).toEqual([
      told,
      '  its own connections work from ports 40960-43007: set its range to them, there or by its DHCP client (option 159); what it sends from others is dropped',
    ]);
    expect(guest('tcp: "80,32768-60999", udp: 32768-60999')).toEqual([told, '  its own connections come from leased ports if it is Linux with its usual range, 32768-60999; the host\'s own range must then be another']);
    expect(guest('tcp: "80"')).toEqual([told, '  its own connections fail: no port is leased in both tcp and udp, and what it sends from others is dropped']);
    expect(guest('address: 192.0.2.20')).toEqual([told.replace('.10', '.20'), '  its own connections may come from any port']);
  });

  it('counts the endpoints of several shared addresses, and says how refused frames are answered', () => {
    expect(
      describeText('nic: eth0\nbackend: cap\naddresses: [192.0.2.10, 192.0.2.11, 192.0.2.12]\nnotInUse: reject\nrejectRate: 1\nguests: { a: { link: { tap: t }, lease: { tcp: 1-1000 }, use: all } }'),
    ).toEqual([
      'berth.yaml is valid.',
      'NIC eth0 (cap back end), shared addresses 192.0.2.10, 192.0.2.11 and 192.0.2.12.',
      'guest a on tap t: 1,000 endpoints leased on each shared address, 3,000 in all',
      '  tcp 1-1000',
      '  in use from the start: all of them',
      'A frame for a leased port not in use is answered with a TCP reset or an ICMP port unreachable, at most 1 answer a second. Everything else goes to the host.',
    ]);
  });

  it.each([
    ['off', 'Processors may sleep however busy the guests are.'],
    ['auto', 'While guests exchange small frames at a rate, processors are kept from deep sleep.'],
    ['0', 'While guests exchange small frames at a rate, processors are kept from sleeping.'],
    ['20', 'While guests exchange small frames at a rate, processors are kept from sleep that takes longer than 20 µs to wake from.'],
  ])('says what `cpuLatency: %s` means', (value, text) => {
    expect(describeText(`nic: eth0\naddresses: 192.0.2.10\ncpuLatency: ${value}`)).toContain(text);
  });

  it('says what is still missing to run', () => {
    expect(describeText('addresses: 192.0.2.10\nguests: { a: { lease: { tcp: 80 } } }')).toEqual([
      'berth.yaml is valid.',
      'No NIC, shared address 192.0.2.10.',
      'Enough for `berth replay`; `berth run` also needs `nic` and a `link` for 1 guest.',
      'guest a, without a link: 1 endpoint leased',
      '  tcp 80',
      '  in use from the start: none',
      DROPPED,
    ]);
  });

  it('says so when the NIC is not here', () => {
    expect(describeText('nic: eth9\nguests: { a: { link: { tap: t }, lease: { tcp: "80,81" } } }').slice(1, 3)).toEqual([
      'NIC eth9 (packet back end), sharing its own IPv4 addresses (read at start: this machine has no such interface with an address).',
      'guest a on tap t: 2 endpoints leased on each shared address',
    ]);
  });

  it('shortens a long list of addresses, and does without guests', () => {
    const addresses = Array.from({ length: 1010 }, (_, i) => `10.0.${i >> 8}.${i & 255}`);
    expect(describeText(`nic: eth0\naddresses: [${addresses.join(',')}]`).slice(1)).toEqual([
      'NIC eth0 (packet back end), shared addresses 10.0.0.0, 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4, 10.0.0.5, 10.0.0.6, 10.0.0.7 and 1,002 more.',
      'No guests: every frame goes to the host.',
    ]);
  });

  it('says what a guest with an agent may ask for, and from where', () => {
    const guest = '{ link: { tap: t }, agent: {}, policy: { maxPorts: 2048, allow: { tcp: "80,443" }, deny: { tcp: 443, udp: 53 } } }';
    expect(describeText(`nic: eth0\naddresses: 192.0.2.10\npool: { ports: "20000-59999" }\nguests: { a: ${guest} }`).slice(2)).toEqual([
      'guest a on tap t: nothing leased',
      '  agent at /run/berth/a.sock (the daemon listens)',
      '  may ask for blocks of 1,024 ports, at most 2,048 in all',
      '  by name: tcp 80; never: tcp 443; udp 53',
      '  what it is granted ends after 1 hour unless renewed; a frame that it sends from a leased port puts it in use',
      'Blocks come from ports 20000-59999, 2,048 of them kept for guests with less than one block. A released port waits 1 minute before another guest may have it.',
      DROPPED,
    ]);
  });

  it('says what a policy without an agent means, and one that leaves no room for a block', () => {
    const guests = 'a: { policy: { maxPorts: 512 } }, b: { agent: { socket: /v.sock, connect: true }, policy: { block: 1, threshold: literal, maxPorts: 0, implicit: false, leaseTime: 90s } }';
    expect(describeText(`addresses: 192.0.2.10\nguests: { ${guests} }`).slice(3, -1)).toEqual([
      'guest a, without a link: nothing leased',
      '  no agent',
      '  may ask for no blocks (one has 1,024, at most 512 are allowed)',
      '  by name: none',
      '  what it is granted ends after 1 hour unless renewed; a frame that it sends from a leased port puts it in use',
      'guest b, without a link: nothing leased',
      '  agent at /v.sock (the daemon connects)',
      '  may ask for blocks of 1 port, another while it holds at most 0',
      '  by name: none',
      '  what it is granted ends after 90 seconds unless renewed; only the agent puts a port in use',
      "Blocks come from all ports but those below 1024, the host's ephemeral range and its listeners (read at start), 2,048 of them kept for guests with less than one block. A released port waits 1 minute before another guest may have it.",
    ]);
  });

  it.each([
    ['{ ports: 20000-20009, quarantine: 250ms }', 'Blocks come from ports 20000-20009, all of them kept for guests with less than one block. A released port waits 250 milliseconds before another guest may have it.'],
    ['{ ports: 20000, reserve: 0, quarantine: 0 }', 'Blocks come from ports 20000. Another guest may have a released port at once.'],
  ])('says what the pool %s means', (pool, text) => {
    expect(describeText(`addresses: 192.0.2.10\npool: ${pool}\nguests: {}`)).toContain(text);
  });

  it('says what pools of addresses hold, and how their guests come by one', () => {
    const lines = describeText(`
addresses: 192.0.2.10
networks: { uplink1: { nic: eth0 }, uplink2: { nic: eth1 } }
pools:
  public: { network: uplink1, addresses: "203.0.113.16-203.0.113.31", speed: 10Gbit, maxGuests: 64, class: web }
  more: { network: uplink2, addresses: 198.51.100.7, policy: { least-load: 2, first-fit: 1 } }
guests:
  db: { link: { netns: db, name: eth0 }, pool: { name: any, policy: least-load }, use: all }
  www: { link: { netns: www }, pool: { name: public, class: web, rule: apart }, lease: { tcp: "80,443" }, use: { tcp: 443 } }
  job: { link: { netns: job }, pool: { ports: 1024, policy: lowest-occupancy }, use: all }
  plain: { link: { netns: plain, configure: dhcp }, pool: {} }
  few: { link: { netns: few, configure: dhcp }, pool: { ports: 64 } }
`);
    expect(lines.slice(2)).toEqual([
      'guest db on interface eth0 in network namespace db: a dedicated address of the best pool, chosen by least-load',
      '  in use from the start: all of it',
      'guest www on interface eth0 in network namespace www: a dedicated address, only tcp 80, 443, of pool public; class web, kept apart',
      '  in use from the start: tcp 443',
      'guest job on interface eth0 in network namespace job: 1,024 ports, tcp and udp, of an address of the best pool, chosen by lowest-occupancy',
      '  in use from the start: all of them',
      'guest plain on interface eth0 in network namespace plain: a dedicated address of the best pool',
      '  in use from the start: none',
      "  told by DHCP: its address, with the mask and gateway of the network there, the host's name servers and the NIC's MTU",
      '  its own connections may come from any port',
      'guest few on interface eth0 in network namespace few: 64 ports, tcp and udp, of an address of the best pool',
      '  in use from the start: none',
      "  told by DHCP: its address, with the mask and gateway of the network there, the host's name servers and the NIC's MTU",
      '  its own connections work from the ports that it gets: set its range to them, there or by its DHCP client (option 159)',
      'Pool public on uplink1: 16 addresses; 203.0.113.16-203.0.113.31; at most 64 guests; 10 Gbit/s; for class web.',
      'Pool more on uplink2: 1 address; 198.51.100.7; chosen by least-load × 2 + first-fit × 1.',
      DROPPED,
    ]);
  });

  it('accepts the example of docs/floating-addresses.md', () => {
    const page = readFileSync(new URL('../../docs/floating-addresses.md', import.meta.url), 'utf8');
    const [, yaml] = /```yaml\n([^]*?)```/.exec(page) as RegExpExecArray;
    expect(describeText(`addresses: 192.0.2.10\n${yaml}`)).toContain('Pool spare on uplink2: 5 addresses; 198.51.100.7, 198.51.100.16-198.51.100.19; 1 Gbit/s; chosen by least-load.');
  });

  it('has a help with an example', () => {
    let help = '';
    checkCommand().configureOutput({ writeOut: (text) => (help += text) }).outputHelp();
    expect(help).toMatch(/Usage: check .*<file>/);
    expect(help).toContain('$ berth check berth.yaml');
  });

  it('accepts the example of its help', () => {
    let help = '';
    checkCommand().configureOutput({ writeOut: (text) => (help += text) }).outputHelp();
    const yaml = help.slice(help.indexOf('berth.yaml:\n') + 'berth.yaml:\n'.length);
    expect(describeText(yaml)).toContain('guest web on tap tap-web: 1,003 endpoints leased');
  });
});
