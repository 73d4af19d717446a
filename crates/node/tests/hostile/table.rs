//! What came of the attacks, as a table.

use crate::QUIET;
use crate::arena::HONEST;
use crate::attack::Attack;
use crate::load::Window;
use std::time::Duration;

const HEADER: &str =
    "attack                  pace  latency  MiB before / after / most           the peer";

/// The one in the middle; 0 of none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// What came of one attack.
pub struct Row {
    pub attack: &'static Attack,
    /// The pace and the latency in the quiet before, and under attack.
    pub quiet: Window,
    pub under: Window,
    /// At the beginning of the quiet, of the attack, and at its end.
    pub resident_quiet: [u64; HONEST],
    pub resident_before: [u64; HONEST],
    pub resident_after: [u64; HONEST],
    /// Of both windows together.
    pub took: Duration,
    /// How often it was run.
    pub tries: u32,
    pub cut: bool,
    pub how: String,
}

/// All rows, and what they are measured by: the medians of the quiet windows.
pub struct Table {
    pub rows: Vec<Row>,
    pub pace: f64,
    pub latency_ms: f64,
}

impl Table {
    pub fn new(rows: Vec<Row>) -> Self {
        let pace = Self::pace(&rows);
        let latency_ms = median(rows.iter().map(|row| row.quiet.latency_ms));
        Self { rows, pace, latency_ms }
    }

    /// That of the quiet.
    pub fn pace(rows: &[Row]) -> f64 {
        median(rows.iter().map(|row| row.quiet.pace))
    }

    pub fn print(&self) {
        println!("{HEADER}");
        for row in &self.rows {
            let (pace, latency) =
                (row.under.pace / self.pace, row.under.latency_ms / self.latency_ms);
            println!("{:<22} {pace:>5.2} {latency:>8.2}  {}", row.attack.name, row.rest());
        }
        for row in &self.rows {
            println!("  {}: {}", row.attack.name, row.attack.sentence);
        }
    }

    /// By how much the memory of a node grows in a second of quiet, in KiB.
    pub fn quiet_growth(&self, node: usize) -> f64 {
        let grown: f64 = self
            .rows
            .iter()
            .map(|row| row.resident_before[node] as f64 - row.resident_quiet[node] as f64)
            .sum();
        grown.max(0.0) / (QUIET.as_secs_f64() * self.rows.len() as f64)
    }

    /// How long all windows were.
    pub fn seconds(&self) -> f64 {
        self.rows.iter().map(|row| row.took.as_secs_f64()).sum()
    }

    pub fn summary(&self, first: &[u64; HONEST], last: &[u64; HONEST], took: Duration) {
        println!(
            "{} attacks in {:.0} s; quiet {:.0} transfers/s and {:.0} ms to finality, under attack \
             {:.0} and {:.0}; memory {first:?} to {last:?} KiB, by the load alone {:.0} KiB a second",
            self.rows.len(),
            took.as_secs_f64(),
            self.pace,
            self.latency_ms,
            median(self.rows.iter().map(|row| row.under.pace)),
            median(self.rows.iter().map(|row| row.under.latency_ms)),
            self.quiet_growth(0),
        );
    }
}

impl Row {
    /// Memory, and what became of the peer.
    pub fn rest(&self) -> String {
        let mebibytes = |all: [u64; HONEST]| all.map(|it| (it >> 10).to_string()).join(",");
        let resident = [self.resident_before, self.resident_after, self.under.resident_max];
        let tries = if self.tries > 1 { format!(" (try {})", self.tries) } else { String::new() };
        format!("{:<34}  {}{tries}", resident.map(mebibytes).join(" / "), self.how)
    }
}
