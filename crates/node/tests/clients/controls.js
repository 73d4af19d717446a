// viem's test client drives every control of a dev chain and checks what each one did.
// LANDFALL_MODE is the prefix that it gives them: anvil or hardhat.
"use strict";
const assert = require("node:assert/strict");
const viem = require("viem");
const { mnemonicToAccount } = require("viem/accounts");
const { foundry } = require("viem/chains");
const { artifact, fresh, mnemonic, rpc, run, until } = require("./chain");

const mode = process.env.LANDFALL_MODE;
assert(["anvil", "hardhat"].includes(mode), "LANDFALL_MODE is anvil or hardhat");
const ether = viem.parseEther("1");
const { abi, deployedBytecode } = artifact("Counter");
const accounts = [0, 1, 2].map((addressIndex) => mnemonicToAccount(mnemonic, { addressIndex }));
const client = viem
  .createTestClient({ mode, chain: foundry, transport: viem.http(rpc, { retryCount: 0 }), pollingInterval: 20 })
  .extend(viem.publicActions)
  .extend(viem.walletActions);

const number = () => client.getBlockNumber({ cacheTime: 0 });
const latest = () => client.getBlock({ blockTag: "latest" });
const balance = (address) => client.getBalance({ address });
const pay = (overrides = {}) =>
  client.sendTransaction({ account: accounts[0], to: fresh(1), value: 1n, gas: 21_000n, ...overrides });
const settled = (hash) => client.waitForTransactionReceipt({ hash, timeout: 10_000 });

/** Each control with its check, in the order in which they run on one chain. */
const controls = {
  async setBalance() {
    await client.setBalance({ address: fresh(10), value: 5n * ether });
    assert.equal(await balance(fresh(10)), 5n * ether);
    await client.mine({ blocks: 1 });
    assert.equal(await balance(fresh(10)), 5n * ether, "it lasts into the next block");
    await client.setBalance({ address: fresh(10), value: 0n });
    assert.equal(await balance(fresh(10)), 0n);
  },

  async setCode() {
    await client.setCode({ address: fresh(11), bytecode: deployedBytecode });
    assert.equal(await client.getCode({ address: fresh(11) }), deployedBytecode);
    await settled(await client.writeContract({ account: accounts[0], address: fresh(11), abi, functionName: "increment" }));
    assert.equal(await client.readContract({ address: fresh(11), abi, functionName: "number" }), 1n);
  },

  async setStorageAt() {
    const value = viem.pad(viem.toHex(41));
    await client.setStorageAt({ address: fresh(11), index: 0, value });
    assert.equal(await client.getStorageAt({ address: fresh(11), slot: "0x0" }), value);
    await settled(await client.writeContract({ account: accounts[0], address: fresh(11), abi, functionName: "increment" }));
    assert.equal(await client.readContract({ address: fresh(11), abi, functionName: "number" }), 42n);
  },

  async setNonce() {
    const { address } = accounts[2];
    await client.setNonce({ address, nonce: 77 });
    assert.equal(await client.getTransactionCount({ address }), 77);
    const receipt = await settled(await pay({ account: accounts[2] }));
    assert.equal((await client.getTransaction({ hash: receipt.transactionHash })).nonce, 77);
    assert.equal(await client.getTransactionCount({ address }), 78);
  },

  async impersonateAccount() {
    const account = fresh(12);
    await client.setBalance({ address: account, value: ether });
    await assert.rejects(pay({ account }), "nobody holds the key of this account");
    await client.impersonateAccount({ address: account });
    const receipt = await settled(await pay({ account, value: 9n, to: fresh(13) }));
    assert.equal(receipt.status, "success");
    assert.equal(receipt.from, account);
    assert.equal(await balance(fresh(13)), 9n);
    // A contract too: EIP-3607 is about keys.
    await client.setCode({ address: account, bytecode: deployedBytecode });
    const sent = await settled(await pay({ account, value: 1n, to: fresh(13) }));
    assert.equal(sent.status, "success");
    assert.equal(await balance(fresh(13)), 10n);
    await client.stopImpersonatingAccount({ address: account });
    await assert.rejects(pay({ account }), "it is over");
  },

  async mine() {
    const before = await latest();
    await client.mine({ blocks: 3, interval: 60 });
    const after = await latest();
    assert.equal(after.number, before.number + 3n);
    const middle = await client.getBlock({ blockNumber: before.number + 2n });
    assert.equal(after.timestamp, middle.timestamp + 60n);
    await client.mine({ blocks: 1_000 });
    assert.equal(await number(), before.number + 1_003n);
  },

  async evm_mine() {
    const before = await latest();
    await client.request({ method: "evm_mine", params: [] });
    assert.equal(await number(), before.number + 1n);
    const timestamp = (await latest()).timestamp + 500n;
    await client.request({ method: "evm_mine", params: [viem.toHex(timestamp)] });
    assert.equal((await latest()).timestamp, timestamp);
  },

  async increaseTime() {
    const before = await latest();
    await client.increaseTime({ seconds: 86_400 });
    await client.mine({ blocks: 1 });
    const passed = (await latest()).timestamp - before.timestamp;
    assert(passed >= 86_400n && passed < 86_460n, `a day passed, not ${passed} s`);
    await client.mine({ blocks: 1 });
    assert((await latest()).timestamp >= before.timestamp + 86_400n, "the clock does not fall back");
  },

  async setNextBlockTimestamp() {
    const timestamp = (await latest()).timestamp + 1_000n;
    await client.setNextBlockTimestamp({ timestamp });
    const receipt = await settled(await pay());
    assert.equal((await client.getBlock({ blockNumber: receipt.blockNumber })).timestamp, timestamp);
    await client.mine({ blocks: 1 });
    const next = (await latest()).timestamp;
    assert(next >= timestamp && next < timestamp + 60n, "the clock goes on from there");
    await assert.rejects(client.setNextBlockTimestamp({ timestamp: timestamp - 500n }), "never backwards");
  },

  async setAutomine() {
    await client.setAutomine(false);
    const before = await number();
    const hash = await pay();
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(await number(), before);
    await assert.rejects(client.getTransactionReceipt({ hash }));
    await client.mine({ blocks: 1 });
    assert.equal((await settled(hash)).blockNumber, before + 1n);
    await client.setAutomine(true);
    assert.equal((await settled(await pay())).blockNumber, before + 2n);
  },

  async txpool() {
    await client.setAutomine(false);
    const { address } = accounts[1];
    const nonce = await client.getTransactionCount({ address });
    const next = await pay({ account: accounts[1], nonce });
    const later = await pay({ account: accounts[1], nonce: nonce + 5 });
    assert.deepEqual(await client.getTxpoolStatus(), { pending: 1, queued: 1 });
    const content = await client.getTxpoolContent();
    const find = (part) => Object.entries(part).find(([sender]) => viem.isAddressEqual(sender, address))[1];
    assert.equal(find(content.pending)[nonce].hash, next);
    assert.equal(find(content.queued)[nonce + 5].hash, later);
    const inspected = await client.inspectTxpool();
    assert.match(find(inspected.pending)[nonce], /1 wei/);
    await client.mine({ blocks: 1 });
    assert.deepEqual(await client.getTxpoolStatus(), { pending: 0, queued: 1 });
    await client.dropTransaction({ hash: later });
    assert.deepEqual(await client.getTxpoolStatus(), { pending: 0, queued: 0 });
    await client.setAutomine(true);
  },

  async dropTransaction() {
    await client.setAutomine(false);
    const before = await client.getTransactionCount({ address: accounts[0].address });
    const hash = await pay();
    assert.deepEqual(await client.getTxpoolStatus(), { pending: 1, queued: 0 });
    await client.dropTransaction({ hash });
    assert.deepEqual(await client.getTxpoolStatus(), { pending: 0, queued: 0 });
    await assert.rejects(client.getTransaction({ hash }));
    await client.mine({ blocks: 1 });
    assert.equal(await client.getTransactionCount({ address: accounts[0].address }), before);
    await client.setAutomine(true);
  },

  async setIntervalMining() {
    // viem sends anvil's seconds in one mode and Hardhat's milliseconds in the other; the node
    // takes from 1,000 on as milliseconds.
    await client.setIntervalMining({ interval: 1 });
    const before = await number();
    const hash = await pay();
    await until("two blocks a second apart", async () => (await number()) >= before + 2n);
    assert.equal((await settled(hash)).status, "success");
    await client.setIntervalMining({ interval: 0 });
    const stopped = await number();
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    assert.equal(await number(), stopped, "no block after the interval is taken away");
    await client.setAutomine(true);
    assert.equal((await settled(await pay())).blockNumber, stopped + 1n);
  },

  async snapshotAndRevert() {
    const before = await latest();
    const owned = await balance(fresh(1));
    const outer = await client.snapshot();
    const hash = await pay();
    await settled(hash);
    const inner = await client.snapshot();
    await client.mine({ blocks: 10 });
    await client.setBalance({ address: fresh(1), value: 123n });

    await client.revert({ id: inner });
    assert.equal(await number(), before.number + 1n);
    assert.equal(await balance(fresh(1)), owned + 1n);
    assert.equal(await client.request({ method: "evm_revert", params: [outer] }), true);
    assert.equal((await latest()).hash, before.hash);
    assert.equal(await balance(fresh(1)), owned);
    await assert.rejects(client.getTransactionReceipt({ hash }), "its block is no longer of the chain");
    assert.equal(await client.request({ method: "evm_revert", params: [outer] }), false, "a snapshot serves once");

    const receipt = await settled(await pay({ value: 2n }));
    assert.equal(receipt.blockNumber, before.number + 1n);
    assert.equal(await balance(fresh(1)), owned + 2n);
  },

  async reset() {
    assert((await number()) > 1_000n);
    await client.request({ method: `${mode}_reset`, params: [] });
    assert.equal(await number(), 0n);
    assert.equal((await settled(await pay())).blockNumber, 1n);
    // viem names an empty fork, {"forking":{"blockNumber":null}}, which means the same here.
    await client.reset();
    assert.equal(await number(), 0n);
    assert.equal(await balance(fresh(1)), 0n);
    assert.equal(await client.getCode({ address: fresh(11) }), undefined);
    assert.equal(await client.getTransactionCount({ address: accounts[2].address }), 0);
    assert.equal(await balance(accounts[0].address), 10_000n * ether);
    assert.equal((await settled(await pay())).blockNumber, 1n);
  },
};

run(async () => {
  const failures = [];
  // Keeps genesis from becoming final, so that `reset` can return to it from a long chain.
  await client.snapshot();
  for (const [name, check] of Object.entries(controls)) {
    try {
      await check();
      console.log(`${mode}: ${name}`);
    } catch (error) {
      failures.push(name);
      console.error(`${mode}: ${name} FAILED`, error);
      // So that the checks after it tell their own failures.
      await client.setIntervalMining({ interval: 0 });
      await client.setAutomine(true);
    }
  }
  assert.deepEqual(failures, []);
});
