//! `landfall doctor`: asks nodes, and says in plain words why the chain moves or does not.

use crate::doctor::{Finding, NodeFacts, Seen, Severity, collect, examine};
use crate::failure::Failure;
use serde_json::json;
use std::io::{IsTerminal, Write};

/// The exit code of a command line that is not understood, as clap has it.
const USAGE: u8 = 2;
/// The exit code if something is to be done.
const TROUBLE: u8 = 1;
/// The exit code if no node answered.
const SILENCE: u8 = 3;

/// Says why a chain does or does not move, and what to do: ask as many of its nodes as you can
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The RPC address of a node; may be given several times
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8545")]
    rpc: Vec<String>,
    /// The address of a node's metrics and health; one for each --rpc, in the same order. Without
    /// it ports 2000 and 1000 above that of the RPC are tried
    #[arg(long, value_name = "URL")]
    ops: Vec<String>,
    /// Prints JSON: facts and findings
    #[arg(long)]
    json: bool,
}

/// Asks, judges, prints; the exit code is 0 if all is well, 1 if there is trouble, 3 if no node
/// answered.
pub fn run(args: &Args) -> Result<(), Failure> {
    if !args.ops.is_empty() && args.ops.len() != args.rpc.len() {
        return Err(Failure::with_code(USAGE, "give as many --ops as --rpc, in the same order"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("cannot start: {error}")))?;
    let nodes = runtime.block_on(collect(&args.rpc, &args.ops));
    let findings = examine(&nodes);
    let text = if args.json { as_json(&nodes, &findings) } else { as_text(&nodes, &findings) };
    // A closed pipe changes nothing about the outcome.
    let _ = std::io::stdout().write_all(text.as_bytes());
    outcome(&nodes, &findings)
}

fn outcome(nodes: &[NodeFacts], findings: &[Finding]) -> Result<(), Failure> {
    let count = findings.iter().filter(|it| it.severity == Severity::Trouble).count();
    if nodes.iter().all(|node| matches!(node.seen, Seen::Unreachable(_))) {
        return Err(Failure::with_code(SILENCE, "no node answered"));
    }
    match count {
        0 => Ok(()),
        _ => Err(Failure::with_code(TROUBLE, format!("{count} findings need something done"))),
    }
}

fn as_json(nodes: &[NodeFacts], findings: &[Finding]) -> String {
    let healthy = findings.iter().all(|finding| finding.severity < Severity::Trouble);
    let all = json!({ "healthy": healthy, "findings": findings, "nodes": nodes });
    let text = serde_json::to_string_pretty(&all).expect("facts are JSON");
    text + "\n"
}

fn as_text(nodes: &[NodeFacts], findings: &[Finding]) -> String {
    let colours = std::io::stdout().is_terminal();
    let mut text = String::new();
    for node in nodes {
        text.push_str(&line(node));
    }
    text.push('\n');
    for Finding { severity, about, what, cure } in findings {
        let (word, colour) = match severity {
            Severity::Ok => ("ok", "32"),
            Severity::Note => ("note", "33"),
            Severity::Trouble => ("TROUBLE", "31"),
        };
        let word = format!("{word:<8}");
        let word = if colours { format!("\x1b[{colour}m{word}\x1b[0m") } else { word };
        text.push_str(&format!("{word}{about}: {what}\n"));
        if let Some(cure) = cure {
            text.push_str(&format!("        -> {cure}\n"));
        }
    }
    text
}

/// A node at a glance.
fn line(node: &NodeFacts) -> String {
    let url = &node.url;
    let Seen::Answered(facts) = &node.seen else { return format!("{url}  (no facts)\n") };
    let status = &facts.status;
    let name = status.node.as_ref().and_then(|own| own.name.as_deref()).unwrap_or("-");
    format!(
        "{url}  {name}  {}  head {}  final {}  peers {}  pending {}  {}\n",
        status.engine,
        status.head.number,
        status.finalized.number,
        facts.peers.len(),
        status.pending,
        status.client_version,
    )
}
