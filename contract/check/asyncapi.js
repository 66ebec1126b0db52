// Prints the problems that AsyncAPI's own parser finds in the document.
import { readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";

const source = process.argv[2];
const { document, diagnostics } = await new Parser().parse(await readFile(source, "utf8"), { source });
for (const { code, message, path, severity } of diagnostics) {
  console.log(`${["error", "warning", "information", "hint"][severity]} ${code} at ${path.join(".")}: ${message}`);
}
if (!document) {
  console.log("The document cannot be read.");
}
