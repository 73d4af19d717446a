//! The parameters of each protocol in a genesis file: their names, defaults and limits.

use super::section::Section;
use crate::{
    GenesisError, Kind, Params, PbftParams, PowParams, RaftParams, SoloParams, Span, target_of,
    work_of,
};
use alloy_primitives::U256;
use serde_json::{Map, Value};

/// No span is longer than a year: more is a mistaken unit, and sums must not overflow.
const LONGEST: Span = Span(365 * 24 * 3_600 * 1_000);

/// One parameter, wherever it stands.
enum Field<'a> {
    /// In milliseconds.
    Span(&'a mut Span),
    Flag(&'a mut bool),
    Count(&'a mut u64),
    /// A target; the file has the difficulty that it stands for.
    Target(&'a mut U256),
}

/// Every parameter with its name in the file: the one list that reading, writing and hashing
/// share.
fn fields(params: &mut Params) -> Vec<(&'static str, Field<'_>)> {
    use Field::{Count, Flag, Span, Target};
    match params {
        Params::Solo(SoloParams { safe_depth, final_depth }) => {
            vec![("safeDepth", Count(safe_depth)), ("finalDepth", Count(final_depth))]
        }
        Params::Raft(RaftParams { heartbeat, election, block_interval, empty_blocks }) => vec![
            ("blockIntervalMs", Span(block_interval)),
            ("emptyBlocks", Flag(empty_blocks)),
            ("heartbeatMs", Span(heartbeat)),
            ("electionTimeoutMs", Span(election)),
        ],
        Params::Pbft(PbftParams {
            block_interval,
            empty_blocks,
            round_timeout,
            round_timeout_max,
            retransmit,
            clock_drift,
        }) => vec![
            ("blockIntervalMs", Span(block_interval)),
            ("emptyBlocks", Flag(empty_blocks)),
            ("roundTimeoutMs", Span(round_timeout)),
            ("roundTimeoutMaxMs", Span(round_timeout_max)),
            ("retransmitMs", Span(retransmit)),
            ("clockDriftMs", Span(clock_drift)),
        ],
        Params::Pow(PowParams {
            block_interval,
            half_life,
            first_target,
            safe_depth,
            final_depth,
            clock_drift,
            subsidy,
            subsidy_halving,
        }) => vec![
            ("blockIntervalMs", Span(block_interval)),
            ("halfLifeMs", Span(half_life)),
            ("firstDifficulty", Target(first_target)),
            ("safeDepth", Count(safe_depth)),
            ("finalDepth", Count(final_depth)),
            ("clockDriftMs", Span(clock_drift)),
            ("subsidyGwei", Count(subsidy)),
            ("subsidyHalvingBlocks", Count(subsidy_halving)),
        ],
    }
}

/// Reads the section of a protocol; what is not there has its default. `difficulty` is the
/// genesis file's, where a proof of work begins unless its own section says otherwise.
pub(super) fn read(
    kind: Kind,
    section: &Section<'_>,
    difficulty: U256,
) -> Result<Params, GenesisError> {
    let mut params = match kind {
        Kind::Solo => Params::Solo(SoloParams::default()),
        Kind::Raft => Params::Raft(RaftParams::default()),
        Kind::Pbft => Params::Pbft(PbftParams::default()),
        Kind::Pow => {
            let interval = section.count("blockIntervalMs")?.map(Span);
            let interval = interval.unwrap_or(PowParams::BLOCK_INTERVAL);
            // Zero, if that is what the file says, is refused below.
            let target = target_of(difficulty).unwrap_or_default();
            Params::Pow(PowParams::with_interval(interval, target))
        }
    };
    let known: Vec<&str> = fields(&mut params).into_iter().map(|(name, _)| name).collect();
    section.expect_only(&known)?;
    for (name, field) in fields(&mut params) {
        read_field(section, name, field)?;
    }
    if kind == Kind::Pow && difficulty.is_zero() && !section.has("firstDifficulty") {
        let reason = "is missing, and `difficulty` is zero; about hash rate (1/s) * interval (s)";
        return Err(section.invalid("firstDifficulty", reason));
    }
    check(&mut params, section)?;
    Ok(params)
}

fn read_field(section: &Section<'_>, name: &str, field: Field<'_>) -> Result<(), GenesisError> {
    match field {
        Field::Span(span) => *span = section.count(name)?.map_or(*span, Span),
        Field::Flag(flag) => *flag = section.flag(name)?.unwrap_or(*flag),
        Field::Count(count) => *count = section.count(name)?.unwrap_or(*count),
        Field::Target(target) => {
            if let Some(work) = section.number(name)? {
                let easiest = target_of(work);
                *target = easiest.ok_or_else(|| section.invalid(name, "must be at least 1"))?;
            }
        }
    }
    Ok(())
}

/// The section, with every parameter written out.
pub(super) fn write(params: &Params) -> Value {
    let mut params = params.clone();
    let value = |field: Field<'_>| match field {
        Field::Span(span) => Value::from(span.0),
        Field::Flag(flag) => Value::from(*flag),
        Field::Count(count) => Value::from(*count),
        // In hex, since JSON's numbers are too short.
        Field::Target(target) => Value::from(format!("{:#x}", work_of(*target))),
    };
    let entries = fields(&mut params).into_iter();
    Value::Object(
        entries.map(|(name, field)| (name.to_owned(), value(field))).collect::<Map<_, _>>(),
    )
}

/// The values in order, for the hash of a schedule.
pub(super) fn values(params: &Params) -> Vec<U256> {
    let mut params = params.clone();
    let value = |field: Field<'_>| match field {
        Field::Span(span) => U256::from(span.0),
        Field::Flag(flag) => U256::from(u64::from(*flag)),
        Field::Count(count) => U256::from(*count),
        Field::Target(target) => *target,
    };
    fields(&mut params).into_iter().map(|(_, field)| value(field)).collect()
}

/// What no engine could run with, by name.
fn check(params: &mut Params, section: &Section<'_>) -> Result<(), GenesisError> {
    for (name, field) in fields(params) {
        if let Field::Span(span) = field {
            if *span == Span(0) {
                return Err(section.invalid(name, "must be at least 1 ms"));
            }
            if *span > LONGEST {
                return Err(section.invalid(name, "is longer than a year; it is in milliseconds"));
            }
        }
    }
    let refuse = |wrong: bool, name, reason: String| {
        if wrong { Err(section.invalid(name, reason)) } else { Ok(()) }
    };
    let depths = |safe: u64, last: u64| {
        let reason = format!("is above finalDepth ({last}): `safe` comes before `finalized`");
        refuse(safe > last, "safeDepth", reason)
    };
    match params {
        Params::Solo(SoloParams { safe_depth, final_depth }) => depths(*safe_depth, *final_depth),
        Params::Raft(RaftParams { heartbeat, election, .. }) => refuse(
            heartbeat.0 * 2 > election.0,
            "heartbeatMs",
            format!("must be at most half of electionTimeoutMs ({})", election.0),
        ),
        Params::Pbft(PbftParams { round_timeout, round_timeout_max, retransmit, .. }) => {
            let least = format!("is below roundTimeoutMs ({})", round_timeout.0);
            refuse(round_timeout_max < round_timeout, "roundTimeoutMaxMs", least)?;
            let most = format!("must be below roundTimeoutMs ({})", round_timeout.0);
            refuse(retransmit >= round_timeout, "retransmitMs", most)
        }
        Params::Pow(it) => {
            depths(it.safe_depth, it.final_depth)?;
            let zero = "must be at least 1: the head itself is never final".to_owned();
            refuse(it.final_depth == 0, "finalDepth", zero)?;
            let short = format!("is below blockIntervalMs ({})", it.block_interval.0);
            refuse(it.half_life < it.block_interval, "halfLifeMs", short)?;
            let nothing = "has no effect without a subsidy; remove it".to_owned();
            refuse(it.subsidy == 0 && it.subsidy_halving > 0, "subsidyHalvingBlocks", nothing)
        }
    }
}
