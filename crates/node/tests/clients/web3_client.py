"""web3.py against a dev chain: deploy, 100 transactions, logs, reverts, WebSocket subscriptions.

LANDFALL_RPC is the node's URL; the last line `passed` proves that it came to its end.
"""

import asyncio
import json
import os
from pathlib import Path

from eth_account import Account
from web3 import AsyncWeb3, Web3, WebSocketProvider
from web3.exceptions import ContractCustomError, ContractLogicError
from web3.middleware import SignAndSendRawMiddlewareBuilder

RPC = os.environ["LANDFALL_RPC"]
MNEMONIC = "test test test test test test test test test test test junk"
ARTIFACTS = Path(__file__).resolve().parents[4] / "contracts" / "artifacts"

Account.enable_unaudited_hdwallet_features()
ACCOUNT = Account.from_mnemonic(MNEMONIC)
COUNTER = json.loads((ARTIFACTS / "Counter.json").read_text())


def fresh(number):
    """A fresh address for every number."""
    return Web3.to_checksum_address(f"0x{0xF0000000 + number:040x}")


def deploy(w3):
    factory = w3.eth.contract(abi=COUNTER["abi"], bytecode=COUNTER["bytecode"])
    receipt = w3.eth.wait_for_transaction_receipt(factory.constructor(0).transact())
    assert receipt.status == 1, receipt
    return w3.eth.contract(address=receipt.contractAddress, abi=COUNTER["abi"])


def send_hundred(w3, contract):
    """50 calls and 50 value transfers, signed here, sent before the first receipt is read."""
    first = w3.eth.get_transaction_count(ACCOUNT.address)
    fees = {"maxFeePerGas": Web3.to_wei(10, "gwei"), "maxPriorityFeePerGas": Web3.to_wei(1, "gwei")}
    hashes = []
    for index in range(100):
        fields = {"nonce": first + index, "chainId": w3.eth.chain_id, **fees}
        if index % 2 == 0:
            transaction = contract.functions.increment().build_transaction({"gas": 100_000, **fields})
        else:
            transaction = {"to": fresh(index), "value": index, "gas": 21_000, **fields}
        hashes.append(w3.eth.send_raw_transaction(ACCOUNT.sign_transaction(transaction).raw_transaction))
    receipts = [w3.eth.wait_for_transaction_receipt(sent, poll_latency=0.02) for sent in hashes]
    assert all(receipt.status == 1 for receipt in receipts)
    assert w3.eth.get_transaction_count(ACCOUNT.address) == first + 100
    assert all(w3.eth.get_balance(fresh(index)) == index for index in range(1, 100, 2))
    return hashes


def check_logs(w3, contract):
    moved = contract.events.Moved
    logs = moved.get_logs(from_block=0, argument_filters={"by": ACCOUNT.address})
    assert [log.args.number for log in logs] == list(range(1, 51)), logs
    assert len(moved.get_logs(from_block=0, argument_filters={"by": fresh(0)})) == 0
    stored = moved.create_filter(from_block=0)
    assert len(stored.get_all_entries()) == 50
    assert contract.functions.number().call() == 50
    created = min(log.blockNumber for log in logs) - 1
    assert contract.functions.number().call(block_identifier=created) == 0


def check_reverts(contract):
    try:
        contract.functions.decrement(0).call()
        raise AssertionError("decrement(0) did not revert")
    except ContractLogicError as error:
        assert "Counter: nothing to take" in str(error), error
    try:
        contract.functions.decrement(1_000).call()
        raise AssertionError("decrement(1000) did not revert")
    except ContractCustomError as error:
        selector = Web3.keccak(text="Below(uint256,uint256)")[:4].hex()
        assert selector in str(error.data), error


async def follow(address, subscribed, enough):
    """Collects heads, logs of `address` and pending hashes until told that it is enough."""
    seen = {"heads": [], "logs": [], "pending": []}
    async with AsyncWeb3(WebSocketProvider(RPC.replace("http", "ws", 1))) as w3:
        topics = [Web3.keccak(text="Moved(address,uint256)")]
        kinds = {
            await w3.eth.subscribe("newHeads"): "heads",
            await w3.eth.subscribe("logs", {"address": address, "topics": topics}): "logs",
            await w3.eth.subscribe("newPendingTransactions"): "pending",
        }
        subscribed.set()
        messages = w3.socket.process_subscriptions()
        while not enough(seen):
            message = await asyncio.wait_for(anext(messages), timeout=10)
            seen[kinds[message["subscription"]]].append(message["result"])
        for subscription in kinds:
            assert await w3.eth.unsubscribe(subscription)
    return seen


async def main():
    w3 = Web3(Web3.HTTPProvider(RPC))
    w3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(ACCOUNT), layer=0)
    w3.eth.default_account = ACCOUNT.address
    assert w3.eth.chain_id == 31337
    assert w3.eth.accounts[0] == ACCOUNT.address
    contract = deploy(w3)

    last = []

    def enough(seen):
        heads = [head["number"] for head in seen["heads"]]
        return len(seen["logs"]) >= 50 and len(seen["pending"]) >= 100 and last and last[0] in heads

    subscribed = asyncio.Event()
    following = asyncio.create_task(follow(contract.address, subscribed, enough))
    await asyncio.wait_for(subscribed.wait(), timeout=10)
    hashes = await asyncio.to_thread(send_hundred, w3, contract)
    check_logs(w3, contract)
    check_reverts(contract)
    last.append(w3.eth.block_number)
    # One more block, so that the loop above looks at `last` again.
    final = w3.eth.send_transaction({"to": fresh(1_000), "value": 1})
    assert w3.eth.wait_for_transaction_receipt(final).status == 1

    seen = await following
    numbers = [int.from_bytes(bytes(log["data"]), "big") for log in seen["logs"]]
    assert numbers == list(range(1, 51)), numbers
    assert set(hashes) <= set(seen["pending"])
    heads = [head["number"] for head in seen["heads"]]
    assert heads == list(range(heads[0], heads[0] + len(heads))), heads
    print(f"web3.py: 100 transactions in {last[0]} blocks, 50 logs, {len(heads)} heads")
    print("passed")


asyncio.run(main())
