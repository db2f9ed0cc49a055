/**
 * The compiled program that the benches measure: dist/, or the folder that BERTH_DIST names.
 */
import path from 'node:path';
import { pathToFileURL } from 'node:url';

export const ROOT = path.resolve(import.meta.dirname, '../..');
export const DIST = path.resolve(process.env.BERTH_DIST ?? path.join(ROOT, 'dist'));

/** Loads the module that src/`name`.ts compiles to. */
export function load(name) {
  return import(pathToFileURL(path.join(DIST, `${name}.js`)).href);
}
