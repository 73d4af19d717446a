//! Which known name somebody meant who wrote an unknown one.

/// Names longer than this are not compared: nobody mistypes so much by accident.
const COMPARED_CHARS: usize = 64;

/// The known name that is nearest to an unknown one, if one is near: a third of the letters may
/// differ, capitals and separators do not count.
pub fn closest_name<'a>(
    unknown: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = |name: &str| -> Vec<char> {
        name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    if unknown.len() > COMPARED_CHARS {
        return None;
    }
    let wanted = plain(unknown);
    let near = known.into_iter().map(|name| (distance(&wanted, &plain(name)), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    let letters = wanted.len().max(plain(name).len());
    // Units and prefixes are left out more often than letters are mistaken.
    let begins = wanted.len() >= 3 && plain(name).starts_with(&wanted);
    (distance * 3 <= letters || begins).then_some(name)
}

/// `; did you mean x?`, or nothing.
pub fn did_you_mean<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let name = closest_name(unknown, known);
    name.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// Insertions, deletions, replacements, and exchanges of two neighbours.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["blockIntervalMs", "emptyBlocks", "roundTimeoutMs", "retransmitMs"];

    #[test]
    fn near_names_are_found_whatever_their_capitals_and_separators() {
        let table = [
            ("blockinterval", "blockIntervalMs"),
            ("block_interval_ms", "blockIntervalMs"),
            ("emptyBlock", "emptyBlocks"),
            ("retransmissionMs", "retransmitMs"),
            ("round", "roundTimeoutMs"),
        ];
        for (unknown, expected) in table {
            assert_eq!(closest_name(unknown, KNOWN), Some(expected), "{unknown}");
        }
        assert_eq!(did_you_mean("emptyBlock", KNOWN), "; did you mean `emptyBlocks`?");
    }

    #[test]
    fn names_that_are_far_get_no_suggestion() {
        let long = "x".repeat(1_000_000);
        for unknown in ["colour", "", "ms", &long] {
            assert_eq!(closest_name(unknown, KNOWN), None);
            assert_eq!(did_you_mean(unknown, KNOWN), "");
        }
        assert_eq!(closest_name("a", []), None);
    }

    #[test]
    fn distance_counts_single_changes() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        for (one, other, expected) in [
            ("", "", 0),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("pfbt", "pbft", 1),
        ] {
            assert_eq!(distance(&chars(one), &chars(other)), expected);
            assert_eq!(distance(&chars(other), &chars(one)), expected);
        }
    }
}
