//! The public vectors for keys and signatures: BIP-39, BIP-32, EIP-712, accounts, transactions,
//! keystores.

use alloy_consensus::{
    EthereumTxEnvelope, EthereumTypedTransaction, SignableTransaction, TxEip4844,
};
use alloy_dyn_abi::TypedData;
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, hex};
use landfall_wallet::{ExtendedKey, Keystore, KeystoreError, Mnemonic, Signer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The unpacked archive; `None` where there are no vectors and none are required.
fn vectors() -> Option<&'static Path> {
    static UNPACKED: OnceLock<Option<PathBuf>> = OnceLock::new();
    UNPACKED.get_or_init(unpack).as_deref()
}

fn unpack() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/wallet");
    let folder = std::env::var_os("LANDFALL_VECTORS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| root.join("../shared/vectors"));
    let archive = folder.join("wallet.tar.zst");
    if !archive.is_file() {
        let required = std::env::var("LANDFALL_VECTORS_REQUIRED").is_ok_and(|v| v == "1");
        assert!(!required, "LANDFALL_VECTORS_REQUIRED=1, and {} is missing", archive.display());
        println!("skipped: no vectors");
        return None;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wallet-vectors");
    std::fs::create_dir_all(&target).expect("a folder below target");
    let mut tar = Command::new("tar");
    tar.arg("--zstd").arg("-xf").arg(&archive).arg("-C").arg(&target);
    assert!(tar.status().expect("tar and zstd").success(), "{} unpacks", archive.display());
    Some(target.join("wallet"))
}

fn json_file(path: &Path) -> Value {
    let bytes = if path.extension().is_some_and(|e| e == "gz") {
        let output = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip");
        assert!(output.status.success(), "{} unpacks", path.display());
        output.stdout
    } else {
        std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn ethers(folder: &Path, name: &str) -> Vec<Value> {
    let file = json_file(&folder.join("ethers-testcases").join(format!("{name}.json.gz")));
    file.as_array().expect("a list of cases").clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string"))
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).unwrap_or_else(|e| panic!("{value}: {e}"))
}

/// Chain code and key of a serialised private key of BIP-32.
fn read_xprv(text: &str) -> ([u8; 32], [u8; 32]) {
    const DIGITS: &str = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    // Version 4, depth 1, fingerprint 4, index 4, chain code 32, zero 1, key 32, checksum 4.
    let mut bytes = [0u8; 82];
    for digit in text.chars() {
        let mut carry = DIGITS.find(digit).expect("a digit of base 58") as u32;
        for byte in bytes.iter_mut().rev() {
            carry += u32::from(*byte) * 58;
            *byte = carry as u8;
            carry >>= 8;
        }
        assert_eq!(carry, 0, "{text} is too long");
    }
    (bytes[13..45].try_into().unwrap(), bytes[46..78].try_into().unwrap())
}

fn assert_is(key: &ExtendedKey, xprv: &str) {
    let (chain_code, secret) = read_xprv(xprv);
    assert_eq!(key.secrets(), (&secret, &chain_code), "{xprv}");
}

#[test]
fn english_phrases_of_bip_39() {
    let Some(folder) = vectors() else { return };
    let file = json_file(&folder.join("bip39/vectors.json"));
    let cases = file["english"].as_array().unwrap();
    for case in cases {
        let phrase = text(&case[1]);
        let mnemonic = Mnemonic::from_entropy(&bytes(&case[0])).unwrap();
        assert_eq!(*mnemonic.phrase(), phrase);
        let parsed = Mnemonic::parse(phrase).unwrap();
        assert_eq!(parsed.seed("TREZOR")[..], bytes(&case[2]));
        assert_is(&parsed.master_key("TREZOR"), text(&case[3]));
    }
    assert_eq!(cases.len(), 24);
}

#[test]
fn chains_of_bip_32() {
    let Some(folder) = vectors() else { return };
    let file = json_file(&folder.join("bip32/vectors.json"));
    let mut chains = 0;
    for seed in file["valid"].as_array().unwrap() {
        let master = ExtendedKey::from_seed(&bytes(&seed["seed"])).unwrap();
        for chain in seed["chains"].as_array().unwrap() {
            let path = text(&chain["path"]).parse().unwrap();
            assert_is(&master.derive(&path).unwrap(), text(&chain["xprv"]));
            chains += 1;
        }
    }
    assert_eq!(chains, 17);
}

#[test]
fn english_nodes_of_ethers() {
    let Some(folder) = vectors() else { return };
    let (mut cases, mut nodes) = (0, 0);
    for case in ethers(folder, "mnemonics").iter().filter(|case| case["locale"] == "en") {
        let phrase = String::from_utf8(bytes(&case["phrase"])).unwrap();
        let password = String::from_utf8(bytes(&case["password"])).unwrap();
        let mnemonic = Mnemonic::parse(&phrase).unwrap();
        assert_eq!(mnemonic, Mnemonic::from_entropy(&bytes(&case["entropy"])).unwrap());
        assert_eq!(mnemonic.seed(&password)[..], bytes(&case["seed"]));
        let master = mnemonic.master_key(&password);
        for node in case["nodes"].as_array().unwrap() {
            let key = master.derive(&text(&node["path"]).parse().unwrap()).unwrap();
            assert_eq!(key.secrets().0[..], bytes(&node["privateKey"]), "{}", case["name"]);
            assert_eq!(key.secrets().1[..], bytes(&node["chainCode"]), "{}", case["name"]);
            nodes += 1;
        }
        cases += 1;
    }
    assert!(cases == 40 && nodes >= cases, "{cases} cases, {nodes} nodes");
}

#[test]
fn addresses_of_keys() {
    let Some(folder) = vectors() else { return };
    let cases = ethers(folder, "accounts");
    for case in &cases {
        let signer: Signer = text(&case["privateKey"]).parse().unwrap();
        let address: Address = text(&case["address"]).parse().unwrap();
        assert_eq!(signer.address(), address, "{}", case["name"]);
    }
    assert_eq!(cases.len(), 259);
}

#[test]
fn typed_data_of_eip_712() {
    let Some(folder) = vectors() else { return };
    let cases = ethers(folder, "typed-data");
    for case in &cases {
        let data = json!({
            "types": case["types"],
            "primaryType": case["primaryType"],
            "domain": case["domain"],
            "message": case["data"],
        });
        let data: TypedData = serde_json::from_value(data).unwrap();
        let hash = data.eip712_signing_hash().unwrap();
        assert_eq!(hash[..], bytes(&case["digest"]), "{}", case["name"]);
        if let Some(key) = case.get("privateKey") {
            let signer: Signer = text(key).parse().unwrap();
            let signature = signer.sign_typed_data(&data).unwrap();
            assert_eq!(signature.as_bytes()[..], bytes(&case["signature"]), "{}", case["name"]);
        }
    }
    assert_eq!(cases.len(), 130);
}

#[test]
fn signed_transactions_of_every_type() {
    let Some(folder) = vectors() else { return };
    let (mut signed, mut foreign) = (0, 0);
    for case in ethers(folder, "transactions").iter().chain(&ethers(folder, "transaction")) {
        let signer: Signer = text(&case["privateKey"]).parse().unwrap();
        for kind in ["Legacy", "Eip155", "Berlin", "London", "Cancun"] {
            // A transaction without the fields of a type has an empty string there.
            let expected = case.get(format!("signed{kind}")).filter(|signed| *signed != "");
            let Some(expected) = expected else { continue };
            // Without a chain id ethers once wrote the byte 0, which is not RLP, and signed that.
            let chain_id = case["transaction"]["chainId"].as_str().unwrap_or("0x");
            if kind == "Eip155" && chain_id == "0x" {
                foreign += 1;
                continue;
            }
            let expected = bytes(expected);
            let read = EthereumTxEnvelope::<TxEip4844>::decode_2718(&mut expected.as_slice());
            let unsigned: EthereumTypedTransaction<TxEip4844> =
                read.unwrap_or_else(|e| panic!("{} {kind}: {e}", case["name"])).into();
            let encoded = unsigned.encoded_for_signing();
            let place = format!("{} {kind}", case["name"]);
            assert_eq!(encoded, bytes(&case[format!("unsigned{kind}")]), "{place}");
            let ours = signer.sign_transaction(unsigned).encoded_2718();
            assert_eq!(hex::encode(ours), hex::encode(expected), "{place}");
            signed += 1;
        }
    }
    println!("{signed} transactions, {foreign} left out");
    assert!(signed > 16_000 && foreign == 401, "{signed} transactions, {foreign} left out");
}

/// A keystore with its password, and the account or the private key in it.
struct Secret {
    name: String,
    file: String,
    password: String,
    expected: String,
}

fn keystores(folder: &Path) -> Vec<Secret> {
    let mut found = Vec::new();
    for file in ["ethereum-tests-basic_tests", "geth-v3_test_vector"] {
        let cases = json_file(&folder.join("keystore").join(format!("{file}.json")));
        for (name, case) in cases.as_object().expect("cases by name") {
            found.push(Secret {
                name: format!("{file}/{name}"),
                file: case["json"].to_string(),
                password: text(&case["password"]).to_owned(),
                expected: format!("{:0>64}", text(&case["priv"])),
            });
        }
    }
    for case in ethers(folder, "wallets") {
        if text(&case["type"]) == "keystore" {
            found.push(Secret {
                name: text(&case["name"]).to_owned(),
                file: text(&case["content"]).to_owned(),
                password: String::from_utf8(bytes(&case["password"])).expect("UTF-8"),
                expected: text(&case["address"]).to_owned(),
            });
        }
    }
    found
}

#[test]
fn keystores_of_geth_ethers_and_the_specification_open() {
    let Some(folder) = vectors() else { return };
    let keystores = keystores(folder);
    assert!(keystores.len() >= 16, "{} cases", keystores.len());
    for Secret { name, file, password, expected } in keystores {
        let keystore = Keystore::from_json(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        let signer = keystore.decrypt(password.as_bytes());
        let signer = signer.unwrap_or_else(|e| panic!("{name}: {e}"));
        let found = [hex::encode(signer.secret()), signer.address().to_string()];
        assert!(found.contains(&expected), "{name}: {found:?} and not {expected}");
    }
}

#[test]
fn light_keystore_of_geth_opens_and_a_wrong_password_is_named() {
    let Some(folder) = vectors() else { return };
    let file = json_file(&folder.join("keystore/geth-very-light-scrypt.json")).to_string();
    let keystore = Keystore::from_json(&file).unwrap();
    let signer = keystore.decrypt(b"").unwrap();
    assert_eq!(Some(signer.address()), keystore.address().unwrap());
    assert_eq!(keystore.decrypt(b"foobar").unwrap_err(), KeystoreError::WrongPassword);
}
