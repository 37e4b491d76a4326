//! The picture: panels with one line per side over the number of pods, with bars from the 10th to the 90th percentile. Plain SVG, readable on
//! light and dark pages.

use crate::layouts::Layout;
use crate::rounds::{BySide, Point, Side};
use crate::run::{Results, Routing};
use crate::samples::Samples;
use std::fmt::Write as _;

const PANEL: (f64, f64) = (330.0, 240.0);
const COLUMNS: usize = 3;
/// Room for titles and axes within a panel: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (52.0, 14.0, 46.0, 34.0);
const SPUR: &str = "#0a7d55";
const OTHER: &str = "#c2410c";

/// One line: its label, colour and value at each place of the x axis.
struct Line {
    label: &'static str,
    colour: &'static str,
    points: Vec<(u32, Samples)>,
}

struct Panel {
    title: String,
    lines: Vec<Line>,
}

/// The whole picture.
#[must_use]
pub fn svg(results: &Results) -> String {
    let panels = panels(results);
    let rows = panels.len().div_ceil(COLUMNS);
    #[expect(clippy::cast_precision_loss, reason = "a handful of panels")]
    let (width, height) = (PANEL.0 * COLUMNS as f64, PANEL.1 * rows as f64);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (at, panel) in panels.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a handful of panels")]
        let (x, y) = ((at % COLUMNS) as f64 * PANEL.0, (at / COLUMNS) as f64 * PANEL.1);
        let _ = writeln!(text, "<g transform=\"translate({x} {y})\">\n{}</g>", draw(panel));
    }
    text + "</svg>\n"
}

fn panels(results: &Results) -> Vec<Panel> {
    let mut panels = Vec::new();
    for (verb, pick) in
        [("ADD", (|point: &Point| &point.add) as fn(&Point) -> &BySide), ("DEL", |point| &point.del)]
    {
        for at_once in [1, results.plan.at_once] {
            let way = if at_once == 1 { "one".to_owned() } else { format!("{at_once} at once") };
            let line = |label, colour, side| Line {
                label,
                colour,
                points: results
                    .points
                    .iter()
                    .filter(|point| point.at_once == at_once)
                    .map(|point| (point.pods, pick(point).of(side).clone()))
                    .collect(),
            };
            panels.push(Panel {
                title: format!("{verb}, {way}: ms"),
                lines: vec![line("Spur", SPUR, Side::Spur), line("ptp + host-local", OTHER, Side::Reference)],
            });
        }
    }
    panels.push(layouts(results, "route lookup: ns", |routing| &routing.to_pod));
    panels.push(layouts(results, "pod to pod: packets/s", |routing| &routing.packets));
    panels
}

fn layouts(results: &Results, title: &str, pick: fn(&Routing) -> &Samples) -> Panel {
    let line = |label, colour, layout| Line {
        label,
        colour,
        points: results
            .layouts
            .iter()
            .filter(|point| point.layout == layout)
            .map(|point| (point.pods, pick(&point.routing).clone()))
            .collect(),
    };
    Panel {
        title: title.to_owned(),
        lines: vec![line("Spur", SPUR, Layout::PodsTable), line("rules per pod", OTHER, Layout::RulesPerPod)],
    }
}

/// The part of a panel in which lines are, and how values become places: logarithmic upwards, one step per number of pods across.
struct Frame {
    low: f64,
    high: f64,
    steps: usize,
}

impl Frame {
    fn of(panel: &Panel) -> Self {
        let values = panel.lines.iter().flat_map(|line| &line.points).flat_map(|(_, samples)| {
            let (low, high) = samples.spread();
            [low, high, samples.median()]
        });
        let (low, high) = values
            .filter(|value| value.is_finite() && *value > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let steps = panel.lines.iter().map(|line| line.points.len()).max().unwrap_or(1).max(2);
        if low > high {
            return Self { low: 1.0, high: 10.0, steps };
        }
        Self { low: low / 1.5, high: high * 1.5, steps }
    }

    fn x(&self, step: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a handful of steps")]
        let share = (step as f64 + 0.5) / self.steps as f64;
        MARGIN.0 + share * (PANEL.0 - MARGIN.0 - MARGIN.1)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value.clamp(self.low, self.high) / self.low).ln() / (self.high / self.low).ln();
        PANEL.1 - MARGIN.3 - share * (PANEL.1 - MARGIN.2 - MARGIN.3)
    }

    /// 1, 2 and 5 of each power of ten that are in the frame.
    fn ticks(&self) -> Vec<f64> {
        let steps = (-3..9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
        steps.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }
}

fn draw(panel: &Panel) -> String {
    let frame = Frame::of(panel);
    let mut text = format!("<text x=\"{}\" y=\"18\" font-size=\"13\">{}</text>\n", MARGIN.0, panel.title);
    let right = PANEL.0 - MARGIN.1;
    for tick in frame.ticks() {
        let y = frame.y(tick);
        let _ = writeln!(
            text,
            "<path d=\"M{} {y:.1}H{right}\" stroke=\"#dddddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            MARGIN.0,
            MARGIN.0 - 5.0,
            y + 4.0,
            short(tick)
        );
    }
    if let Some(line) = panel.lines.first() {
        for (step, (pods, _)) in line.points.iter().enumerate() {
            let _ = writeln!(
                text,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{pods}</text>",
                frame.x(step),
                PANEL.1 - 17.0
            );
        }
    }
    let _ = writeln!(
        text,
        "<text x=\"{right}\" y=\"{}\" text-anchor=\"end\" fill=\"#666666\">pods on the node</text>",
        PANEL.1 - 4.0
    );
    for (at, line) in panel.lines.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "two lines")]
        let x = MARGIN.0 + 90.0 * at as f64;
        let _ = writeln!(text, "<text x=\"{x}\" y=\"34\" fill=\"{}\">● {}</text>", line.colour, line.label);
        text += &draw_line(&frame, line);
    }
    text
}

fn draw_line(frame: &Frame, line: &Line) -> String {
    let colour = line.colour;
    let (mut path, mut marks) = (String::new(), String::new());
    for (step, (_, samples)) in line.points.iter().enumerate().filter(|(_, (_, samples))| !samples.is_empty())
    {
        let (x, y) = (frame.x(step), frame.y(samples.median()));
        let (low, high) = samples.spread();
        let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { "L" });
        let _ = writeln!(
            marks,
            "<path d=\"M{x:.1} {:.1}V{:.1}\" stroke=\"{colour}\" stroke-opacity=\"0.5\" stroke-width=\"3\"/><circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>",
            frame.y(low),
            frame.y(high)
        );
    }
    format!("<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n{marks}")
}

fn short(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", value / 1e6)
    } else if value >= 1e3 {
        format!("{}k", value / 1e3)
    } else {
        // Sums of powers of ten have no exact binary form.
        format!("{}", (value * 1e3).round() / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_values_are_higher_and_ticks_lie_within() {
        let points = vec![(0, [1.0].into_iter().collect()), (10, [100.0].into_iter().collect())];
        let panel = Panel { title: "x".to_owned(), lines: vec![Line { label: "a", colour: SPUR, points }] };
        let frame = Frame::of(&panel);
        assert!(frame.y(100.0) < frame.y(1.0));
        assert_eq!(frame.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert_eq!(draw(&panel).matches("<circle").count(), 2);
    }

    #[test]
    fn nothing_measured_draws_an_empty_panel() {
        let line = Line { label: "a", colour: SPUR, points: vec![(0, Samples::default())] };
        let text = draw(&Panel { title: "x".to_owned(), lines: vec![line] });
        assert!(!text.contains("NaN") && !text.contains("<circle"));
    }

    #[test]
    fn ticks_are_written_short() {
        assert_eq!([0.5, 20.0, 5000.0, 2e6].map(short), ["0.5", "20", "5k", "2M"]);
    }
}
