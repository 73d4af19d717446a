//! A line per node that stays where it is on a terminal, and is printed now and then elsewhere.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Between two printings where the output is no terminal.
const PRINTED: Duration = Duration::from_secs(5);

/// See the module.
pub struct Screen {
    names: Vec<String>,
    bars: Vec<ProgressBar>,
    printed: Option<Instant>,
    states: Vec<String>,
}

impl Screen {
    /// Lines for nodes with these names.
    pub fn new(names: Vec<String>) -> Self {
        let mut bars = Vec::new();
        if std::io::stdout().is_terminal() {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
            let style = ProgressStyle::with_template("{msg}").expect("a message is a template");
            bars.extend(names.iter().map(|_| {
                let bar = all.add(ProgressBar::new_spinner());
                bar.set_style(style.clone());
                bar
            }));
        }
        Self { states: vec![String::new(); names.len()], names, bars, printed: None }
    }

    /// Shows a line for each node; `at_once` even where lines are printed now and then.
    pub fn show(&mut self, lines: &[String], at_once: bool) {
        let lines: Vec<String> =
            self.names.iter().zip(lines).map(|(name, line)| format!("{name:<10} {line}")).collect();
        for (bar, line) in self.bars.iter().zip(&lines) {
            bar.set_message(line.clone());
            bar.tick();
        }
        let due = at_once || self.printed.is_none_or(|at| at.elapsed() >= PRINTED);
        if self.bars.is_empty() && due && self.states != lines {
            use std::io::Write;
            let text = lines.join("\n");
            // A closed pipe is no reason to stop the network.
            let _ = writeln!(std::io::stdout(), "{text}\n");
            self.printed = Some(Instant::now());
            self.states = lines;
        }
    }
}

/// What is shown of a node: from `landfall_status`, and the transactions a second since the last.
pub fn line(status: &Value, per_second: Option<f64>) -> String {
    let number = |value: &Value| {
        let text = value.as_str().unwrap_or("0x0");
        u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_default()
    };
    let consensus = &status["consensus"];
    let hash = status["head"]["hash"].as_str().unwrap_or("-");
    let (head, finalized) =
        (number(&status["head"]["number"]), number(&status["finalized"]["number"]));
    let turn = match status["engine"].as_str() {
        Some("raft") => format!("term {}", number(&consensus["round"])),
        Some("pow") => format!("safe {}", number(&status["safe"]["number"])),
        _ => format!("round {}", number(&consensus["round"])),
    };
    let leads = consensus["leader"].is_string() && consensus["leader"] == status["node"]["id"];
    let rate = per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
    let state = match &status["halted"] {
        Value::String(why) => format!("  HALTED: {why}"),
        _ if status["syncing"] == true => format!("  syncing to {}", number(&status["highest"])),
        _ if leads => "  leads".to_owned(),
        _ => String::new(),
    };
    format!(
        "head {head:<8} {:<10} final {finalized:<8} {turn:<9} peers {:<3} {rate:>6} tx/s{state}",
        &hash[..hash.len().min(10)],
        number(&status["peers"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Value {
        json!({
            "engine": "pbft", "node": {"id": "0xaa"}, "peers": "0x3", "syncing": false,
            "head": {"number": "0x10", "hash": "0x0123456789abcdef"},
            "finalized": {"number": "0xf"}, "safe": {"number": "0xf"}, "halted": null,
            "consensus": {"round": "0x2", "leader": "0xaa"},
        })
    }

    #[test]
    fn a_line_says_height_head_finality_round_peers_and_rate() {
        let line = line(&status(), Some(12.4));
        for part in ["head 16", "0x01234567", "final 15", "round 2", "peers 3", "12 tx/s", "leads"]
        {
            assert!(line.contains(part), "{part} is missing: {line}");
        }
    }

    #[test]
    fn a_node_that_stopped_says_why() {
        let mut status = status();
        status["halted"] = json!("the store failed");
        assert!(line(&status, None).ends_with("HALTED: the store failed"));
        status["halted"] = Value::Null;
        status["syncing"] = json!(true);
        status["highest"] = json!("0x20");
        assert!(line(&status, None).ends_with("syncing to 32"));
    }
}
