//! Points in time and durations, in nanoseconds, as CEL reads and takes them apart.

/// Nanoseconds of a second.
pub(crate) const SECOND: i128 = 1_000_000_000;
const DAY: i64 = 86_400;
/// The first and the last second of a timestamp: the years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i128> = -62_135_596_800..=253_402_300_799;
/// The most seconds of a duration, as in Protocol Buffers.
const MAX_DURATION: i128 = 315_576_000_000;

/// Returns a timestamp of so many nanoseconds since 1970; `None` outside the years 1 to 9999.
pub(crate) fn timestamp(nanos: i128) -> Option<i128> {
    SECONDS.contains(&nanos.div_euclid(SECOND)).then_some(nanos)
}

/// Returns a duration; `None` beyond about 10,000 years.
pub(crate) fn duration(nanos: i128) -> Option<i128> {
    ((nanos / SECOND).abs() <= MAX_DURATION).then_some(nanos)
}

/// Parses a date and time (RFC 3339).
pub(crate) fn parse_timestamp(text: &str) -> Option<i128> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let digits = rest
        .strip_prefix('.')
        .map_or(0, |rest| 1 + rest.bytes().take_while(u8::is_ascii_digit).count());
    let (fraction, zone) = rest.split_at_checked(digits)?;
    let fraction = match fraction.strip_prefix('.') {
        Some("") => return None,
        Some(digits) => nanos(digits)?,
        None => 0,
    };
    let offset = match zone {
        "Z" | "z" => 0,
        _ => offset(zone)?,
    };
    let valid = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    valid
        .then(|| timestamp(i128::from(seconds) * SECOND + fraction))
        .flatten()
}

/// Parses a duration such as `1h30m`, `-1.5s`, `10ms`, `5us` or `7ns`.
pub(crate) fn parse_duration(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_i128;
    let mut parts = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(number)?;
        let unit = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit)?;
        let unit = match unit {
            "h" => 3600 * SECOND,
            "m" => 60 * SECOND,
            "s" => SECOND,
            "ms" => SECOND / 1_000,
            "us" => SECOND / 1_000_000,
            "ns" => 1,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if number.len() > 30 || whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole = if whole.is_empty() {
            0
        } else {
            whole.parse::<i64>().ok()?
        };
        let fraction = nanos(fraction)?;
        total = total
            .checked_add(i128::from(whole).checked_mul(unit)?)?
            .checked_add(fraction * unit / SECOND)?;
        rest = after;
        parts += 1;
    }
    (parts > 0).then_some(())?;
    duration(if negative { -total } else { total })
}

/// Parses the offset of a time zone from UTC, `+02:00` or `-02:00`, in seconds.
pub(crate) fn offset(text: &str) -> Option<i64> {
    let (sign, clock) = match text.split_at_checked(1)? {
        ("+", clock) => (1, clock),
        ("-", clock) => (-1, clock),
        _ => return None,
    };
    let [hour, minute] = numbers(clock, ':', [2, 2])?;
    (hour < 24 && minute < 60).then_some(sign * (hour * 3600 + minute * 60))
}

/// A point in time, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// 1 to 12
    pub(crate) month: i64,
    /// 1 to 31
    pub(crate) day: i64,
    /// 0 to 365
    pub(crate) day_of_year: i64,
    /// 0 for Sunday
    pub(crate) day_of_week: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    pub(crate) millisecond: i64,
}

/// Takes a timestamp apart at an offset from UTC, in seconds.
pub(crate) fn civil(nanos: i128, offset: i64) -> Civil {
    let seconds = i64::try_from(nanos.div_euclid(SECOND)).unwrap_or_default() + offset;
    let (date, clock) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    // Days since 0000-03-01, in eras of 400 years (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let shifted = date + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_from_march + 2) / 153;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Civil {
        year,
        month,
        day: day_from_march - (153 * month_from_march + 2) / 5 + 1,
        day_of_year: date - days(year, 1, 1),
        day_of_week: (date + 4).rem_euclid(7),
        hour: clock / 3600,
        minute: clock / 60 % 60,
        second: clock % 60,
        millisecond: i64::try_from(nanos.rem_euclid(SECOND) / 1_000_000).unwrap_or_default(),
    }
}

/// Days from 1970-01-01 to a date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

const fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Splits digits of exactly these widths.
fn numbers<const N: usize>(text: &str, by: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(by);
    let mut numbers = [0; N];
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != width || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// The nanoseconds of a fraction of a second by its digits, those beyond the ninth cut off.
fn nanos(digits: &str) -> Option<i128> {
    let all = digits.bytes().all(|byte| byte.is_ascii_digit());
    let digit = |place: usize| digits.as_bytes().get(place).map_or(0, |byte| i128::from(byte - b'0'));
    all.then(|| (0..9).fold(0, |nanos, place| nanos * 10 + digit(place)))
}

#[cfg(test)]
mod tests {
    use super::{SECOND, civil, parse_duration, parse_timestamp};

    #[test]
    fn timestamps_are_read_and_taken_apart() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2024-02-29T12:30:15Z", Some(1_709_209_815)),
            ("2026-11-28T18:00:00+02:00", Some(1_795_881_600)),
            ("0001-01-01T00:00:00Z", Some(-62_135_596_800)),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799)),
            ("2023-02-29T00:00:00Z", None),
            ("2023-13-01T00:00:00Z", None),
            ("2023-01-01T24:00:00Z", None),
            ("2023-01-01T00:00:00", None),
            ("2023-01-01 00:00:00Z", None),
            ("0000-01-01T00:00:00Z", None),
            ("0001-01-01T00:00:00+01:00", None),
            ("2023-1-01T00:00:00Z", None),
            ("2023-01-01T00:00:00.Z", None),
            ("", None),
        ] {
            let parsed = parse_timestamp(text).map(|nanos| nanos.div_euclid(SECOND));
            assert_eq!(parsed, seconds, "{text}");
        }
        let parts = civil(parse_timestamp("2024-02-29T23:59:58.1239Z").unwrap_or_default(), 3600);
        assert_eq!(
            (parts.year, parts.month, parts.day, parts.day_of_year, parts.day_of_week),
            (2024, 3, 1, 60, 5)
        );
        assert_eq!(
            (parts.hour, parts.minute, parts.second, parts.millisecond),
            (0, 59, 58, 123)
        );
        let early = civil(-1, 0);
        assert_eq!((early.year, early.month, early.day, early.hour), (1969, 12, 31, 23));
        assert_eq!((early.day_of_year, early.day_of_week, early.millisecond), (364, 3, 999));
    }

    #[test]
    fn durations_are_read() {
        for (text, nanos) in [
            ("1h30m", Some(5_400 * SECOND)),
            ("-1.5s", Some(-1_500_000_000)),
            ("10ms5us7ns", Some(10_005_007)),
            ("0", Some(0)),
            (".5s", Some(500_000_000)),
            ("", None),
            ("5", None),
            ("1d", None),
            ("s", None),
            (".s", None),
            ("1..5s", None),
            ("999999999999h", None),
            ("99999999999999999999999s", None),
        ] {
            assert_eq!(parse_duration(text), nanos, "{text}");
        }
    }
}
