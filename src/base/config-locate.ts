/**
 * Where things are in a configuration file: the line of every key, and the problems that name it.
 *
 * Lines     a key path (`['guests', 'web', 'lease']`) → the line of its key; inside an alias, the line of the anchored text.
 * Problems  collected, not thrown one by one: an operator sees all of them, in the order of the file, a line each.
 * Limits    keys given twice, nesting past any configuration and aliases that multiply are refused here, before anything
 *           walks the values they make. Nesting without end is found in the text: the parser calls itself for each level,
 *           and a stack that is used up inside a regular expression ends the whole process.
 */
import { isAlias, isMap, isScalar, isSeq, Lexer, type Document, type LineCounter, type Node } from 'yaml';
import { ConfigError } from './errors.js';

export type KeyPath = readonly (string | number)[];
/** Made by `locate`, read by `lineOf`. */
export type Lines = ReadonlyMap<string, number>;

/** In place of a file's name: the text came from elsewhere, and messages name no line. */
export const NO_FILE = '';

const MAX_DEPTH = 32;
/** Tokens of the lexer that are no text (yaml's CST.DOCUMENT, FLOW_END, SCALAR). */
const MARKS: ReadonlySet<string> = new Set(['\x02', '\x18', '\x1f']);
const TOO_DEEP = `nested too deeply (more than ${MAX_DEPTH} levels); no configuration needs that`;
/** Nodes visited inside aliases, all aliases together: a bomb of nine levels would visit 10^9. */
const MAX_ALIASED_NODES = 100_000;
const MAX_PROBLEMS = 50;

const keyOf = (path: KeyPath): string => path.join('\u0000');

/** The line of a key, or of the nearest key around it that the file has; 1 when there is none. */
export function lineOf(lines: Lines, path: KeyPath): number {
  for (let length = path.length; length > 0; length--) {
    const line = lines.get(keyOf(path.slice(0, length)));
    if (line !== undefined) return line;
  }
  return 1;
}

/** Whether the file has the key, itself or inside an alias. */
export function isGiven(lines: Lines, path: KeyPath): boolean {
  return lines.has(keyOf(path));
}

/** `guests.web.lease.tcp`, `addresses[1]` */
export function formatPath(path: KeyPath): string {
  let text = '';
  for (const key of path) text += typeof key === 'number' ? `[${key}]` : `${text === '' ? '' : '.'}${printable(key)}`;
  return text;
}

/** A value as an operator would recognise it, on one line. */
export function show(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object') return 'a map';
  const text = typeof value === 'number' || typeof value === 'boolean' ? String(value) : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 76)}..."` : text;
}

/** The start of a message about a place in a file. */
export function placeOf(file: string, line: number, column: number | null = null): string {
  return file === NO_FILE ? '' : `${file}:${line}${column === null ? '' : `:${column}`}: `;
}

function printable(key: string): string {
  return /^[\x21-\x7e]{1,64}$/.test(key) ? key : show(key);
}

/** Collects what is wrong with one file; `throwIfAny` makes it one ConfigError, a line a problem, with the first one's code. */
export class Problems {
  readonly #found: { readonly code: string; readonly line: number; readonly text: string }[] = [];

  constructor(
    readonly file: string,
    readonly lines: Lines = new Map(),
  ) {}

  lineOf(path: KeyPath): number {
    return lineOf(this.lines, path);
  }

  /** ` (lines 4 and 9)`, of two keys that do not go together; empty where there is no file. */
  linesOf(before: KeyPath, after: KeyPath): string {
    return this.file === NO_FILE ? '' : ` (lines ${this.lineOf(before)} and ${this.lineOf(after)})`;
  }

  /** A problem of a key; `text` is `what is wrong (got X, expected Y); what to do`. */
  add(code: string, path: KeyPath, text: string): void {
    const key = formatPath(path);
    this.addAt(code, this.lineOf(path), null, key === '' ? text : `${key}: ${text}`);
  }

  /** A problem of a place in the text. */
  addAt(code: string, line: number, column: number | null, text: string): void {
    this.#found.push({ code, line, text: `${placeOf(this.file, line, column)}${text}` });
  }

  throwIfAny(): void {
    const sorted = [...this.#found].sort((a, b) => a.line - b.line);
    const first = sorted[0];
    if (first === undefined) return;
    const shown = sorted.slice(0, MAX_PROBLEMS).map((problem) => problem.text);
    if (sorted.length > MAX_PROBLEMS) shown.push(`${this.file}: and ${sorted.length - MAX_PROBLEMS} more problems`);
    throw new ConfigError(first.code, shown.join('\n'));
  }
}

/**
 * Adds a problem for a text that nests far past MAX_DEPTH, without building anything of it. Depth is that of brackets, or
 * of the columns at which lines and the indicators `-` and `?` begin, each further in than the one before: never less than the
 * document's own, and a level or two more.
 */
export function refuseEndlessNesting(text: string, problems: Problems): void {
  const columns: number[] = [];
  let brackets = 0;
  let line = 1;
  let column = 0;
  let isFirst = true;
  for (const token of new Lexer().lex(text)) {
    if (MARKS.has(token)) continue;
    if (token === '[' || token === '{') brackets++;
    else if (token === ']' || token === '}') brackets--;
    if (brackets <= 0 && token >= '!' && (isFirst || token === '-' || token === '?')) {
      while (columns.length > 0 && columns[columns.length - 1] >= column) columns.pop();
      columns.push(column);
      isFirst = false;
    }
    if (Math.max(brackets, columns.length) > 2 * MAX_DEPTH) return problems.addAt('ERR_CONFIG_SYNTAX', line, null, TOO_DEEP);
    const end = token.lastIndexOf('\n');
    if (end >= 0) {
      line += token.split('\n').length - 1;
      isFirst = true;
      column = 0;
    }
    column += token.length - (end + 1);
  }
}

/** The line of every key of a document without syntax errors; what the header refuses is added to `problems`. */
export function locate(document: Document.Parsed, counter: LineCounter, problems: Problems): Lines {
  const lines = new Map<string, number>();
  const anchors = new Map<string, Node>();
  let aliased = 0;
  let refused = false;

  const lineAt = (node: Node): number => counter.linePos(node.range?.[0] ?? 0).line;
  const refuse = (node: Node, text: string): void => {
    if (!refused) problems.addAt('ERR_CONFIG_SYNTAX', lineAt(node), null, text);
    refused = true;
  };

  const visit = (node: unknown, path: KeyPath, inAlias: boolean): void => {
    if (refused || !isNode(node)) return;
    if (inAlias && ++aliased > MAX_ALIASED_NODES) {
      return refuse(node, `aliases stand for too much (more than ${MAX_ALIASED_NODES} values); write them out`);
    }
    if (path.length > MAX_DEPTH) {
      return refuse(node, TOO_DEEP);
    }
    if (isAlias(node)) {
      const target = anchors.get(node.source);
      if (target === undefined) {
        return refuse(node, `*${node.source} has no anchor before it; write &${node.source} at the value that it stands for`);
      }
      return visit(target, path, true);
    }
    if (node.anchor !== undefined && !inAlias) anchors.set(node.anchor, node);
    if (isSeq(node)) {
      node.items.forEach((item, index) => {
        const inner = [...path, index];
        if (isNode(item)) lines.set(keyOf(inner), lineAt(item));
        visit(item, inner, inAlias);
      });
    } else if (isMap(node)) {
      const seen = new Map<string, number>();
      for (const pair of node.items) {
        const key = isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
        const inner = [...path, key];
        const line = isNode(pair.key) ? lineAt(pair.key) : lineAt(node);
        const before = seen.get(key);
        if (before !== undefined && !inAlias) {
          problems.addAt('ERR_CONFIG_SYNTAX', line, null, `${formatPath(inner)}: key given twice (lines ${before} and ${line}); keep one`);
        }
        if (before === undefined) lines.set(keyOf(inner), line);
        seen.set(key, before ?? line);
        visit(pair.value, inner, inAlias);
      }
    }
  };
  visit(document.contents, [], false);
  return lines;
}

function isNode(value: unknown): value is Node & { anchor?: string } {
  return isMap(value) || isSeq(value) || isScalar(value) || isAlias(value);
}
