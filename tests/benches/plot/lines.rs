//! Lines over an axis: how a figure changes with another.

use super::{Anchor, Canvas, HALF_LINE, LETTER_WIDTH, MARGIN, TITLE_HEIGHT, Tint, WIDTH, figure, scale::Scale};

/// Panels beside each other.
const COLUMNS: usize = 2;

/// The height of a panel, its title and its axes included.
const PANEL_HEIGHT: f64 = 300.0;

/// Within a panel: room for its title, for what the vertical axis says, for the horizontal one, and for names of lines.
const TOP: f64 = 34.0;
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 44.0;
const RIGHT: f64 = 132.0;

/// The least distance of two names.
const NAME_HEIGHT: f64 = 15.0;

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) tint: Tint,
    /// Of what bounds the others, rather than is compared with them.
    pub(crate) is_dashed: bool,
    /// Whether every point is marked.
    pub(crate) is_marked: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

/// One plot of several.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) horizontal: &'static str,
    /// Whether equal distances are equal factors, sideways and upwards.
    pub(crate) is_log: (bool, bool),
    /// Values to be named on the horizontal axis, instead of round ones.
    pub(crate) ticks: Vec<f64>,
    pub(crate) lines: Vec<Line>,
}

/// The values on the horizontal axis at which these lines have points.
pub(crate) fn ticks(lines: &[Line]) -> Vec<f64> {
    let mut ticks: Vec<f64> = lines.iter().flat_map(|line| line.points.iter().map(|point| point.0)).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    ticks
}

/// The picture.
pub(crate) fn draw(title: &str, panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(COLUMNS);
    let width = (WIDTH - 2.0 * MARGIN) / COLUMNS as f64;
    let mut canvas = Canvas::new(title, TITLE_HEIGHT + MARGIN + rows as f64 * PANEL_HEIGHT);
    for (number, panel) in panels.iter().enumerate() {
        let x = MARGIN + (number % COLUMNS) as f64 * width;
        let y = TITLE_HEIGHT + MARGIN / 2.0 + (number / COLUMNS) as f64 * PANEL_HEIGHT;
        draw_panel(&mut canvas, panel, (x, y), width);
    }
    canvas.finish()
}

fn draw_panel(canvas: &mut Canvas, panel: &Panel, (x, y): (f64, f64), width: f64) {
    let (left, right) = (x + LEFT, x + width - RIGHT);
    let (top, bottom) = (y + TOP, y + PANEL_HEIGHT - BOTTOM);
    let points = || panel.lines.iter().flat_map(|line| line.points.iter());
    let across = Scale::new(panel.is_log.0, points().map(|point| point.0), (left, right));
    let up = Scale::new(panel.is_log.1, points().map(|point| point.1), (bottom, top));
    canvas.words("panel", x, y + TOP / 2.0, Anchor::Start, &panel.title);
    for tick in up.ticks() {
        let y = up.at(tick);
        canvas.line("grid", (left, y), (right, y));
        canvas.words("quiet", left - 6.0, y + HALF_LINE, Anchor::End, &figure(tick));
    }
    let ticks = if panel.ticks.is_empty() { across.ticks() } else { panel.ticks.clone() };
    for tick in ticks {
        let x = across.at(tick);
        canvas.line("axis", (x, bottom), (x, bottom + 4.0));
        canvas.words("quiet", x, bottom + 18.0, Anchor::Middle, &figure(tick));
    }
    canvas.line("axis", (left, bottom), (right, bottom));
    canvas.words("quiet", f64::midpoint(left, right), bottom + 36.0, Anchor::Middle, panel.horizontal);
    let mut names = Vec::new();
    for line in &panel.lines {
        let points: Vec<(f64, f64)> = line.points.iter().map(|&(x, y)| (across.at(x), up.at(y))).collect();
        let class = format!("line {}{}", line.tint, if line.is_dashed { " dashed" } else { "" });
        canvas.path(&class, &points);
        if line.is_marked {
            points.iter().for_each(|&point| canvas.dot(&line.tint.to_string(), point, 3.0));
        }
        if let Some(&(_, y)) = points.last() {
            names.push((y, line));
        }
    }
    draw_names(canvas, names, right, (top, bottom));
}

/// The names at the ends of the lines, moved apart where lines end close to each other.
fn draw_names(canvas: &mut Canvas, mut names: Vec<(f64, &Line)>, right: f64, (top, bottom): (f64, f64)) {
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut next = top;
    for (y, _) in &mut names {
        *y = y.max(next);
        next = *y + NAME_HEIGHT;
    }
    let mut last = bottom + NAME_HEIGHT;
    for (y, line) in names.iter_mut().rev() {
        *y = y.min(last - NAME_HEIGHT);
        last = *y;
        let room = ((RIGHT - 22.0) / LETTER_WIDTH).floor();
        debug_assert!(line.name.chars().count() as f64 <= room, "no room for {}", line.name);
        canvas.dot(&line.tint.to_string(), (right + 12.0, *y), 4.0);
        canvas.words("", right + 20.0, *y + HALF_LINE, Anchor::Start, &line.name);
    }
}
