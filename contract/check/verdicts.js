// Reads {path: [value, …]} and prints {path: [whether ajv accepts it, …]}, in ajv's strict mode.
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { Ajv2020 } from "ajv/dist/2020.js";

const ajv = new Ajv2020({ strict: true });
const verdicts = {};
for (const [path, values] of Object.entries(JSON.parse(await text(process.stdin)))) {
  const schema = JSON.parse(await readFile(`${process.argv[2]}/${path}.json`, "utf8"));
  const accepts = ajv.compile(schema);
  verdicts[path] = values.map((value) => accepts(value));
}
console.log(JSON.stringify(verdicts));
