/** Tables for people: no lines, columns aligned, nothing after the last word. The only import of cli-table3. */
import Table from 'cli-table3';

const PARTS = [
  ...['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right'],
  ...['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'],
];

/** `numbers`: the columns that are set to the right. */
export function plainTable(head: string[], rows: string[][], numbers: readonly number[] = []): string {
  const table = new Table({
    head,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
    chars: Object.fromEntries(PARTS.map((part) => [part, ''])),
    colAligns: head.map((_, column) => (numbers.includes(column) ? 'right' : 'left')),
  });
  table.push(...rows);
  return table.toString().replaceAll(/ +$/gm, '');
}

/** 1234567 → `1,234,567`. */
export function count(number: number): string {
  return number.toLocaleString('en-US');
}

/** `1 tap`, `1,003 taps`; only the word without `withNumber`. */
export function plural(number: number, one: string, many = `${one}s`, withNumber = true): string {
  const word = number === 1 ? one : many;
  return withNumber ? `${count(number)} ${word}` : word;
}
