// What the JavaScript clients share: where the chain is, its accounts and the contract they use.
"use strict";
const fs = require("node:fs");
const path = require("node:path");

const rpc = process.env.LANDFALL_RPC;
if (!rpc) throw new Error("LANDFALL_RPC is not set: give the node's URL, http://127.0.0.1:8545");

/** ABI and bytecode of a contract under contracts/artifacts. */
function artifact(name) {
  const file = path.join(__dirname, "../../../../contracts/artifacts", `${name}.json`);
  return JSON.parse(fs.readFileSync(file, "utf8"));
}

/** Resolves once `condition` holds; rejects after ten seconds, naming `what`. */
async function until(what, condition) {
  const deadline = Date.now() + 10_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited ten seconds for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Runs `main`. The last line `passed` proves that it came to its end. */
function run(main) {
  main().then(
    () => {
      console.log("passed");
      process.exit(0);
    },
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
}

module.exports = {
  rpc,
  websocket: rpc.replace(/^http/, "ws"),
  mnemonic: "test test test test test test test test test test test junk",
  /** A fresh address for every number. */
  fresh: (number) => `0x${(0xf0000000 + number).toString(16).padStart(40, "0")}`,
  artifact,
  until,
  run,
};
