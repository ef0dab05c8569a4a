//! Sizes and times as people type them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_core::Timestamp;

use crate::kfl::{Filter, KflError};
use crate::utc;

/// A number of bytes: `4096`, `64K`, `4G`, `1.5G`, `4GiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let shift = match unit.to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("expected a number of bytes such as 512M or 4G".into()),
    };
    scaled(number, (1_u64 << shift) as f64)
        .map(|bytes| bytes as u64)
        .ok_or_else(|| "expected a number of bytes such as 512M or 4G".into())
}

/// A length of time: `90s`, `30m`, `6h`, `7d`; without a unit, seconds.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds = match unit {
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err("expected a time such as 90s, 30m, 6h or 7d".into()),
    };
    let length = scaled(number, seconds).and_then(|s| Duration::try_from_secs_f64(s).ok());
    length.filter(|d| !d.is_zero()).ok_or_else(|| "expected a time such as 90s, 30m, 6h or 7d".into())
}

/// A moment: RFC 3339, seconds since 1970, or `-10m` for ten minutes ago.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    let wrong = || "expected a time such as 2026-11-21T14:00:00Z, 1795269600 or -10m".to_owned();
    if let Some(ago) = text.strip_prefix('-') {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        return Ok(stamp(now.saturating_sub(time(ago)?)));
    }
    if let Some(seconds) = scaled(text, 1.0) {
        return Duration::try_from_secs_f64(seconds).map(stamp).map_err(|_| wrong());
    }
    utc::parse(text).map(Timestamp).ok_or_else(wrong)
}

fn stamp(since: Duration) -> Timestamp {
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

fn scaled(number: &str, by: f64) -> Option<f64> {
    let number: f64 = number.parse().ok()?;
    Some(number * by).filter(|n| n.is_finite() && *n < 9e18)
}

/// Messages a second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| (0.001..=100_000.0).contains(rate));
    rate.ok_or_else(|| "expected messages a second, 0.001 to 100000".to_owned())
}

/// A KFL filter.
pub(crate) fn filter(text: &str) -> Result<Arc<Filter>, KflError> {
    Filter::compile(text).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_absolute_or_ago() {
        assert_eq!(moment("1700000000.5"), Ok(Timestamp(1_700_000_000_500_000_000)));
        assert_eq!(moment("2023-11-14T22:13:20Z"), Ok(Timestamp(1_700_000_000_000_000_000)));
        let (ago, now) = (moment("-1h").unwrap().0, moment("-0.001s").unwrap().0);
        assert!((3_590_000_000_000..3_610_000_000_000).contains(&(now - ago)));
        for text in ["", "-", "tomorrow", "2023-11-14", "2023-11-14T22:13", "-10"] {
            assert!(moment(text).is_err() || text == "-10", "{text}");
        }
    }

    #[test]
    fn sizes_and_times_have_their_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64K", 65_536),
            ("4g", 4 << 30),
            ("1.5 GiB", 3 << 29),
            ("2TB", 2 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "4X", "-1", "1e3", "9999999999G", "1..2", "4GBG"] {
            assert!(size(text).is_err(), "{text}");
        }
        for (text, seconds) in [("90", 90), ("90s", 90), ("30m", 1800), ("6h", 21_600), ("0.5d", 43_200)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0", "1y", "-1s", "h", "99999999999999999d"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
