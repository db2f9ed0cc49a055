/** The web servers that a demo fetches from. */
import { Output } from './output.js';
import { serverProgram } from './script.js';
import type { Lab } from '../lab.js';

/** Resolves when it listens; it ends with the lab. */
export async function startServer(lab: Lab, namespace: string, who: string, port: number): Promise<void> {
  await new Output(lab.spawn(namespace, [process.execPath, '-e', serverProgram(who, port)]), `the web server of ${who}`).match(/^\d+/);
}
