/** `npm start` alone: what it shows, in numbers where it measures, and that nothing of it is left. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { liveTests } from '../support/live.js';

const PROGRAM = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const NOBODY = { uid: 65_534, gid: 65_534 };

function demo(as: Partial<typeof NOBODY> = {}, ...which: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [PROGRAM, 'demo', ...which], { encoding: 'utf8', cwd: '/', timeout: 60_000, ...as });
}

it.skipIf(!liveTests('demo'))('the demo shows three servers at one address, and what agents bring', { timeout: 90_000 }, () => {
  const namespaces = (): string => spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' }).stdout;
  const { status, stdout, stderr } = demo();
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  for (const line of [
    /^http:\/\/192\.0\.2\.10:80\/ +the host +192\.0\.2\.1$/m,
    /^http:\/\/192\.0\.2\.10:8080\/ +guest blue +192\.0\.2\.1$/m,
    /^http:\/\/192\.0\.2\.10:9090\/ +guest green +192\.0\.2\.1$/m,
    /^http:\/\/192\.0\.2\.10:8081\/ +nobody, 1 s of silence$/m,
    /^green starts a server at blue's port 8080 +tcp port 8080 is leased to another guest; .*\(ERR_PORT_TAKEN\)$/m,
    /^green has 13 of 16 ports in use +another block, now [\d,-]+$/m,
    /^green has 26 of 32 ports in use +no other block: the guest holds 32 ports .* at most 32 are allowed.*\(ERR_OVER_THRESHOLD\)$/m,
    /^not-in-use +\d+ +leased to a guest that does not use it \(port 8081, and the server that was killed\)$/m,
    /^spoofed +1 /m,
  ]) expect(stdout).toMatch(line);
  // 50 ms are shown by bench/control on a thousand events; one event on a busy machine may be late.
  for (const [, what, ms] of stdout.matchAll(/(reachable from outside|silence) after (\d+) ms$/gm)) expect({ what, inTime: Number(ms) <= 500 }).toEqual({ what, inTime: true });
  expect(stdout.match(/after \d+ ms$/gm)).toHaveLength(2);
  expect(stdout.trimEnd().split('\n').at(-1)).toBe('Everything the demo made has been removed.');
  expect(namespaces()).not.toMatch(/berth-demo/);
});

it.skipIf(!liveTests('demo'))('the demo of pools shows an address chosen by load, used, and released, and one whose ports two guests have', { timeout: 90_000 }, () => {
  const { status, stdout, stderr } = demo({}, 'pools');
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  for (const line of [
    /^198\.51\.100\.100 +two +uplink2 +leased +db /m,
    /^Chosen by least-load: pool two on uplink2, 0 % of 100 Mbit\/s in use\.\nNot pool one on uplink1: \d+(\.\d)? % of 100 Mbit\/s in use\.$/m,
    /^leased, not in use: nobody answers ARP +nobody$/m,
    /^db has connected to somebody, so it uses the address +guest db, which saw client 198\.51\.100\.1$/m,
    /^db is removed: the address is quarantined +nobody$/m,
    /^198\.51\.100\.100 +two +uplink2 +quarantined +db /m,
    /^http:\/\/192\.0\.2\.100:1080\/ +guest web, .*\nhttp:\/\/192\.0\.2\.100:2080\/ +guest api, /m,
    /^192\.0\.2\.100 +one +uplink1 +in use +web +1024-2047 .*\n192\.0\.2\.100 +one +uplink1 +in use +api +2048-3071 /m,
  ]) expect(stdout).toMatch(line);
  expect(stdout.trimEnd().split('\n').at(-1)).toBe('Everything the demo made has been removed.');
});

it.skipIf(!liveTests('demo'))('the demo of port mapping shows guests with private addresses behind the host\'s', { timeout: 90_000 }, () => {
  const { status, stdout, stderr } = demo({}, 'map');
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  for (const line of [
    /^the outside +http:\/\/192\.0\.2\.10:8443\/ +guest legacy, which saw client 192\.0\.2\.1$/m,
    /^guest legacy +http:\/\/192\.0\.2\.1:80\/ +the outside, which saw client 192\.0\.2\.10$/m,
    /^guest other +http:\/\/192\.0\.2\.10:8443\/ +guest legacy, which saw client 192\.0\.2\.10$/m,
    /^the outside +http:\/\/192\.0\.2\.10:9443\/ +nobody$/m,
    /^the outside +http:\/\/192\.0\.2\.10:9443\/ +guest other, which saw client 192\.0\.2\.1$/m,
  ]) expect(stdout).toMatch(line);
  expect(stdout.trimEnd().split('\n').at(-1)).toBe('Everything the demo made has been removed.');
});

const mayDrop = process.getuid?.() === 0 && spawnSync(process.execPath, [PROGRAM, '--version'], { cwd: '/', ...NOBODY }).status === 0;
it.skipIf(process.getuid?.() === 0 && !mayDrop)('without root a capture is replayed instead, and that is said', () => {
  const { status, stdout } = demo(mayDrop ? NOBODY : {});
  expect(status).toBe(0);
  expect(stdout).toMatch(/^[^\n]*root[^\n]*: instead of a live network, a capture of made-up frames for 192\.0\.2\.10 is replayed\.\n/);
  expect(stdout).toMatch(/^forward +blue +10 /m);
  expect(stdout).toMatch(/^discard +not-in-use +10 /m);
  if (mayDrop) for (const which of ['pools', 'map']) expect(demo(NOBODY, which)).toMatchObject({ status: 1, stderr: expect.stringMatching(/^berth: [^\n]*; this demo needs Linux and root\n$/) });
});
