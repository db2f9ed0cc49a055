/**
 * The load program (support/load, C): its server in one namespace, a client in another.
 */
import { once } from 'node:events';
import path from 'node:path';

const PROGRAM = path.join(import.meta.dirname, 'load/build/Release/load');
/** The server's ports are FIRST_PORT … LAST_PORT (load.h). Eight, so that a mask can name them. */
export const FIRST_PORT = 7000;
export const LAST_PORT = 7007;
/** The first port of a server of the host's own. */
export const HOST_PORT = 9000;

/** Starts the server; resolves to its process when it listens. */
export async function startServer(lab, namespace, first = FIRST_PORT) {
  const child = lab.spawn(namespace, [PROGRAM, 'serve', String(first)]);
  const [said] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
  if (!String(said).startsWith('ready')) throw new Error(`the load server does not start: ${said}`);
  return child;
}

/** As runLoad, in the background: resolves to what the client prints. */
export async function spawnLoad(lab, namespace, command, where, ...numbers) {
  const child = lab.spawn(namespace, commandLine(command, where, numbers));
  let output = '';
  child.stdout.on('data', (data) => (output += data));
  await once(child, 'close');
  return checkOutput(command, output);
}

/** Runs a client to its end against the server at `address` (and its `first` port); returns what it prints, throws what it complains of. */
export function runLoad(lab, namespace, command, where, ...numbers) {
  let output;
  try {
    output = lab.run(namespace, commandLine(command, where, numbers));
  } catch (error) {
    output = error.stdout || JSON.stringify({ error: error.message });
  }
  return checkOutput(command, output);
}

function commandLine(command, { address, first = FIRST_PORT }, numbers) {
  return [PROGRAM, command, address, String(first), ...numbers.map((number) => String(Math.round(number)))];
}

function checkOutput(command, output) {
  const result = JSON.parse(output);
  if (result.error !== undefined) throw new Error(`${command}: ${result.error}`);
  return result;
}
