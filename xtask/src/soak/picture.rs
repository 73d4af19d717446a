//! The picture of a soak: resident memory of each node over time, as SVG.

use super::{NODES, Sample};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 72.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 40.0;
const COLOURS: [&str; NODES] = ["#1f6feb", "#d1572b", "#2f9e64", "#8a55c9"];

/// Draws it; nothing but axes if there are no samples.
pub fn draw(samples: &[Sample]) -> String {
    let end = samples.last().map_or(1.0, |sample| sample.minutes).max(1.0);
    let most = samples.iter().flat_map(|sample| sample.resident).fold(1.0, f64::max);
    let step = [50.0, 100.0, 200.0, 500.0].into_iter().find(|step| most / step < 7.0);
    let step = step.unwrap_or(1_000.0);
    let top = (most / step).ceil() * step;
    let x = |minutes: f64| LEFT + minutes / end * (WIDTH - LEFT - RIGHT);
    let y = |mebibytes: f64| HEIGHT - BOTTOM - mebibytes / top * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    let mut level = 0.0;
    while level <= top {
        let at = y(level);
        out += &format!(
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#d8dee4\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#57606a\">{level:.0}</text>\n",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0
        );
        level += step;
    }
    let every = (end / 6.0).ceil().max(1.0);
    let mut minute = 0.0;
    while minute <= end {
        out += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#57606a\">{minute:.0}</text>\n",
            x(minute),
            HEIGHT - BOTTOM + 18.0
        );
        minute += every;
    }
    for (node, colour) in COLOURS.into_iter().enumerate() {
        let points: Vec<String> = samples
            .iter()
            .map(|it| format!("{:.1},{:.1}", x(it.minutes), y(it.resident[node])))
            .collect();
        let below = TOP + 16.0 * node as f64;
        out += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
             <text x=\"{:.1}\" y=\"{below:.1}\" fill=\"{colour}\">node {}</text>\n",
            points.join(" "),
            WIDTH - RIGHT + 10.0,
            node + 1
        );
    }
    out += &format!(
        "<text x=\"{LEFT}\" y=\"14\" fill=\"#24292f\">resident memory, MiB</text>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#24292f\">minutes of load</text>\n</svg>\n",
        WIDTH - RIGHT,
        HEIGHT - 6.0
    );
    out
}
