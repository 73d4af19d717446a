//! `cargo xtask soak`: a network under steady load for a long time, and what memory its nodes take.
//!
//! Starts `landfall up` with four PBFT validators, offers transfers to fresh addresses at a steady
//! rate to all of them, and reads each node's own metrics. Fails if transfers are lost, or if memory
//! still grows when the caches have had time to fill. Draws a picture of it.

mod picture;

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nodes of the network.
const NODES: usize = 4;
/// Below those that the system gives out by itself.
const RPC_PORT: u16 = 28_545;
const OPS_PORT: u16 = 30_545;
/// Between two looks at the nodes.
const EVERY: Duration = Duration::from_secs(1);
/// Looks of which a sample is the mean: memory goes up and down with each flush, every few seconds, by
/// more than it may grow in all.
const LOOKS: u32 = 10;
/// Looks that may fail in a row.
const BLIND: u32 = 5;
/// A network that does not listen by then never will.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// The part of the run at whose end memory is judged: the last two thirds.
const JUDGED: f64 = 2.0 / 3.0;
/// The most that memory may grow in that part, of its mean.
const GROWTH: f64 = 0.01;

/// Samples in that part, at least.
const FEWEST: usize = 10;

/// How long, and how much.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// How long transfers are offered.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// Transfers per second.
    #[arg(long, default_value_t = 1_050)]
    rate: u64,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What the nodes said at one time.
struct Sample {
    /// Since the first transfer was executed.
    minutes: f64,
    /// Of each node, in MiB, the mean of [`LOOKS`].
    resident: [f64; NODES],
    /// Transfers in the chain of the first node.
    transfers: f64,
}

/// Runs the network (built with `--release` before), and judges it.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    let root = PathBuf::from("target/soak");
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    std::fs::create_dir_all(&root)?;
    let mut network = Ended(
        Command::new("target/release/landfall")
            .args(["up", "--port", &RPC_PORT.to_string(), "--ops-port", &OPS_PORT.to_string()])
            .arg("--datadir")
            .arg(root.join("network"))
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(root.join("up.log"))?)
            .spawn()?,
    );
    wait_for_all()?;
    let mut load = Ended(offer(arguments)?);
    let mut samples = Vec::new();
    let ended = loop_until_done(&mut load.0, &mut network.0, &mut samples);
    // What was seen explains why it failed, if it did.
    write_table(&root.join("memory.csv"), &samples)?;
    std::fs::write(root.join("memory.svg"), picture::draw(&samples))?;
    ended?;
    judge(&samples, arguments.minutes)
}

/// A process of ours, which ends with its handle. The nodes end with `up`.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for_all() -> Outcome<()> {
    let begun = Instant::now();
    while (0..NODES).any(|node| scrape(node).is_err()) {
        if begun.elapsed() > STARTS_WITHIN {
            return Err("the network does not start: see target/soak/up.log".into());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn offer(arguments: &Arguments) -> Outcome<Child> {
    let urls = (0..NODES as u16).map(|node| format!("http://127.0.0.1:{}", RPC_PORT + node));
    let transfers = arguments.minutes * 60 * arguments.rate;
    Ok(Command::new("target/release/landfall")
        .args(["bench", "--rpc", &urls.collect::<Vec<_>>().join(",")])
        .args(["--rate", &arguments.rate.to_string(), "-n", &transfers.to_string()])
        // Full blocks would raise the price beyond what a thousand senders have for half an hour.
        .args(["--batch", "10", "--senders", "1000", "--max-fee-gwei", "5"])
        .stdin(Stdio::null())
        .spawn()?)
}

/// Looks at the nodes until the load has ended.
fn loop_until_done(
    load: &mut Child,
    network: &mut Child,
    samples: &mut Vec<Sample>,
) -> Outcome<()> {
    let (mut begun, mut next) = (None, Instant::now());
    let (mut looks, mut sum, mut blind) = (0, [0.0; NODES], 0);
    loop {
        if let Some(status) = load.try_wait()? {
            let failed = "landfall bench failed: see what it said above".into();
            return if status.success() { Ok(()) } else { Err(failed) };
        }
        if let Some(status) = network.try_wait()? {
            return Err(format!("the network ended by itself: {status}").into());
        }
        std::thread::sleep(Duration::from_millis(100));
        if Instant::now() < next {
            continue;
        }
        next += EVERY;
        let (seen, transfers) = match look() {
            Ok(seen) => seen,
            Err(_) if blind < BLIND => {
                blind += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        blind = 0;
        sum.iter_mut().zip(seen).for_each(|(sum, seen)| *sum += seen);
        looks += 1;
        if looks < LOOKS {
            continue;
        }
        let resident = sum.map(|sum| sum / f64::from(looks));
        (looks, sum) = (0, [0.0; NODES]);
        // Before, transfers are signed and senders funded.
        if transfers > 5_000.0 {
            let begun: &Instant = begun.get_or_insert_with(Instant::now);
            samples.push(Sample {
                minutes: begun.elapsed().as_secs_f64() / 60.0,
                resident,
                transfers,
            });
        }
    }
}

/// Resident MiB of each node, and the transfers in the chain of the first one.
fn look() -> Outcome<([f64; NODES], f64)> {
    let (mut resident, mut transfers) = ([0.0; NODES], 0.0);
    for (node, resident) in resident.iter_mut().enumerate() {
        let text = scrape(node)?;
        *resident = value(&text, "landfall_process_resident_bytes")? / f64::from(1 << 20);
        if node == 0 {
            transfers = value(&text, "landfall_chain_transactions_total")?;
        }
    }
    Ok((resident, transfers))
}

/// The metrics of a node, as text.
fn scrape(node: usize) -> Outcome<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], OPS_PORT + u16::try_from(node)?));
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn value(metrics: &str, name: &str) -> Outcome<f64> {
    let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
    let figure = line.and_then(|line| line.split(' ').next_back());
    Ok(figure.ok_or_else(|| format!("no {name} among the metrics"))?.parse()?)
}

fn write_table(path: &Path, samples: &[Sample]) -> Outcome<()> {
    let mut text = String::from("minutes,node 1 MiB,node 2 MiB,node 3 MiB,node 4 MiB,transfers\n");
    for Sample { minutes, resident: [a, b, c, d], transfers } in samples {
        text += &format!("{minutes:.2},{a:.1},{b:.1},{c:.1},{d:.1},{transfers:.0}\n");
    }
    Ok(std::fs::write(path, text)?)
}

/// How much memory grew in the last part of the run, by the straight line that fits it best.
fn judge(samples: &[Sample], minutes: u64) -> Outcome<()> {
    let end = samples.last().ok_or("nothing was seen")?.minutes;
    let from = end * (1.0 - JUDGED);
    let last: Vec<&Sample> = samples.iter().filter(|sample| sample.minutes >= from).collect();
    if last.len() < FEWEST {
        return Err(format!("{} samples are too few to judge by", last.len()).into());
    }
    let mut grown = Vec::new();
    for node in 0..NODES {
        let points = last.iter().map(|sample| (sample.minutes, sample.resident[node]));
        let (slope, mean) = line(&points.collect::<Vec<_>>());
        let share = slope * (end - from) / mean;
        println!(
            "node {}: {mean:.0} MiB, {:+.2} % in {:.1} min",
            node + 1,
            share * 100.0,
            end - from
        );
        if share > GROWTH {
            grown.push(format!("node {} by {:.2} %", node + 1, share * 100.0));
        }
    }
    println!("soak: {minutes} minutes, target/soak/memory.csv and memory.svg");
    if grown.is_empty() { Ok(()) } else { Err(format!("memory grew: {}", grown.join(", ")).into()) }
}

/// Slope and mean of points, by least squares.
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|it| it.0), mean(|it| it.1));
    let spread: f64 = points.iter().map(|it| (it.0 - x).powi(2)).sum();
    let both: f64 = points.iter().map(|it| (it.0 - x) * (it.1 - y)).sum();
    (if spread > 0.0 { both / spread } else { 0.0 }, y)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(minutes: f64, growth: f64) -> Sample {
        let grown = 400.0 + growth * minutes;
        Sample { minutes, resident: [400.0, 400.0, 400.0, grown], transfers: 0.0 }
    }

    #[test]
    fn memory_that_grows_by_more_than_a_hundredth_in_the_last_part_is_a_failure() {
        let run = |growth: f64| (0..180).map(|n| sample(f64::from(n) / 6.0, growth)).collect();
        let (flat, growing): (Vec<_>, Vec<_>) = (run(0.1), run(0.3));
        judge(&flat, 30).unwrap();
        let error = judge(&growing, 30).unwrap_err().to_string();
        assert!(error.starts_with("memory grew: node 4 by 1.4"), "{error}");
    }

    #[test]
    fn too_few_samples_judge_nothing() {
        let samples: Vec<_> = (0..12).map(|n| sample(f64::from(n) / 6.0, 0.0)).collect();
        assert!(judge(&samples, 2).unwrap_err().to_string().contains("too few"));
    }

    #[test]
    fn growth_before_the_last_part_does_not_count() {
        let samples: Vec<_> = (0..180)
            .map(|n| Sample {
                resident: [if n < 59 { 10.0 } else { 400.0 }; 4],
                ..sample(f64::from(n) / 6.0, 0.0)
            })
            .collect();
        judge(&samples, 30).unwrap();
    }

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# HELP landfall_a_b x\nlandfall_a_b_c 3\nlandfall_a_b 2.5\n";
        assert_eq!(value(text, "landfall_a_b").unwrap(), 2.5);
        assert!(value(text, "landfall_a").is_err());
    }
}
