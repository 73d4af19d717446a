// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// A number that anybody may move: a slot, a log, a revert with a reason and one with a custom
/// error, for tests of clients.
contract Counter {
    error Below(uint256 number, uint256 floor);

    event Moved(address indexed by, uint256 number);

    uint256 public number;

    constructor(uint256 start) {
        number = start;
    }

    function increment() external {
        number += 1;
        emit Moved(msg.sender, number);
    }

    function decrement(uint256 by) external {
        require(by > 0, "Counter: nothing to take");
        if (by > number) revert Below(number, by);
        number -= by;
        emit Moved(msg.sender, number);
    }

    /// The block that a call runs in: its number and timestamp.
    function clock() external view returns (uint256, uint256) {
        return (block.number, block.timestamp);
    }
}
