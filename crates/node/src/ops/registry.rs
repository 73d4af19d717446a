//! The kinds of metrics, and their text form (Prometheus, version 0.0.4).
//!
//! Everything is an atomic number: feeding a metric takes no lock, or that of a map that is read.
//! The number of series is bounded: labels are fixed when a family is made, or counted.

use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The label of whatever is not in a family's list.
pub const OTHER: &str = "other";

/// Bounds of durations, in seconds.
pub const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Bounds of sizes, in bytes.
pub const BYTES: &[f64] =
    &[1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];
/// Bounds of numbers of things.
pub const COUNTS: &[f64] =
    &[0.0, 1.0, 5.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0];

/// What can be written as series.
pub trait Metric {
    /// `counter`, `gauge` or `histogram`.
    const KIND: &'static str;
    /// Appends the series; `labels` is empty or `name="value"`.
    fn write(&self, name: &str, labels: &str, out: &mut String);
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// `count` more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// Takes over a total that is counted elsewhere; it never goes down.
    pub fn reach(&self, total: u64) {
        self.0.fetch_max(total, Relaxed);
    }

    /// So far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Metric for Counter {
    const KIND: &'static str = "counter";

    fn write(&self, name: &str, labels: &str, out: &mut String) {
        line(out, name, "", labels, self.get() as f64);
    }
}

/// A time that only grows, kept in whole milliseconds and shown in seconds.
#[derive(Debug, Default)]
pub struct Elapsed(Counter);

impl Elapsed {
    /// Takes over a total that is measured elsewhere; it never goes down.
    pub fn reach(&self, total: Duration) {
        self.0.reach(u64::try_from(total.as_millis()).unwrap_or(u64::MAX));
    }
}

impl Metric for Elapsed {
    const KIND: &'static str = "counter";

    fn write(&self, name: &str, labels: &str, out: &mut String) {
        line(out, name, "", labels, self.0.get() as f64 / 1_000.0);
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// What it is now.
    pub fn set(&self, value: impl Into<f64>) {
        self.0.store(value.into().to_bits(), Relaxed);
    }

    /// More, or less.
    pub fn add(&self, difference: f64) {
        // The closure always gives a value, so this never fails.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |bits| {
            Some((f64::from_bits(bits) + difference).to_bits())
        });
    }

    /// The same for whole numbers of any size; above 2^53 the last digits are lost.
    pub fn set_u64(&self, value: u64) {
        self.set(value as f64);
    }

    /// What was set last.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

impl Metric for Gauge {
    const KIND: &'static str = "gauge";

    fn write(&self, name: &str, labels: &str, out: &mut String) {
        line(out, name, "", labels, self.get());
    }
}

/// How often a value fell below each of some bounds, and the sum of all.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// Observations in each interval; the last is above all bounds.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    /// With upper bounds in rising order.
    pub fn new(bounds: &'static [f64]) -> Self {
        assert!(bounds.is_sorted(), "bounds rise");
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        let interval = self.bounds.partition_point(|bound| *bound < value);
        self.counts[interval].fetch_add(1, Relaxed);
        // The closure always gives a value, so this never fails.
        let _ = self
            .sum
            .fetch_update(Relaxed, Relaxed, |bits| Some((f64::from_bits(bits) + value).to_bits()));
    }

    /// Counts a duration, in seconds.
    pub fn time(&self, took: Duration) {
        self.observe(took.as_secs_f64());
    }
}

impl Metric for Histogram {
    const KIND: &'static str = "histogram";

    fn write(&self, name: &str, labels: &str, out: &mut String) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        let bounds = self.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (count, bound) in self.counts.iter().zip(bounds) {
            total += count.load(Relaxed);
            line(out, name, "_bucket", &format!("{labels}{comma}le=\"{bound}\""), total as f64);
        }
        line(out, name, "_sum", labels, f64::from_bits(self.sum.load(Relaxed)));
        line(out, name, "_count", labels, total as f64);
    }
}

/// One metric for each value of a label.
#[derive(Debug)]
pub struct Family<M> {
    label: &'static str,
    /// In order; [`OTHER`] is among them.
    members: Vec<(&'static str, M)>,
}

impl<M> Family<M> {
    /// One for each value, and one for all others.
    pub fn new(label: &'static str, values: &[&'static str], make: impl Fn() -> M) -> Self {
        let mut names: Vec<&'static str> = values.iter().copied().chain([OTHER]).collect();
        names.sort_unstable();
        names.dedup();
        Self { label, members: names.into_iter().map(|name| (name, make())).collect() }
    }

    /// The metric of a value; that of [`OTHER`] for a value that is not in the list.
    pub fn at(&self, value: &str) -> &M {
        let place = |name: &str| self.members.binary_search_by(|(known, _)| (*known).cmp(name));
        let found = place(value).or_else(|_| place(OTHER));
        &self.members[found.expect("every family has a member for others")].1
    }
}

impl<M: Metric> Metric for Family<M> {
    const KIND: &'static str = M::KIND;

    fn write(&self, name: &str, labels: &str, out: &mut String) {
        assert!(labels.is_empty(), "a family has one label");
        for (value, metric) in &self.members {
            metric.write(name, &format!("{}=\"{value}\"", self.label), out);
        }
    }
}

/// One metric for each value of a label, made when the value is first seen; bounded.
#[derive(Debug)]
pub struct OpenFamily<M> {
    label: &'static str,
    most: usize,
    members: RwLock<BTreeMap<String, Arc<M>>>,
}

impl<M: Default> OpenFamily<M> {
    /// With at most so many members; values beyond are [`OTHER`].
    pub fn new(label: &'static str, most: usize) -> Self {
        Self { label, most, members: RwLock::default() }
    }

    /// The metric of a value.
    pub fn at(&self, value: &str) -> Arc<M> {
        if let Some(found) = self.members.read().get(value) {
            return found.clone();
        }
        let mut members = self.members.write();
        let value = if members.len() < self.most { value } else { OTHER };
        members.entry(value.to_owned()).or_default().clone()
    }
}

impl<M: Metric> Metric for OpenFamily<M> {
    const KIND: &'static str = M::KIND;

    fn write(&self, name: &str, labels: &str, out: &mut String) {
        assert!(labels.is_empty(), "a family has one label");
        for (value, metric) in self.members.read().iter() {
            metric.write(name, &format!("{}=\"{value}\"", self.label), out);
        }
    }
}

fn line(out: &mut String, name: &str, suffix: &str, labels: &str, value: f64) {
    let done = if labels.is_empty() {
        writeln!(out, "{name}{suffix} {value}")
    } else {
        writeln!(out, "{name}{suffix}{{{labels}}} {value}")
    };
    done.expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metric: &impl Metric) -> String {
        let mut out = String::new();
        metric.write("m", "", &mut out);
        out
    }

    #[test]
    fn a_histogram_counts_each_value_in_every_bucket_above_it() {
        let histogram = Histogram::new(&[1.0, 2.5]);
        for value in [0.5, 1.0, 2.0, 9.0] {
            histogram.observe(value);
        }
        let want = "m_bucket{le=\"1\"} 2\nm_bucket{le=\"2.5\"} 3\nm_bucket{le=\"+Inf\"} 4\n\
                    m_sum 12.5\nm_count 4\n";
        assert_eq!(text(&histogram), want);
    }

    #[test]
    fn a_family_has_no_series_but_those_it_was_made_with() {
        let family = Family::new("lane", &["votes", "blocks"], Counter::default);
        family.at("votes").add(2);
        family.at("what a peer made up").increment();
        let want = "m{lane=\"blocks\"} 0\nm{lane=\"other\"} 1\nm{lane=\"votes\"} 2\n";
        assert_eq!(text(&family), want);
    }

    #[test]
    fn an_open_family_grows_up_to_its_bound() {
        let family = OpenFamily::<Counter>::new("method", 2);
        for method in ["a", "b", "c", "a", "d"] {
            family.at(method).increment();
        }
        assert_eq!(text(&family), "m{method=\"a\"} 2\nm{method=\"b\"} 1\nm{method=\"other\"} 2\n");
    }

    #[test]
    fn a_counter_never_goes_down() {
        let counter = Counter::default();
        counter.add(7);
        counter.reach(5);
        assert_eq!(counter.get(), 7);
        counter.reach(9);
        assert_eq!(text(&counter), "m 9\n");
    }

    #[test]
    fn a_gauge_shows_what_was_set_last() {
        let gauge = Gauge::default();
        gauge.set_u64(3);
        gauge.set(0.25);
        assert_eq!(text(&gauge), "m 0.25\n");
    }
}
