/*!
Charts as inline SVG: axes, lines, bars and marks.

A chart is 360 units wide, about what it gets in points on any screen: one column on a telephone, three on a wide screen. So its text
is never scaled down to what nobody can read. Colours are classes of the page's style sheet, which knows light and dark.
*/

use super::escape;
use std::fmt::Write as _;

/// Width and height of a chart, and the margins around what is plotted.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

/// Points of a line at most: more than a chart has units. Of several that fall together the highest is drawn.
const POINTS_MAX: usize = 400;

/// A scale along one axis: values, and the ticks with their text.
pub(super) struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
    ticks: Vec<(f64, String)>,
}

impl Scale {
    /// From 0 to at least `high`, with ticks at round numbers.
    pub(super) fn linear(high: f64, text: impl Fn(f64) -> String) -> Scale {
        let high = if high > 0.0 { high } else { 1.0 };
        let step = round_step(high / 4.0);
        let count = (high / step).ceil();
        let ticks = (0..=5).map(f64::from).filter(|n| *n <= count).map(|n| (n * step, text(n * step))).collect();
        Scale { low: 0.0, high: step * count, is_log: false, ticks }
    }

    /// By powers of ten, from one at or below `low` to one at or above `high`.
    pub(super) fn log(low: f64, high: f64, text: impl Fn(f64) -> String) -> Scale {
        let low = low.max(1.0).log10().floor();
        let high = high.max(1.0).log10().ceil().max(low + 1.0);
        let mut ticks = Vec::new();
        let mut power = low;
        while power <= high {
            ticks.push((10f64.powf(power), text(10f64.powf(power))));
            power += 1.0;
        }
        Scale { low: 10f64.powf(low), high: 10f64.powf(high), is_log: true, ticks }
    }

    /// With ticks as they are given; logarithmic.
    pub(super) fn log_ticks(low: f64, high: f64, ticks: Vec<(f64, String)>) -> Scale {
        Scale { low, high, is_log: true, ticks }
    }

    /// From `low` to `high`, with ticks as they are given.
    pub(super) fn of(low: f64, high: f64, ticks: Vec<(f64, String)>) -> Scale {
        Scale { low, high, is_log: false, ticks }
    }

    /// From `low` to `high`, with ticks at these and at 0.
    pub(super) fn around(low: f64, high: f64) -> Scale {
        let mut at = vec![low, 0.0, high];
        at.dedup();
        Scale {
            low: low - 0.5,
            high: high + 0.5,
            is_log: false,
            ticks: at.into_iter().map(|x| (x, format!("{x:.0}"))).collect(),
        }
    }

    /// Where a value lies, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let share = match self.is_log {
            true => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        share.clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|round| *round >= step * 0.999_999).unwrap_or(step)
}

/// A chart in the making.
pub(super) struct Chart {
    x: Scale,
    y: Scale,
    title: String,
    body: String,
    legend: Vec<(String, String)>,
}

impl Chart {
    /// With its axes; `x_name` stands under the one below.
    pub(super) fn new(title: &str, x: Scale, x_name: &str, y: Scale) -> Chart {
        let mut chart = Chart { x, y, title: title.to_owned(), body: String::new(), legend: Vec::new() };
        for (value, text) in std::mem::take(&mut chart.y.ticks) {
            let y = chart.y_at(value);
            let (left, right) = (LEFT, WIDTH - RIGHT);
            chart.draw(format_args!("<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/>"));
            let (x, below) = (LEFT - 6.0, y + 4.0);
            chart.draw(format_args!("<text x=\"{x}\" y=\"{below:.1}\" text-anchor=\"end\">{}</text>", escape(&text)));
        }
        for (value, text) in std::mem::take(&mut chart.x.ticks) {
            let x = chart.x_at(value);
            let (from, to) = (HEIGHT - BOTTOM, HEIGHT - BOTTOM + 4.0);
            chart.draw(format_args!("<path class=\"axis\" d=\"M{x:.1} {from}V{to}\"/>"));
            let below = HEIGHT - BOTTOM + 16.0;
            chart
                .draw(format_args!("<text x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", escape(&text)));
        }
        let (left, right, bottom) = (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM);
        chart.draw(format_args!("<path class=\"axis\" d=\"M{left} {bottom}H{right}\"/>"));
        let (middle, below) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 3.0);
        chart.draw(format_args!("<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", escape(x_name)));
        chart
    }

    fn draw(&mut self, piece: std::fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _written = self.body.write_fmt(piece);
    }

    fn x_at(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y_at(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - BOTTOM - TOP)
    }

    /// A line through points, ascending by x; `class` is its colour, `name` its place in the legend.
    pub(super) fn line(&mut self, name: &str, class: &str, points: &[(f64, f64)]) {
        let path: Vec<String> = thinned(points)
            .iter()
            .zip(std::iter::once("M").chain(std::iter::repeat("L")))
            .map(|((x, y), command)| format!("{command}{:.1} {:.1}", self.x_at(*x), self.y_at(*y)))
            .collect();
        self.draw(format_args!("<path class=\"line {class}\" d=\"{}\"/>", path.concat()));
        self.legend.push((class.to_owned(), name.to_owned()));
    }

    /// A bar from the axis up to `value`, over `from` to `to`.
    pub(super) fn bar(&mut self, class: &str, from: f64, to: f64, value: f64, says: &str) {
        let (x, end, y) = (self.x_at(from), self.x_at(to), self.y_at(value));
        let (width, height) = ((end - x).max(0.5), (HEIGHT - BOTTOM - y).max(0.0));
        let says = escape(says);
        self.draw(format_args!(
            "<rect class=\"bar {class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{says}</title></rect>"
        ));
    }

    /// A stretch of the x axis in the background.
    pub(super) fn band(&mut self, class: &str, from: f64, to: f64, says: &str) {
        let (x, end) = (self.x_at(from), self.x_at(to));
        let (width, height, says) = ((end - x).max(1.0), HEIGHT - BOTTOM - TOP, escape(says));
        self.draw(format_args!(
            "<rect class=\"band {class}\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"><title>{says}</title></rect>"
        ));
    }

    /// A mark at the upper edge.
    pub(super) fn mark(&mut self, class: &str, at: f64, row: f64, says: &str) {
        let (x, y, says) = (self.x_at(at), TOP - 5.0 + row * 8.0, escape(says));
        self.draw(format_args!(
            "<circle class=\"mark {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{says}</title></circle>"
        ));
    }

    /// A place in the legend for what has no line.
    pub(super) fn explain(&mut self, class: &str, name: &str) {
        self.legend.push((class.to_owned(), name.to_owned()));
    }

    /// The chart with its title and legend.
    pub(super) fn finish(self) -> String {
        let legend: String = self
            .legend
            .iter()
            .map(|(class, name)| format!("<span><i class=\"key {class}\"></i>{}</span>", escape(name)))
            .collect();
        let title = escape(&self.title);
        format!(
            "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">{}</svg>\
             <p class=\"legend\">{legend}</p></figure>\n",
            self.body
        )
    }
}

/// At most [`POINTS_MAX`] points, of neighbours the one that is highest.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(POINTS_MAX).max(1);
    points
        .chunks(each)
        .filter_map(|chunk| chunk.iter().copied().max_by(|one, other| one.1.total_cmp(&other.1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_everything() {
        let texts = |scale: Scale| scale.ticks.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        let plain = |x: f64| format!("{x}");
        assert_eq!(texts(Scale::linear(37.0, plain)), ["0", "10", "20", "30", "40"]);
        assert_eq!(texts(Scale::linear(0.0, plain)).last().map(String::as_str), Some("1"));
        assert_eq!(texts(Scale::log(150.0, 9_000.0, plain)), ["100", "1000", "10000"]);
    }

    #[test]
    fn values_lie_where_the_axis_says_and_never_outside() {
        let scale = Scale::log(1.0, 100.0, |x| x.to_string());
        assert!((scale.share(10.0) - 0.5).abs() < 1e-9);
        assert_eq!((scale.share(0.0), scale.share(1e9)), (0.0, 1.0));
    }

    #[test]
    fn what_is_written_into_a_chart_is_escaped() {
        let mut chart =
            Chart::new("a < b", Scale::linear(1.0, |x| x.to_string()), "x", Scale::linear(1.0, |x| x.to_string()));
        chart.line("<script>", "a", &[(0.0, 0.0), (1.0, 1.0)]);
        let svg = chart.finish();
        assert!(svg.contains("a &lt; b") && svg.contains("&lt;script&gt;") && !svg.contains("<script>"));
    }

    #[test]
    fn of_many_points_the_peaks_stay() {
        let points: Vec<(f64, f64)> = (0..10_000u32).map(|i| (f64::from(i), f64::from(u8::from(i == 7_777)))).collect();
        let drawn = thinned(&points);
        assert!(drawn.len() <= POINTS_MAX && drawn.iter().any(|(_, y)| *y == 1.0));
    }
}
