//! What came of the attacks, as a table.

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
    pub resident_before: [u64; HONEST],
    pub resident_after: [u64; HONEST],
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

    pub fn summary(&self, first: &[u64; HONEST], last: &[u64; HONEST], took: Duration) {
        println!(
            "{} attacks in {:.0} s; quiet {:.0} transfers/s and {:.0} ms to finality, under attack \
             {:.0} and {:.0}; memory {first:?} to {last:?} KiB",
            self.rows.len(),
            took.as_secs_f64(),
            self.pace,
            self.latency_ms,
            median(self.rows.iter().map(|row| row.under.pace)),
            median(self.rows.iter().map(|row| row.under.latency_ms)),
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
