//! A plot of latency against load as SVG: both axes labelled, time on a logarithmic scale, each curve named at its end.

use std::fmt::{self, Write};

const WIDTH: f64 = 840.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = WIDTH - 84.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = HEIGHT - 64.0;
/// Told apart by those who see few colours, too.
const COLOURS: [&str; 4] = ["#0072b2", "#009e73", "#d55e00", "#cc79a7"];
/// The least distance from one name to the next.
const LINE: f64 = 16.0;

/// One curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name.
    pub name: &'static str,
    /// Messages a second, and microseconds.
    pub points: Vec<(f64, f64)>,
}

/// The plot, a whole SVG document.
pub fn svg(title: &str, curves: &[Curve]) -> String {
    let mut svg = String::new();
    draw(&mut svg, title, curves).expect("a String takes all that is written to it");
    svg
}

fn draw(svg: &mut String, title: &str, curves: &[Curve]) -> fmt::Result {
    let scale = Scale::of(curves);
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">"#
    )?;
    writeln!(svg, r##"<g font-family="sans-serif" font-size="13" fill="#333">"##)?;
    writeln!(svg, r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>"##)?;
    writeln!(svg, r#"<text x="{LEFT}" y="30" font-size="16" font-weight="bold">{}</text>"#, escaped(title))?;
    for (us, is_decade) in scale.times() {
        let (y, grey) = (scale.y(us), if is_decade { "#bbb" } else { "#e8e8e8" });
        writeln!(svg, r#"<line x1="{LEFT}" y1="{y:.1}" x2="{RIGHT}" y2="{y:.1}" stroke="{grey}"/>"#)?;
        if is_decade {
            let (x, y) = (LEFT - 8.0, y + 4.5);
            writeln!(svg, r#"<text x="{x}" y="{y:.1}" text-anchor="end">{}</text>"#, time(us))?;
        }
    }
    for rate in scale.rates() {
        let (x, y) = (scale.x(rate), BOTTOM + 20.0);
        writeln!(svg, r##"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{BOTTOM}" stroke="#e8e8e8"/>"##)?;
        writeln!(svg, r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{}</text>"#, grouped(rate))?;
    }
    let (x, y) = ((LEFT + RIGHT) / 2.0, HEIGHT - 16.0);
    writeln!(svg, r#"<text x="{x}" y="{y}" text-anchor="middle">messages a second</text>"#)?;
    let y = (TOP + BOTTOM) / 2.0;
    writeln!(
        svg,
        r#"<text x="20" y="{y}" text-anchor="middle" transform="rotate(-90 20 {y})">latency, logarithmic</text>"#
    )?;
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<String> =
            curve.points.iter().map(|&(rate, us)| format!("{:.1},{:.1}", scale.x(rate), scale.y(us))).collect();
        writeln!(svg, r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#, points.join(" "))?;
        for &(rate, us) in &curve.points {
            writeln!(svg, r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"/>"#, scale.x(rate), scale.y(us))?;
        }
    }
    let ends: Vec<(f64, f64)> = curves.iter().filter_map(|curve| curve.points.last().copied()).collect();
    let heights = apart(ends.iter().map(|&(_, us)| scale.y(us)).collect());
    for ((curve, colour), (y, (rate, _))) in curves.iter().zip(COLOURS.iter().cycle()).zip(heights.iter().zip(&ends)) {
        let (x, y) = (scale.x(*rate) + 10.0, y + 4.5);
        writeln!(
            svg,
            r#"<text x="{x:.1}" y="{y:.1}" fill="{colour}" font-weight="bold">{}</text>"#,
            escaped(curve.name)
        )?;
    }
    writeln!(svg, "</g>\n</svg>")
}

/// Where on the sheet a rate and a time are.
struct Scale {
    most: f64,
    step: f64,
    /// Powers of ten of microseconds.
    decades: (i32, i32),
}

impl Scale {
    fn of(curves: &[Curve]) -> Self {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let most = points().map(|point| point.0).fold(1.0, f64::max);
        let shortest = points().map(|point| point.1).fold(f64::INFINITY, f64::min).clamp(1.0, 1e9);
        let longest = points().map(|point| point.1).fold(shortest, f64::max);
        let first = shortest.log10().floor() as i32;
        let last = (longest.log10().ceil() as i32).max(first + 1);
        let step = round_step(most / 6.0);
        Self { most: (most / step).ceil() * step, step, decades: (first, last) }
    }

    fn x(&self, rate: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * rate / self.most
    }

    fn y(&self, us: f64) -> f64 {
        let (first, last) = (f64::from(self.decades.0), f64::from(self.decades.1));
        let height = (us.max(1e-3).log10() - first) / (last - first);
        BOTTOM - (BOTTOM - TOP) * height.clamp(0.0, 1.0)
    }

    /// Where there are lines, and whether at a power of ten.
    fn times(&self) -> impl Iterator<Item = (f64, bool)> {
        let (first, last) = self.decades;
        let within =
            (first..last).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| (digit * 10_f64.powi(power), digit == 1.0)));
        within.chain([(10_f64.powi(last), true)])
    }

    fn rates(&self) -> impl Iterator<Item = f64> {
        (0..=(self.most / self.step).round() as u32).map(|number| f64::from(number) * self.step)
    }
}

/// The least of 1, 2 and 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|&step| step >= least).unwrap_or(10.0 * power)
}

/// The heights moved down until each has a line of its own.
fn apart(mut heights: Vec<f64>) -> Vec<f64> {
    let mut order: Vec<usize> = (0..heights.len()).collect();
    order.sort_by(|&one, &other| heights[one].total_cmp(&heights[other]));
    for pair in order.windows(2) {
        heights[pair[1]] = heights[pair[1]].max(heights[pair[0]] + LINE);
    }
    heights
}

fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", us / 1e6),
        us if us >= 1e3 => format!("{} ms", us / 1e3),
        us => format!("{us} µs"),
    }
}

/// With a comma at each third digit.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let comma_before = |at: usize| at > 0 && (digits.len() - at).is_multiple_of(3);
    digits.char_indices().flat_map(|(at, digit)| comma_before(at).then_some(',').into_iter().chain([digit])).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_logarithmic_and_rates_linear() {
        let scale = Scale::of(&[Curve { name: "p50", points: vec![(1_000.0, 20.0), (42_000.0, 3_000.0)] }]);
        assert_eq!((scale.decades, scale.step, scale.most), ((1, 4), 10_000.0, 50_000.0));
        assert_eq!((scale.y(10.0), scale.y(10_000.0)), (BOTTOM, TOP));
        assert!((scale.y(100.0) - scale.y(1_000.0) - (BOTTOM - TOP) / 3.0).abs() < 1e-9);
        assert_eq!((scale.x(0.0), scale.x(50_000.0)), (LEFT, RIGHT));
    }

    #[test]
    fn a_plot_has_its_curves_and_their_names_and_is_well_formed() {
        let curve = |name, us| Curve { name, points: vec![(100.0, us), (200.0, 2.0 * us)] };
        let svg = svg("<forward>", &[curve("p50", 30.0), curve("p99", 30.0)]);
        assert_eq!(svg.matches("<polyline ").count(), 2);
        assert_eq!(svg.matches("<circle ").count(), 4);
        assert!(svg.contains(">&lt;forward&gt;</text>") && svg.contains(">p99</text>"), "{svg}");
        assert!(svg.contains("messages a second") && svg.contains("latency, logarithmic"), "{svg}");
        assert!(!svg.contains("NaN") && svg.ends_with("</svg>\n"), "{svg}");
    }

    #[test]
    fn names_that_would_lie_upon_each_other_are_moved_apart() {
        assert_eq!(apart(vec![100.0, 50.0, 101.0]), [100.0, 50.0, 116.0]);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([999.0, 1_000.0, 1_234_567.0].map(grouped), ["999", "1,000", "1,234,567"]);
    }
}
