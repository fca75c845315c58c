//! Figures as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local};

/// `9ms`, `0.4s`, `12.3s`, `2m 11s`, `1h 04m`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 0.095 => format!("{:.0}ms", seconds * 1000.0),
        _ if seconds < 59.95 => format!("{seconds:.1}s"),
        0..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m", whole / 3600, whole % 3600 / 60),
    }
}

/// A clock that runs: `01:42`, `1:02:03`.
pub(crate) fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match seconds {
        0..3600 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3600, seconds % 3600 / 60, seconds % 60),
    }
}

/// `812 B`, `1.1 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    let mut size = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if size < 1024.0 {
            return if unit == "B" { format!("{size} B") } else { format!("{size:.1} {unit}") };
        }
        size /= 1024.0;
    }
    format!("{size:.1} TiB")
}

/// `1,236`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `just now`, `12 minutes ago`, `3 days ago`.
pub(crate) fn ago(unix_secs: u64) -> String {
    let then = UNIX_EPOCH + Duration::from_secs(unix_secs);
    let seconds = SystemTime::now().duration_since(then).unwrap_or_default().as_secs();
    let (number, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86400 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    format!("{} ago", plural(number as usize, unit))
}

/// `2026-11-25T11:02:33`, by the clock of the place, of a time as records have it; as it is, where it is none.
pub(crate) fn local(rfc3339: &str) -> String {
    match DateTime::parse_from_rfc3339(rfc3339) {
        Ok(time) => time.with_timezone(&Local).format("%Y-%m-%dT%H:%M:%S").to_string(),
        Err(_) => rfc3339.to_owned(),
    }
}

/// `2026-11-25 10:02:33 UTC`.
pub(crate) fn utc(unix_secs: u64) -> String {
    let time = DateTime::from_timestamp(unix_secs as i64, 0).unwrap_or_default();
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `1 stage`, `20 stages`.
pub(crate) fn plural(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        assert_eq!(
            [0.04, 59.94, 59.96, 131.2, 3600.0, 7384.0].map(duration),
            ["40ms", "59.9s", "1m 00s", "2m 11s", "1h 00m", "2h 03m"]
        );
        assert_eq!([0, 1023, 1024, 1_181_116_006].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.1 GiB"]);
        assert_eq!([0, 999, 1236, 1_234_567].map(count), ["0", "999", "1,236", "1,234,567"]);
        assert_eq!([102, 3723].map(|s| clock(Duration::from_secs(s))), ["01:42", "1:02:03"]);
        assert_eq!(utc(1_764_064_953), "2025-11-25 10:02:33 UTC");
        assert_eq!([plural(1, "stage"), plural(2, "stage")], ["1 stage", "2 stages"]);
    }
}
