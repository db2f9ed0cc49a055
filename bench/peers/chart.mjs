/**
 * The chart of bench:peers: a small bar chart a metric, a bar a contender, Berth's in its own colour.
 */
import { writeSvg } from '../support/svg.mjs';

const SHOWN = ['in', 'out', 'streams', 'requests', 'p99', 'p999', 'exchanges', 'datagrams', 'requestsBesideIdle', 'wholeIn', 'wholeOut', 'wholeExchanges'];
const COLUMNS = 3;

export async function writeChart(file, names, metrics, medians, subtitle) {
  const panels = SHOWN.filter((metric) => names.some((name) => medians[name][metric] !== undefined)).map((metric) => panel(metric, names, metrics[metric], medians));
  await writeSvg(file, { title: { text: 'Berth and its peers', subtitle }, columns: COLUMNS, concat: panels, spacing: 24 });
}

function panel(metric, names, { what, unit, digits, less }, medians) {
  const values = names.filter((name) => medians[name][metric] !== undefined).map((name) => ({ name, value: medians[name][metric], shown: medians[name][metric].toFixed(digits) }));
  const parent = ['p50', 'p99', 'p999'].includes(metric) ? 'request/response, ' : '';
  const y = { field: 'name', type: 'nominal', sort: names, title: null };
  return {
    title: { text: `${parent}${what.trim()}, ${unit}`, subtitle: less ? 'less is better' : 'more is better' },
    width: 230,
    height: { step: 20 },
    data: { values },
    encoding: { y },
    layer: [
      {
        mark: 'bar',
        encoding: {
          x: { field: 'value', type: 'quantitative', title: null, axis: { tickCount: 4 } },
          color: { condition: { test: "datum.name === 'berth'", value: '#1f6feb' }, value: '#b9c2cc' },
        },
      },
      { mark: { type: 'text', align: 'left', dx: 4, fontSize: 11 }, encoding: { x: { field: 'value', type: 'quantitative' }, text: { field: 'shown' } } },
    ],
  };
}
