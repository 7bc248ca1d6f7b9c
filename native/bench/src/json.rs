//! Just enough JSON to answer with.

use std::fmt::Write;

/// An object under construction.
#[derive(Default)]
pub struct Object(String);

impl Object {
    /// Add something that is JSON already.
    pub fn raw(mut self, name: &str, value: impl std::fmt::Display) -> Object {
        let comma = if self.0.is_empty() { "" } else { "," };
        let _ = write!(self.0, "{comma}\"{name}\":{value}");
        self
    }

    /// Add a list of whole numbers.
    pub fn list(self, name: &str, values: &[u64]) -> Object {
        let joined: Vec<String> = values.iter().map(u64::to_string).collect();
        self.raw(name, format!("[{}]", joined.join(",")))
    }

    /// Add what is to be known of many durations, given in nanoseconds, told in milliseconds.
    /// `curve` are 101 quantiles, for a plot.
    pub fn durations(self, name: &str, values: &mut [u64]) -> Object {
        values.sort_unstable();
        let at = |part: f64| {
            let index = (part * values.len() as f64).ceil() as usize;
            values.get(index.saturating_sub(1).min(values.len().saturating_sub(1)))
        };
        let ms = |part: f64| at(part).map_or(0.0, |ns| *ns as f64 / 1e6);
        let curve: Vec<String> =
            (0..=100).map(|percent| format!("{:.4}", ms(f64::from(percent) / 100.0))).collect();
        let told = Object::default()
            .raw("n", values.len())
            .raw("p50", format!("{:.4}", ms(0.5)))
            .raw("p99", format!("{:.4}", ms(0.99)))
            .raw("p999", format!("{:.4}", ms(0.999)))
            .raw("max", format!("{:.4}", ms(1.0)))
            .raw("curve", format!("[{}]", curve.join(",")));
        self.raw(name, told.end())
    }

    /// Return the text.
    pub fn end(self) -> String {
        format!("{{{}}}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank_in_milliseconds() {
        let mut values: Vec<u64> = (1..=1000).rev().map(|n| n * 1_000_000).collect();
        let text = Object::default().durations("gap", &mut values).end();
        let wanted = "{\"gap\":{\"n\":1000,\"p50\":500.0000,\"p99\":990.0000,\
                      \"p999\":999.0000,\"max\":1000.0000,\"curve\":[1.0000,10.0000,";
        assert!(text.starts_with(wanted), "{text}");
    }

    #[test]
    fn nothing_measured_is_zero_of_nothing() {
        let text = Object::default().raw("a", 1).durations("gap", &mut []).list("b", &[1, 2]).end();
        assert!(text.starts_with("{\"a\":1,\"gap\":{\"n\":0,\"p50\":0.0000"), "{text}");
        assert!(text.ends_with("\"b\":[1,2]}"), "{text}");
    }
}
