/** Runs the system's own tools (`ip`, `nft`, `ss`): one call, its output, one-line errors. */
import { execFileSync } from 'node:child_process';
import { BerthError } from './errors.js';

/** Standard output of the tool. ERR_TOOL_MISSING names the Debian package; ERR_TOOL carries the tool's own first line. */
export function runTool(tool: 'ip' | 'nft' | 'ss', args: readonly string[], input?: string): string {
  try {
    return execFileSync(tool, args, { input: input ?? '', encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'], maxBuffer: 64 << 20 });
  } catch (cause) {
    const { code, stderr } = cause as NodeJS.ErrnoException & { stderr?: string };
    if (code === 'ENOENT') {
      const debian = tool === 'nft' ? 'nftables' : 'iproute2';
      throw new BerthError('ERR_TOOL_MISSING', `${tool} is not installed; apt-get install ${debian}`, { cause });
    }
    const said = (stderr ?? '').split('\n').find((line) => line.trim() !== '') ?? String(cause);
    throw new BerthError('ERR_TOOL', `${tool} ${args.join(' ')}: ${said.trim()}`, { cause });
  }
}
