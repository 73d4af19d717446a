//! The bar of long work: on a terminal only, so that logs and pipes stay clean.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over bytes.
pub fn bytes(total: u64, message: &'static str) -> ProgressBar {
    bar(total, message, "{bytes}/{total_bytes}")
}

/// A bar over blocks.
pub fn blocks(total: u64, message: &'static str) -> ProgressBar {
    bar(total, message, "{pos}/{len} blocks")
}

/// A bar over simulated histories.
pub fn histories(total: u64, message: &'static str) -> ProgressBar {
    bar(total, message, "{pos}/{len} histories")
}

fn bar(total: u64, message: &'static str, unit: &str) -> ProgressBar {
    let template = format!("{{msg}} {{bar:40}} {unit} {{elapsed}} (left {{eta}})");
    let style = ProgressStyle::with_template(&template).expect("the template is well-formed");
    ProgressBar::new(total).with_style(style).with_message(message)
}
