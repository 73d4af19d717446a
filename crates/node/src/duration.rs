//! Lengths of time as people write them: `20ms`, `4s`, `5m`, `2h`.

use std::time::Duration;

/// A whole number and its unit.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no length of time; expected one like 20ms, 4s, 5m or 2h");
    let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (digits, unit) = text.split_at(end);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let milliseconds = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)
}

/// The same, or a number alone: seconds, as anvil takes them.
pub fn parse_or_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        // Infinity and what is no number are in no range.
        Ok(seconds) if (0.001..=86_400.0).contains(&seconds) => {
            Ok(Duration::from_millis((seconds * 1_000.0).round() as u64))
        }
        Ok(_) => Err("give at least 0.001 and at most 86400 seconds".into()),
        Err(_) => parse(text),
    }
}

/// As [`parse`] reads it, in the largest unit that loses nothing.
pub fn show(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let fits =
        units.into_iter().find(|(_, unit)| milliseconds > 0 && milliseconds.is_multiple_of(*unit));
    let (name, unit) = fits.unwrap_or(("ms", 1));
    format!("{}{name}", milliseconds / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_survives_its_text() {
        for (text, milliseconds) in [
            ("0ms", 0),
            ("20ms", 20),
            ("4s", 4_000),
            ("1500ms", 1_500),
            ("5m", 300_000),
            ("2h", 7_200_000),
        ] {
            let duration = parse(text).unwrap();
            assert_eq!(duration.as_millis(), milliseconds);
            assert_eq!(show(duration), text);
        }
    }

    #[test]
    fn a_number_alone_is_seconds_where_that_is_allowed() {
        for (text, milliseconds) in [("0.5", 500), ("2", 2_000), ("20ms", 20)] {
            assert_eq!(parse_or_seconds(text).unwrap().as_millis(), milliseconds, "{text}");
        }
        for wrong in ["0", "-1", "inf", "NaN", "1e9", "soon"] {
            assert!(parse_or_seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_has_no_unit_is_refused() {
        for wrong in
            ["", "20", "ms", "-1s", "1.5s", "1d", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(parse(wrong).unwrap_err().contains("no length of time"), "{wrong}");
        }
    }
}
