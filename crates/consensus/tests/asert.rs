//! The twelve published runs of aserti3-2d, line by line.
//!
//! They are found through `LANDFALL_VECTORS`, else at `../shared/vectors`; without them the test
//! says so and passes, unless `LANDFALL_VECTORS_REQUIRED` is `1`.

use alloy_primitives::U256;
use landfall_consensus::pow::Asert;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The easiest target of the runs.
const MAX_BITS: u32 = 0x1d00_ffff;

fn vectors() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/consensus");
    let folder = std::env::var_os("LANDFALL_VECTORS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| root.join("../shared/vectors"));
    let archive = folder.join("asert.tar.zst");
    if !archive.is_file() {
        let required = std::env::var("LANDFALL_VECTORS_REQUIRED").is_ok_and(|v| v == "1");
        assert!(!required, "LANDFALL_VECTORS_REQUIRED=1, and {} is missing", archive.display());
        println!("skipped: no vectors");
        return None;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("asert-vectors");
    std::fs::create_dir_all(&target).expect("a folder below target");
    let mut tar = Command::new("tar");
    tar.arg("--zstd").arg("-xf").arg(&archive).arg("-C").arg(&target);
    assert!(tar.status().expect("tar and zstd").success(), "{} unpacks", archive.display());
    Some(target.join("asert"))
}

/// The target that compact bits stand for: 24 bits of mantissa, and a power of 256.
fn target_of_bits(bits: u32) -> U256 {
    let (mantissa, bytes) = (U256::from(bits & 0x007f_ffff), usize::try_from(bits >> 24).unwrap());
    match bytes.checked_sub(3) {
        Some(more) => mantissa << (8 * more),
        None => mantissa >> (8 * (3 - bytes)),
    }
}

/// The compact bits of a target, cut to what the mantissa holds; its highest bit is a sign.
fn bits_of_target(target: U256) -> u32 {
    let mut bytes = target.bit_len().div_ceil(8);
    let mantissa = |bytes: usize| -> U256 {
        if bytes > 3 { target >> (8 * (bytes - 3)) } else { target << (8 * (3 - bytes)) }
    };
    let mut top: u32 = mantissa(bytes).to();
    if top & 0x0080_0000 != 0 {
        bytes += 1;
        top >>= 8;
    }
    u32::try_from(bytes << 24).unwrap() | top
}

fn number(text: &str) -> i128 {
    match text.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).unwrap(),
        None => text.parse().unwrap_or_else(|e| panic!("{text}: {e}")),
    }
}

/// Checks each line of a run; the number of lines.
fn check(run: &str, text: &str) -> usize {
    let header: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("##"))
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect();
    let parent_time = header.get("anchor ancestor time").or(header.get("anchor parent time"));
    let parent_time = number(parent_time.expect("the time of the anchor's parent"));
    let anchor_height = number(header["anchor height"]);
    let asert = Asert {
        anchor_target: target_of_bits(number(header["anchor nBits"]).try_into().unwrap()),
        ideal_block_time: 600,
        half_life: 172_800,
        max_target: target_of_bits(MAX_BITS),
    };
    let lines: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| line.split_whitespace().collect())
        .collect();
    for line in &lines {
        let [at, height, time, bits] = line[..] else { panic!("{run}: {line:?} is not a line") };
        let target = asert.next_target(number(time) - parent_time, number(height) - anchor_height);
        let (found, expected) = (bits_of_target(target), u32::try_from(number(bits)).unwrap());
        assert_eq!(found, expected, "{run}, iteration {at}: {found:#x}, not {expected:#x}");
    }
    assert_eq!(lines.len(), usize::try_from(number(header["iterations"])).unwrap(), "{run}");
    lines.len()
}

#[test]
fn all_published_runs_are_matched_exactly() {
    let Some(folder) = vectors() else { return };
    let mut lines = 0;
    for n in 1..=12 {
        let run = format!("run{n:02}");
        let path = folder.join(&run);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{run}: {e}"));
        lines += check(&run, &text);
    }
    assert!(lines > 13_000, "only {lines} lines");
}

#[test]
fn compact_bits_survive_both_ways() {
    for bits in [MAX_BITS, 0x1802_aee8, 0x0101_0000, 0x0200_8000, 0x1c7f_ffff, 0x2000_ffff] {
        assert_eq!(bits_of_target(target_of_bits(bits)), bits, "{bits:#x}");
    }
    assert_eq!(target_of_bits(MAX_BITS), U256::from(0xffff) << 208);
    assert_eq!(bits_of_target(U256::ONE), 0x0101_0000);
}
