// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BenchToken} from "../src/BenchToken.sol";

interface Cheats {
    function startBroadcast() external;
    function stopBroadcast() external;
}

/// Deploys the token and moves some of it: `forge script` sends both as transactions.
contract DeployToken {
    bool public constant IS_SCRIPT = true;
    Cheats private constant CHEATS =
        Cheats(address(uint160(uint256(keccak256("hevm cheat code")))));

    function run() external returns (address token, uint256 received) {
        address to = address(0xBEEF);
        CHEATS.startBroadcast();
        BenchToken deployed = new BenchToken(1_000_000 ether);
        deployed.transfer(to, 5 ether);
        CHEATS.stopBroadcast();
        return (address(deployed), deployed.balanceOf(to));
    }
}
