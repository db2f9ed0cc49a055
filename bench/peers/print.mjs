/**
 * What bench:peers prints: one table, a row a metric and a column a contender, and the goals.
 */
const NAME_WIDTH = 38;
const COLUMN = 12;

export function printTable(names, metrics, medians) {
  console.log(`\n${''.padEnd(NAME_WIDTH)}${'unit'.padEnd(7)}${names.map((name) => name.padStart(COLUMN)).join('')}`);
  for (const [metric, { what, unit, digits }] of Object.entries(metrics)) {
    const cells = names.map((name) => (medians[name][metric] === undefined ? '–' : medians[name][metric].toFixed(digits)).padStart(COLUMN));
    console.log(`${what.padEnd(NAME_WIDTH)}${unit.padEnd(7)}${cells.join('')}`);
  }
  console.log('');
}

export function printGoals(goals) {
  console.log('');
  for (const { what, value, goal, atMost, unit, met } of goals) {
    const verdict = met === undefined ? '  - ' : met ? 'met ' : 'MISS';
    const measured = value === undefined ? 'not measured' : `${value.toFixed(2)} ${unit}`;
    console.log(`${verdict}  ${what.padEnd(54)}${measured.padStart(12)}  goal ${atMost ? '≤' : '≥'} ${goal}`);
  }
  const missed = goals.filter(({ met }) => met === false).length;
  console.log(missed === 0 ? '\nno goal missed' : `\n${missed} of ${goals.filter(({ met }) => met !== undefined).length} goals missed`);
}
