//! Durations of the Gateway API (GEP-2257).

/// Parses a duration; whole seconds of it.
pub(super) fn seconds(duration: &str) -> Option<u64> {
    milliseconds(duration).map(|milliseconds| milliseconds / 1000)
}

/// Parses `1h30m` and its like (Gateway API `Duration`): 1 to 4 groups of 1 to 5 digits with h, m, s or ms.
pub(super) fn milliseconds(duration: &str) -> Option<u64> {
    let mut milliseconds: u64 = 0;
    let mut rest = duration;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) {
            return None;
        }
        let (number, after) = rest.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let (unit, after) = if let Some(after) = after.strip_prefix("ms") {
            (1, after)
        } else if let Some(after) = after.strip_prefix('s') {
            (1000, after)
        } else if let Some(after) = after.strip_prefix('m') {
            (60_000, after)
        } else {
            (3_600_000, after.strip_prefix('h')?)
        };
        milliseconds += number * unit;
        rest = after;
        if rest.is_empty() {
            return Some(milliseconds);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn reads_durations() {
        let cases: [(&str, Option<u64>); 13] = [
            ("10m", Some(600)),
            ("1h30m", Some(5400)),
            ("1500ms", Some(1)),
            ("0s", Some(0)),
            ("99999h", Some(359_996_400)),
            ("1h1m1s1ms", Some(3661)),
            ("1h1m1s1ms1ms", None),
            ("100000s", None),
            ("10", None),
            ("1d", None),
            ("-1s", None),
            ("1.5h", None),
            ("", None),
        ];
        for (written, expected) in cases {
            assert_eq!(seconds(written), expected, "{written}");
        }
    }
}
