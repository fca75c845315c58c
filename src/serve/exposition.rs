//! The two formats in which metrics are read.

use std::collections::HashMap;

use axum::http::{HeaderMap, header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exposition {
    OpenMetrics,
    /// What came before it, and what some scrapers still ask for alone.
    Text,
}

impl Exposition {
    /// `OpenMetrics`, unless plain text is preferred.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<(&str, f32)> = values.flat_map(|value| value.split(',')).map(range).collect();
        let weight = |names: [&str; 3]| {
            // The most exact range that matches.
            let of = |name: &&str| ranges.iter().find(|(range, _)| range.eq_ignore_ascii_case(name));
            names.iter().find_map(of).map_or(0.0, |(_, weight)| *weight)
        };
        let open = weight(["application/openmetrics-text", "application/*", "*/*"]);
        let text = weight(["text/plain", "text/*", "*/*"]);
        if text > open { Self::Text } else { Self::OpenMetrics }
    }
}

/// A media range of an `Accept` header, without its parameters, and its weight.
fn range(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
    (name, weight.unwrap_or(1.0))
}

/// `OpenMetrics` as text of the version before: counters and infos are named there as their samples are, units are in
/// names alone, and no mark is at the end.
pub(super) fn as_text(open: &str) -> String {
    let kinds: HashMap<&str, &str> =
        open.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let line = |line: &str| {
        let Some((keyword, rest)) = line.strip_prefix("# ").map(|rest| rest.split_once(' ').unwrap_or((rest, "")))
        else {
            return Some(format!("{line}\n"));
        };
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (ending, kind) = match kinds.get(name).copied() {
            Some("counter") => ("_total", "counter"),
            Some("info") => ("_info", "gauge"),
            kind => ("", kind.unwrap_or("untyped")),
        };
        match keyword {
            "HELP" => Some(format!("# HELP {name}{ending} {rest}\n")),
            "TYPE" => Some(format!("# TYPE {name}{ending} {kind}\n")),
            _ => None,
        }
    };
    open.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_rather_accepted() {
        let accepted = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            Exposition::accepted(&headers)
        };
        assert_eq!(Exposition::accepted(&HeaderMap::new()), Exposition::OpenMetrics);
        for open in [
            "*/*",
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/openmetrics-text, text/plain",
            "text/html",
            "text/plain;q=oops, */*",
        ] {
            assert_eq!(accepted(open), Exposition::OpenMetrics, "{open}");
        }
        for text in ["text/plain", "text/plain;version=0.0.4;q=1,*/*;q=0.1", "Text/*", "text/html, text/plain;q=0.9"] {
            assert_eq!(accepted(text), Exposition::Text, "{text}");
        }
    }

    #[test]
    fn older_text_names_families_as_their_samples() {
        let open = "# HELP a_tokens Tokens.\n# TYPE a_tokens counter\na_tokens_total 3\n\
                    # HELP a_build Program.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n\
                    # HELP a_secs Time.\n# TYPE a_secs histogram\n# UNIT a_secs seconds\na_secs_count 0\n# EOF\n";
        let text = "# HELP a_tokens_total Tokens.\n# TYPE a_tokens_total counter\na_tokens_total 3\n\
                    # HELP a_build_info Program.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n\
                    # HELP a_secs Time.\n# TYPE a_secs histogram\na_secs_count 0\n";
        assert_eq!(as_text(open), text);
    }
}
