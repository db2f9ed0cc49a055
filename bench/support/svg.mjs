/**
 * Draws a Vega-Lite chart into an SVG file.
 */
import fs from 'node:fs';
import path from 'node:path';
import * as vega from 'vega';
import { compile } from 'vega-lite';

const CONFIG = { font: 'sans-serif', background: 'white', axis: { labelFontSize: 11, titleFontSize: 11 }, title: { anchor: 'start', fontSize: 13 } };

export async function writeSvg(file, chart) {
  const view = new vega.View(vega.parse(compile({ ...chart, config: CONFIG }).spec), { renderer: 'none' });
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, await view.toSVG());
}
