/**
 * A lock between processes: a folder that holds its owner's name, released when the owner ends.
 *
 * Taking       the folder is prepared under another name and renamed: it appears with its owner inside, or not at all.
 * Dead owners  the owner is "pid start-time", so a later process of the same number is not mistaken for it. Of those
 *              that find it dead, the one that makes `heir` inside looks again and puts its own name in.
 * Releasing    renamed away first, then removed: an empty folder must never stand there, it could be renamed over.
 */
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const PATIENCE_MS = 15 * 60_000;
const LOOK_AGAIN_MS = 200;

function read(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

const remove = (folder) => fs.rmSync(folder, { recursive: true, force: true });

/** "pid start-time"; without /proc only the number is there to compare. */
function identity(pid) {
  const stat = read(`/proc/${pid}/stat`);
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' '); // from the third on: proc_pid_stat(5)
  return `${pid} ${fields?.[19] ?? '-'}`;
}

function isAlive(owner) {
  const pid = Number(owner.split(' ')[0]);
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (error.code !== 'EPERM') return false;
  }
  return identity(pid) === owner;
}

function tryTake(lock, me) {
  const prepared = `${lock}.${process.pid}`;
  fs.mkdirSync(prepared, { recursive: true });
  fs.writeFileSync(`${prepared}/owner`, me);
  try {
    fs.renameSync(prepared, lock);
    return true;
  } catch (error) {
    remove(prepared);
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    return false;
  }
}

function tryInherit(lock, me) {
  try {
    fs.mkdirSync(`${lock}/heir`);
  } catch {
    return false;
  }
  const owner = read(`${lock}/owner`);
  const dead = owner !== undefined && !isAlive(owner);
  if (dead) {
    fs.writeFileSync(`${lock}/heir/owner`, me);
    fs.renameSync(`${lock}/heir/owner`, `${lock}/owner`);
  }
  remove(`${lock}/heir`);
  return dead;
}

/**
 * Waits for the lock and holds it until this process ends.
 * @param lock the folder, in an existing folder of the same file system
 * @param say called once with a line for the user if there is somebody to wait for
 * @returns false if nothing came of it for a quarter of an hour
 */
export async function takeLock(lock, say) {
  const me = identity(process.pid);
  const deadline = Date.now() + PATIENCE_MS;
  for (let told = false; !tryTake(lock, me); await sleep(LOOK_AGAIN_MS)) {
    const owner = read(`${lock}/owner`);
    if (owner !== undefined && !isAlive(owner)) {
      if (tryInherit(lock, me)) break;
      continue;
    }
    if (Date.now() > deadline) return false;
    if (!told && owner !== undefined) say(`waiting for another set-up, process ${owner.split(' ')[0]} …`);
    told ||= owner !== undefined;
  }
  process.on('exit', () => {
    fs.renameSync(lock, `${lock}.${process.pid}`);
    remove(`${lock}.${process.pid}`);
  });
  return true;
}
