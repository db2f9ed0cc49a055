/** One variant of one case, in a process of its own: `node one-case.mjs CASE VARIANT`; the results go to the parent. */
const [name, variant] = process.argv.slice(2);
const { run } = await import(`../cases/${name}.mjs`);
const results = await run(variant);
if (process.send === undefined) console.log(JSON.stringify(results, null, 2));
else process.send(results);
