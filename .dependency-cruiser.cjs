/**
 * Who may import what: the planes and folders of src, and one door for each third-party package.
 *
 * MAY_IMPORT   folder → the folders and root files it may import, besides itself. What is not listed is forbidden.
 * Roots        src/daemon.ts, src/uplink.ts and src/index.ts put everything together and may import everything but the command line.
 * DOORS        package → the only files that import it. A package without a door may not be imported at all.
 * Types        imports of types count too: a type that crosses the line is knowledge that crosses it.
 * Not here     unused files, exports and packages (knip.json).
 */
const MAY_IMPORT = {
  base: [],
  wire: ['base'],
  native: ['base'],
  steering: ['wire', 'base'],
  protocol: ['wire', 'base'],
  io: ['native', 'wire', 'base'],
  agent: ['protocol', 'native', 'wire', 'base'],
  dataplane: ['steering', 'io', 'native', 'wire', 'base'],
  control: ['protocol', 'steering', 'io', 'native', 'wire', 'base'],
  cli: ['daemon.ts', 'dataplane', 'control', 'agent', 'protocol', 'steering', 'io', 'wire', 'base'],
};

const CONFIG = ['^src/base/config\\.ts$', '^src/base/config-[^/]+\\.ts$'];
const CLI = '^src/cli/';
const DOORS = {
  pino: '^src/base/log\\.ts$',
  'pino-pretty': '^src/base/log\\.ts$',
  zod: [...CONFIG, '^src/protocol/messages\\.ts$'],
  yaml: CONFIG,
  'fastest-levenshtein': '^src/base/nearest\\.ts$',
  'ipaddr.js': '^src/wire/address\\.ts$',
  cap: '^src/io/cap-io\\.ts$',
  lmdb: '^src/control/store-lmdb\\.ts$',
  fastify: '^src/control/admin\\.ts$',
  '@fastify/swagger': '^src/control/admin\\.ts$',
  'raw-socket': '^src/io/raw-socket-out\\.ts$',
  commander: CLI,
  'cli-table3': CLI,
  'cli-progress': CLI,
};

const escape = (text) => text.replaceAll('.', '\\.');
const place = (name) => (name.endsWith('.ts') ? `${escape(name)}$` : `${name}/`);
/** Matches the packages where they are resolved (or only their types are) and, should that fail, their bare names. */
const packagePaths = (names) => names.map(escape).flatMap((name) => [`^node_modules/${name}/`, `^node_modules/@types/${name}/`, `^${name}(?:/|$)`]);

const folderRules = Object.entries(MAY_IMPORT).map(([folder, others]) => ({
  name: `${folder}-imports`,
  comment: `src/${folder} may import only: ${[folder, ...others].join(', ')}.`,
  severity: 'error',
  from: { path: `^src/${folder}/` },
  to: { path: '^src/', pathNot: `^src/(?:${[folder, ...others].map(place).join('|')})` },
}));

const doorRules = Object.entries(DOORS).map(([name, door]) => ({
  name: `door-${name}`,
  comment: `${name} has one door: ${[door].flat().join(' or ')}.`,
  severity: 'error',
  from: { path: '^src/', pathNot: door },
  to: { path: packagePaths([name]) },
}));

module.exports = {
  forbidden: [
    ...folderRules,
    {
      name: 'nothing-imports-cli',
      comment: 'The command line is the outermost layer: not even the roots import it.',
      severity: 'error',
      from: { path: '^src/', pathNot: CLI },
      to: { path: CLI },
    },
    {
      name: 'one-table-writer',
      comment: 'The steering table has one writer: everything else goes through control/publisher.ts.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(?:control/publisher|daemon|index|steering/table-writer)\\.ts$' },
      to: { path: '^src/steering/table-writer' },
    },
    {
      name: 'every-file-has-a-place',
      comment: 'A file outside the known folders and roots escapes the rules: give it a place, or its folder a line in MAY_IMPORT.',
      severity: 'error',
      from: { path: '^src/', pathNot: `^src/(?:${['daemon.ts', 'uplink.ts', 'index.ts', ...Object.keys(MAY_IMPORT)].map(place).join('|')})` },
      to: {},
    },
    ...doorRules,
    {
      name: 'package-without-door',
      comment: 'A new third-party package needs a line in DOORS.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: 'node_modules/', pathNot: packagePaths(Object.keys(DOORS)) },
    },
    {
      name: 'src-imports-only-src',
      comment: 'Nothing in src imports tests, benches or scripts.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(?:test|bench|\\.ci|dist)/' },
    },
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['types', 'import', 'node', 'default', 'require'],
      extensions: ['.ts', '.js', '.mjs', '.cjs', '.json', '.node', '.d.ts'],
    },
  },
};
