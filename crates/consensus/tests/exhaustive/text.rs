//! The canonical text of a local state: what the derived `Debug` prints, without what cannot
//! change behaviour.

/// From the first field that is not constant on.
pub fn from_field<'a>(text: &'a str, field: &str) -> &'a str {
    &text[text.find(field).unwrap_or_else(|| panic!("{field:?} is not in {text}"))..]
}

/// The text, without what stands between each `open` and the first `close` behind it.
pub fn without(text: &str, open: &str, close: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(open) {
        let (before, inside) = rest.split_at(at + open.len());
        kept.push_str(before);
        rest = inside.find(close).map_or("", |end| &inside[end..]);
    }
    kept.push_str(rest);
    kept
}

/// Without times of timers (a timer is set or off) and the bytes of signatures.
pub fn timeless(text: &str) -> String {
    without(&without(text, "Time(", ")"), "Signature([", "]")
}
