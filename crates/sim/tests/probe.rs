use landfall_sim::*;
#[test]
fn probe() {
    let name = std::env::var("SC").unwrap_or("solo".into());
    let scenario = Scenario::named(&name).unwrap();
    if let Ok(seed) = std::env::var("SEED") {
        let t = std::time::Instant::now();
        let out = narrate(scenario, seed.parse().unwrap(), None, |line| println!("{line}"));
        println!("{:?} {:?} {:?}", out.violation, out.stats, t.elapsed());
        return;
    }
    let n: u64 = std::env::var("N").unwrap_or("10".into()).parse().unwrap();
    let summary = run_many(scenario, 0..n, 2, |_| true);
    println!("{summary}");
}
