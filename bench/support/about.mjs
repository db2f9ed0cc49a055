/**
 * What a run was made with: commit, Node, processor, kernel, load.
 */
import { execFileSync } from 'node:child_process';
import os from 'node:os';
import { ROOT } from './dist.mjs';

export function about() {
  return { commit: commit(), node: process.version, cpu: `${os.cpus().length} × ${os.cpus()[0]?.model ?? 'unknown'}`, kernel: os.release(), load: os.loadavg()[0] };
}

export const aboutLine = ({ commit, node, cpu, kernel, load }) => `berth ${commit}, Node ${node}, ${cpu}, Linux ${kernel}, load ${load.toFixed(1)}`;

function commit() {
  try {
    const git = (...args) => execFileSync('git', ['-C', ROOT, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain', '--untracked-files=no') === '' ? '' : ' and changes');
  } catch {
    return 'unknown commit';
  }
}
