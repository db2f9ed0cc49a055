/**
 * The path of a Unix socket that the daemon is to listen on: its folder is made, and a socket that a killed daemon left is removed.
 * What is somebody else's stays: a file that is no socket, a socket that somebody answers on.
 */
import { lstatSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { makeFolder } from '../base/folder.js';

const PROBE_MS = 1000;
const FOLDER_MODE = 0o755;

/** Throws, with the reason in words, where something is in the way, and the file system's error where the folder cannot be made. */
export async function makeRoom(path: string): Promise<void> {
  makeFolder(dirname(path), FOLDER_MODE);
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined) return;
  if (!there.isSocket()) throw new Error('there is a file that is no socket');
  if (await answers(path)) throw new Error('a program that runs has it');
  rmSync(path, { force: true });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (alive: boolean): void => {
      socket.destroy();
      resolve(alive);
    };
    // Neither refused nor accepted: a full backlog, so somebody listens.
    socket.setTimeout(PROBE_MS, () => done(true));
    socket.once('connect', () => done(true));
    socket.once('error', (error: NodeJS.ErrnoException) => done(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'));
  });
}
