//! Bars from zero, with their figures: what something costs.

use super::{
    Anchor, Canvas, HALF_LINE, Tint, figure,
    rows::{self, Place},
};

/// The height of a bar and of what is between two of them.
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;

/// Room for the figures behind the longest bar.
const RIGHT: f64 = 60.0;

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) tint: Tint,
    pub(crate) value: f64,
}

/// One plot of several.
pub(crate) type Panel = rows::Panel<Bar>;

/// The picture.
pub(crate) fn draw(title: &str, panels: &[Panel]) -> String {
    rows::draw(title, panels, |count| count as f64 * STEP, draw_bars)
}

fn draw_bars(canvas: &mut Canvas, bars: &[Bar], place: Place) {
    let longest = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    for (number, bar) in bars.iter().enumerate() {
        let top = place.top + number as f64 * STEP;
        let middle = top + BAR / 2.0;
        let length = (bar.value / longest).clamp(0.0, 1.0) * (place.right - place.left - RIGHT);
        place.name(canvas, middle, &bar.name);
        canvas.bar(&bar.tint.to_string(), (place.left, top), length, BAR);
        canvas.words("quiet", place.left + length + 6.0, middle + HALF_LINE, Anchor::Start, &figure(bar.value));
    }
}
