/**
 * Lint rules: typescript-eslint with types for everything in TypeScript, plain rules for scripts and configuration.
 *
 * Hot path     the files that run once a frame may not do what allocates, waits or logs (HOT_FILES, HOT_PATH_RULES).
 *              Constructors are exempt: they run once. A cold function in such a file says so:
 *              `// eslint-disable-next-line no-restricted-syntax -- runs once, when the table is replaced`.
 * Not here     who may import what (.dependency-cruiser.cjs), what is unused (knip.json).
 */
import { createRequire } from 'node:module';
import tseslint from 'typescript-eslint';

// ESLint's own recommended set, taken from ESLint's own dependency: no second version to keep in step.
const requireFromEslint = createRequire(import.meta.resolve('eslint'));
const recommended = requireFromEslint('@eslint/js').configs.recommended;

const TYPESCRIPT = ['**/*.ts'];
const SCRIPTS = ['**/*.{js,mjs,cjs}'];
const HOT_FILES = ['src/dataplane/{parse,lookup,verdict,forward,engine}{,-*}.ts', 'src/steering/table.ts'];

const IN_LOOP = ':matches(ForStatement, ForOfStatement, ForInStatement, WhileStatement, DoWhileStatement)';
const COLD = ':not(MethodDefinition[kind="constructor"] *)';
const HOT_PATH_RULES = [
  { selector: `TryStatement${COLD}`, message: 'No try in the hot path: a verdict and a counter say what went wrong.' },
  { selector: ':function[async=true]', message: 'No async in the hot path: one promise a frame is one too many.' },
  { selector: ':function[generator=true]', message: 'No generators in the hot path: a plain loop.' },
  { selector: 'AwaitExpression', message: 'No await in the hot path.' },
  { selector: `TemplateLiteral${COLD}:not(ThrowStatement *)`, message: 'No strings in the hot path: integer codes.' },
  { selector: `SpreadElement${COLD}`, message: 'No spread in the hot path: it allocates.' },
  { selector: `${IN_LOOP} NewExpression${COLD}:not(ThrowStatement *)`, message: 'No new inside a loop of the hot path: allocate before it.' },
  { selector: `${IN_LOOP} ObjectExpression${COLD}:not(ThrowStatement *)`, message: 'No object literal inside a loop of the hot path: write into `out`.' },
  { selector: `${IN_LOOP} ArrayExpression${COLD}:not(ThrowStatement *)`, message: 'No array literal inside a loop of the hot path: write into `out`.' },
  { selector: `${IN_LOOP} :matches(ArrowFunctionExpression, FunctionExpression)${COLD}`, message: 'No closure inside a loop of the hot path.' },
  { selector: `CallExpression[callee.property.name=/^(forEach|map|filter|reduce|flatMap)$/]${COLD}`, message: 'No callback a frame in the hot path: a plain loop.' },
  { selector: ':matches(Literal[bigint], Identifier[name=/^(BigInt|BigInt64Array|BigUint64Array)$/])', message: 'No BigInt in the hot path: two 32-bit numbers.' },
  { selector: 'Identifier[name=/^(console|Date)$/]', message: 'No logs and no Date in the hot path: counters, and the clock once a batch.' },
];

export default tseslint.config(
  { ignores: ['**/node_modules/', '**/dist/', '**/build/', 'bench/results/', 'coverage/'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  {
    name: 'berth/all',
    extends: [recommended],
    rules: { eqeqeq: 'error', 'prefer-const': 'error', 'no-var': 'error', 'object-shorthand': 'error' },
  },
  {
    name: 'berth/typescript',
    files: TYPESCRIPT,
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { project: 'tsconfig.check.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', caughtErrors: 'none' }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
    },
  },
  {
    name: 'berth/src',
    files: ['src/**/*.ts'],
    rules: {
      'no-console': 'error',
      'no-restricted-properties': ['error', { object: 'process', property: 'exit', message: 'Only the command line ends the process: throw an error with a code.' }],
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/no-deprecated': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/use-unknown-in-catch-callback-variable': 'error',
    },
  },
  {
    name: 'berth/cli',
    files: ['src/cli/**/*.ts'],
    rules: { 'no-console': 'off', 'no-restricted-properties': 'off' },
  },
  {
    name: 'berth/hot-path',
    files: HOT_FILES,
    rules: { 'no-restricted-syntax': ['error', ...HOT_PATH_RULES] },
  },
  {
    // Tests hand over what the types forbid, and stand-ins that need not await.
    name: 'berth/test-and-bench',
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/unbound-method': 'off',
    },
  },
  {
    // The globals are those of the Node that runs this; undefined names in TypeScript are the compiler's business.
    name: 'berth/scripts',
    files: SCRIPTS,
    languageOptions: { globals: Object.fromEntries(Object.getOwnPropertyNames(globalThis).map((name) => [name, 'readonly'])) },
  },
  { name: 'berth/commonjs', files: ['**/*.cjs'], languageOptions: { sourceType: 'commonjs' } },
);
