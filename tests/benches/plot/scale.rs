//! Where a value lies on an axis, and which values an axis names.

/// The least span of a logarithmic axis.
const DECADE: f64 = 10.0;

/// How far a logarithmic axis goes on beyond its values.
const MARGIN_FACTOR: f64 = 1.25;

/// From values to pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    is_log: bool,
    values: (f64, f64),
    pixels: (f64, f64),
}

impl Scale {
    /// An axis over these values, a little widened; equal distances are equal factors if it is logarithmic.
    pub(super) fn new(is_log: bool, values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Scale {
        let usable = values.filter(|value| value.is_finite() && (!is_log || *value > 0.0));
        let (low, high) = usable.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let values = match (low <= high, is_log) {
            // Nothing was measured: an empty plot is still one.
            (false, _) => (1.0, 10.0),
            (true, true) => {
                // A decade at least: small differences are to look small.
                let widened = (DECADE / (high / low)).sqrt().max(MARGIN_FACTOR);
                (low / widened, high * widened)
            }
            (true, false) => (0.0, if high > 0.0 { high * 1.05 } else { 1.0 }),
        };
        Scale { is_log, values, pixels }
    }

    /// The pixel of a value; what is out of bounds lies at the edge.
    pub(super) fn at(&self, value: f64) -> f64 {
        let (low, high) = self.values;
        let value = value.clamp(low, high);
        let share = if self.is_log { (value / low).ln() / (high / low).ln() } else { (value - low) / (high - low) };
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// Round values between the bounds, not too many.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let (low, high) = self.values;
        if !self.is_log {
            let step = round_step((high - low) / 5.0);
            let count = ((high - low) / step).floor();
            return (0..=20).map(f64::from).take_while(|&number| number <= count).map(|n| low + n * step).collect();
        }
        let multiples: &[f64] = if high / low > 200.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let decades = (-9..=12).map(|exponent| 10_f64.powi(exponent));
        let all = decades.flat_map(|decade| multiples.iter().map(move |multiple| decade * multiple));
        all.filter(|tick| (low..=high).contains(tick)).collect()
    }
}

/// The next of 1, 2 and 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let decade = 10_f64.powf(step.log10().floor());
    let multiples = [1.0, 2.0, 5.0, 10.0];
    multiples.into_iter().map(|multiple| multiple * decade).find(|round| *round >= step).unwrap_or(step)
}
