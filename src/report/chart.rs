//! Line charts and reliability diagrams, as SVG. Lines differ in dashes too, not in colour alone.

use maud::{Markup, html};

use super::calibration::Calibration;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;
/// Lines that have a colour and dashes of their own; as many more are drawn thick.
const STYLES: usize = 8;

fn style(kind: &str, at: usize) -> String {
    let weight = if at / STYLES % 2 == 1 { " thick" } else { "" };
    format!("{kind} s{}{weight}", at % STYLES)
}

pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) points: &'a [(f64, f64)],
}

/// Lines over one axis; `told` says what they show to those who don't see it.
pub(super) fn lines(title: &str, told: &str, lines: &[Line<'_>]) -> Markup {
    let all = || lines.iter().flat_map(|line| line.points);
    let (low_x, high_x) = range(all().map(|point| point.0));
    let (low_y, high_y) = range(all().map(|point| point.1));
    let x = |value: f64| LEFT + (value - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - (value - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM);
    html! {
        figure {
            figcaption { (title) }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(told) {
                @for tick in ticks(low_y, high_y) {
                    line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(place(y(tick))) y2=(place(y(tick))) {}
                    text.tick x=(LEFT - 6.0) y=(place(y(tick) + 4.0)) text-anchor="end" { (figure(tick)) }
                }
                @for tick in ticks(low_x, high_x) {
                    text.tick x=(place(x(tick))) y=(HEIGHT - 6.0) text-anchor="middle" { (figure(tick)) }
                }
                @for (at, line) in lines.iter().enumerate() {
                    @let points: Vec<String> = line.points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
                    polyline class=(style("line", at)) points=(points.join(" ")) {}
                    @if line.points.len() < 20 {
                        @for point in line.points {
                            circle class=(style("dot", at)) cx=(place(x(point.0))) cy=(place(y(point.1))) r="2.5" {}
                        }
                    }
                }
            }
            @if lines.len() > 1 {
                ul.legend {
                    @for (at, line) in lines.iter().enumerate() {
                        li {
                            svg viewBox="0 0 28 10" width="28" height="10" aria-hidden="true" {
                                line class=(style("line", at)) x1="1" x2="27" y1="5" y2="5" {}
                            }
                            (line.name)
                        }
                    }
                }
            }
        }
    }
}

/// Accuracy over confidence, with the diagonal on which a calibrated model lies; a mark's area grows with its rows.
pub(super) fn reliability(title: &str, calibration: &Calibration) -> Markup {
    let x = |value: f64| LEFT + value * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM);
    let all: usize = calibration.bins.iter().map(|bin| bin.rows).sum();
    let bins = calibration.bins.iter().map(|bin| {
        format!("{:.0}% sure, {:.0}% right, {} rows", bin.mean_confidence * 100.0, bin.accuracy * 100.0, bin.rows)
    });
    let told = format!("Reliability of {title}: {}", bins.collect::<Vec<_>>().join("; "));
    html! {
        figure {
            figcaption { (title) " · ECE " (format!("{:.1}", calibration.expected_error * 100.0)) }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(told) {
                @for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
                    line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(place(y(tick))) y2=(place(y(tick))) {}
                    text.tick x=(LEFT - 6.0) y=(place(y(tick) + 4.0)) text-anchor="end" { (figure(tick * 100.0)) "%" }
                    text.tick x=(place(x(tick))) y=(HEIGHT - 6.0) text-anchor=(if tick == 1.0 { "end" } else { "middle" }) { (figure(tick * 100.0)) "%" }
                }
                line.diagonal x1=(place(x(0.0))) y1=(place(y(0.0))) x2=(place(x(1.0))) y2=(place(y(1.0))) {}
                @for bin in &calibration.bins {
                    @let radius = 2.0 + 8.0 * (bin.rows as f64 / all as f64).sqrt();
                    circle.bin cx=(place(x(bin.mean_confidence))) cy=(place(y(bin.accuracy))) r=(place(radius)) {}
                }
            }
        }
    }
}

fn place(at: f64) -> String {
    format!("{at:.1}")
}

/// Least and greatest value, apart from each other.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    match high - low {
        width if width > 0.0 => (low, high),
        0.0 => (low - 0.5, high + 0.5),
        // No value at all.
        _ => (0.0, 1.0),
    }
}

/// Three to six round values between two others.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|round| round * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|tick| tick as f64 * step).collect()
}

/// `0.25`, `1,000`, `5e-5`.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.001 => format!("{:e}", (value * 1e9).round() / 1e9),
        size if size >= 1000.0 => crate::ui::units::count(value as u64),
        _ => format!("{}", (value * 1000.0).round() / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_lie_within() {
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(ticks(0.0, 999.0), [0.0, 250.0, 500.0, 750.0]);
        assert_eq!(ticks(3.0, 7.0), [3.0, 4.0, 5.0, 6.0, 7.0]);
    }

    #[test]
    fn figures() {
        assert_eq!([0.0, 0.25, 1000.0, 5e-5, 12.0].map(figure), ["0", "0.25", "1,000", "5e-5", "12"]);
    }

    #[test]
    fn a_flat_line_and_no_line_have_a_range() {
        assert_eq!(range([2.0, 2.0].into_iter()), (1.5, 2.5));
        assert_eq!(range(std::iter::empty()), (0.0, 1.0));
    }
}
