// viem against a dev chain: deploy, 100 transactions, logs, reverts, WebSocket subscriptions.
"use strict";
const assert = require("node:assert/strict");
const viem = require("viem");
const { mnemonicToAccount } = require("viem/accounts");
const { foundry } = require("viem/chains");
const { artifact, fresh, mnemonic, rpc, run, until, websocket } = require("./chain");

const { abi, bytecode } = artifact("Counter");
const account = mnemonicToAccount(mnemonic);
const http = { chain: foundry, transport: viem.http(rpc), pollingInterval: 50 };
const reader = viem.createPublicClient(http);
const wallet = viem.createWalletClient({ ...http, account });
const socket = viem.createPublicClient({ chain: foundry, transport: viem.webSocket(websocket) });

async function deploy() {
  const hash = await wallet.deployContract({ abi, bytecode, args: [0n] });
  const receipt = await reader.waitForTransactionReceipt({ hash });
  assert.equal(receipt.status, "success");
  assert.notEqual(await reader.getCode({ address: receipt.contractAddress }), undefined);
  return receipt.contractAddress;
}

/** Subscribes to heads, logs of `address` and pending hashes; an error of a subscription fails. */
async function subscribe(address) {
  const seen = { heads: [], logs: [], pending: [], errors: [] };
  const onError = (error) => seen.errors.push(error);
  socket.watchBlockNumber({ onBlockNumber: (number) => seen.heads.push(number), onError });
  socket.watchContractEvent({ address, abi, onLogs: (logs) => seen.logs.push(...logs), onError });
  socket.watchPendingTransactions({ onTransactions: (hashes) => seen.pending.push(...hashes), onError });
  // The node answers in order: once this one is answered, the subscriptions above are in force.
  await new Promise((resolve) => setTimeout(resolve, 300));
  await socket.getBlockNumber();
  return seen;
}

/** 50 calls and 50 value transfers with nonces of their own, all sent at once. */
async function sendHundred(address) {
  const first = await reader.getTransactionCount({ address: account.address });
  const fees = await reader.estimateFeesPerGas();
  const send = (index) => {
    const nonce = first + index;
    return index % 2 === 0
      ? wallet.writeContract({ address, abi, functionName: "increment", nonce, gas: 100_000n, ...fees })
      : wallet.sendTransaction({ to: fresh(index), value: BigInt(index), nonce, gas: 21_000n, ...fees });
  };
  const hashes = await Promise.all(Array.from({ length: 100 }, (_, index) => send(index)));
  const receipts = await Promise.all(hashes.map((hash) => reader.waitForTransactionReceipt({ hash })));
  assert(receipts.every((receipt) => receipt.status === "success"));
  assert.equal(await reader.getTransactionCount({ address: account.address }), first + 100);
  for (let index = 1; index < 100; index += 2) {
    assert.equal(await reader.getBalance({ address: fresh(index) }), BigInt(index));
  }
  return hashes;
}

async function checkLogs(address) {
  const event = viem.getAbiItem({ abi, name: "Moved" });
  const logs = await reader.getLogs({ address, event, args: { by: account.address }, fromBlock: 0n });
  assert.deepEqual(logs.map((log) => log.args.number), Array.from({ length: 50 }, (_, index) => BigInt(index + 1)));
  const other = await reader.getLogs({ address, event, args: { by: fresh(0) }, fromBlock: 0n });
  assert.equal(other.length, 0);
  assert.equal(await reader.readContract({ address, abi, functionName: "number" }), 50n);
}

async function checkReverts(address) {
  const call = (by) => reader.simulateContract({ account, address, abi, functionName: "decrement", args: [by] });
  await assert.rejects(call(0n), (error) => {
    const revert = error.walk((cause) => cause instanceof viem.ContractFunctionRevertedError);
    assert.equal(revert.reason, "Counter: nothing to take");
    return true;
  });
  await assert.rejects(call(1_000n), (error) => {
    const revert = error.walk((cause) => cause instanceof viem.ContractFunctionRevertedError);
    assert.deepEqual([revert.data.errorName, ...revert.data.args], ["Below", 50n, 1_000n]);
    return true;
  });
}

run(async () => {
  assert.equal(await reader.getChainId(), foundry.id);
  const address = await deploy();
  const seen = await subscribe(address);
  const hashes = await sendHundred(address);
  await checkLogs(address);
  await checkReverts(address);

  const last = await reader.getBlockNumber();
  await until("50 logs over WebSocket", () => seen.logs.length >= 50);
  await until("100 pending transactions over WebSocket", () => seen.pending.length >= 100);
  await until("the last head over WebSocket", () => seen.heads.at(-1) === last);
  assert.deepEqual(seen.errors, []);
  assert.deepEqual(seen.logs.map((log) => log.args.number), Array.from({ length: 50 }, (_, index) => BigInt(index + 1)));
  assert.deepEqual(new Set(seen.pending), new Set(hashes));
  seen.heads.forEach((number, index) => assert.equal(number, seen.heads[0] + BigInt(index)));
  console.log(`viem: 100 transactions in ${last} blocks, 50 logs, ${seen.heads.length} heads`);
});
