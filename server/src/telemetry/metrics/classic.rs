//! The classic text format of Prometheus, out of OpenMetrics text.
//!
//! The two differ where OpenMetrics text has lines of its own (`# UNIT`, `# EOF`), and in whose name a counter has: in
//! OpenMetrics the family is `x` and its sample `x_total`, in the classic format both are `x_total`.

/// The same metrics in the classic format.
pub(super) fn to_classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // A family's description comes before its type, which decides what the family is called.
    let mut description = None;
    for line in open_metrics.lines() {
        if let Some(told) = line.strip_prefix("# HELP ") {
            description = told.split_once(' ');
        } else if let Some((family, kind)) = line.strip_prefix("# TYPE ").and_then(|told| told.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = description.take().filter(|(described, _)| *described == family) {
                push(&mut text, &["# HELP ", family, suffix, " ", help]);
            }
            push(&mut text, &["# TYPE ", family, suffix, " ", kind]);
        } else if !line.starts_with("# ") {
            push(&mut text, &[line]);
        }
    }
    text
}

fn push(text: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| text.push_str(part));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_in_full_and_what_is_unknown_is_left_out() {
        let open_metrics = "# HELP a Things.\n# TYPE a counter\n# UNIT a seconds\na_total{x=\"# y\"} 1\n\
                            # HELP b State.\n# TYPE b gauge\nb 2\n# EOF\n";
        let classic = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"# y\"} 1\n\
                       # HELP b State.\n# TYPE b gauge\nb 2\n";
        assert_eq!(to_classic(open_metrics), classic);
    }
}
