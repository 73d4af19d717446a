// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// OpenZeppelin's ERC-20 with a mint that anybody may call: the load generator's token.
/// It is worth nothing by design; never deploy it where that would matter.
contract BenchToken is ERC20 {
    constructor(uint256 supply) ERC20("Bench Token", "BENCH") {
        _mint(msg.sender, supply);
    }

    /// Gives every holder `value`, so that one transaction prepares many senders.
    function mintEach(address[] calldata holders, uint256 value) external {
        for (uint256 i = 0; i < holders.length; ++i) {
            _mint(holders[i], value);
        }
    }
}
