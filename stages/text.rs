//! Figures as a person reads them.

/// `1 row`, `2 rows`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(count), if count == 1 { "" } else { "s" })
}

/// `8551` as `8,551`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        let shown: Vec<_> = [0, 12, 999, 1000, 8551, 392_702, 1_000_000].into_iter().map(thousands).collect();
        assert_eq!(shown, ["0", "12", "999", "1,000", "8,551", "392,702", "1,000,000"]);
    }
}
