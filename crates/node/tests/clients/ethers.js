// ethers against a dev chain: deploy, 100 transactions, logs, reverts, WebSocket subscriptions.
"use strict";
const assert = require("node:assert/strict");
const { ethers } = require("ethers");
const { artifact, fresh, mnemonic, rpc, run, until, websocket } = require("./chain");

const { abi, bytecode } = artifact("Counter");
// Answers are not cached, so that a read that follows a write sees it.
const provider = new ethers.JsonRpcProvider(rpc, undefined, { cacheTimeout: -1, pollingInterval: 50 });
const wallet = ethers.Wallet.fromPhrase(mnemonic).connect(provider);

async function deploy() {
  const contract = await new ethers.ContractFactory(abi, bytecode, wallet).deploy(0n);
  await contract.waitForDeployment();
  const receipt = await contract.deploymentTransaction().wait();
  assert.equal(receipt.contractAddress, await contract.getAddress());
  return contract;
}

async function subscribe(address) {
  const socket = new ethers.WebSocketProvider(websocket);
  const seen = { heads: [], numbers: [], pending: [], socket };
  await socket.on("block", (number) => seen.heads.push(number));
  await socket.on("pending", (hash) => seen.pending.push(hash));
  await new ethers.Contract(address, abi, socket).on("Moved", (by, number) => {
    assert.equal(by, wallet.address);
    seen.numbers.push(number);
  });
  // `on` returns before the node has answered; the node answers in order.
  await new Promise((resolve) => setTimeout(resolve, 300));
  await socket.getBlockNumber();
  return seen;
}

/** 50 calls and 50 value transfers with nonces of their own, all sent at once. */
async function sendHundred(contract) {
  const first = await wallet.getNonce();
  const send = (index) => {
    const nonce = first + index;
    return index % 2 === 0
      ? contract.increment({ nonce, gasLimit: 100_000 })
      : wallet.sendTransaction({ to: fresh(index), value: index, nonce, gasLimit: 21_000 });
  };
  const sent = await Promise.all(Array.from({ length: 100 }, (_, index) => send(index)));
  const receipts = await Promise.all(sent.map((transaction) => transaction.wait()));
  assert(receipts.every((receipt) => receipt.status === 1));
  assert.equal(await wallet.getNonce(), first + 100);
  for (let index = 1; index < 100; index += 2) {
    assert.equal(await provider.getBalance(fresh(index)), BigInt(index));
  }
  return sent.map((transaction) => transaction.hash);
}

async function checkLogs(contract) {
  const logs = await contract.queryFilter(contract.filters.Moved(wallet.address), 0);
  assert.deepEqual(logs.map((log) => log.args.number), Array.from({ length: 50 }, (_, index) => BigInt(index + 1)));
  assert.equal((await contract.queryFilter(contract.filters.Moved(fresh(0)), 0)).length, 0);
  assert.equal(await contract.number(), 50n);
}

async function checkReverts(contract) {
  await assert.rejects(contract.decrement.staticCall(0), (error) => {
    assert.equal(error.code, "CALL_EXCEPTION");
    assert.equal(error.reason, "Counter: nothing to take");
    return true;
  });
  await assert.rejects(contract.decrement.estimateGas(1_000), (error) => {
    assert.equal(error.code, "CALL_EXCEPTION");
    const { name, args } = contract.interface.parseError(error.data);
    assert.deepEqual([name, ...args], ["Below", 50n, 1_000n]);
    return true;
  });
}

/** The node signs for its own accounts. */
async function checkUnlocked() {
  const unlocked = await provider.getSigner(1);
  const message = "landfall";
  const signature = await unlocked.signMessage(message);
  assert.equal(ethers.verifyMessage(message, signature), unlocked.address);
  const transaction = await unlocked.sendTransaction({ to: fresh(1_000), value: 7 });
  assert.equal((await transaction.wait()).status, 1);
  assert.equal(await provider.getBalance(fresh(1_000)), 7n);
}

run(async () => {
  assert.equal((await provider.getNetwork()).chainId, 31337n);
  const contract = await deploy();
  const seen = await subscribe(await contract.getAddress());
  const hashes = await sendHundred(contract);
  await checkLogs(contract);
  await checkReverts(contract);

  const last = await provider.getBlockNumber();
  await until("50 logs over WebSocket", () => seen.numbers.length >= 50);
  await until("100 pending transactions over WebSocket", () => seen.pending.length >= 100);
  await until("the last head over WebSocket", () => seen.heads.at(-1) === last);
  assert.deepEqual(seen.numbers, Array.from({ length: 50 }, (_, index) => BigInt(index + 1)));
  assert.deepEqual(new Set(seen.pending), new Set(hashes));
  seen.heads.forEach((number, index) => assert.equal(number, seen.heads[0] + index));
  await checkUnlocked();
  console.log(`ethers: 100 transactions in ${last} blocks, 50 logs, ${seen.heads.length} heads`);
});
