//! A chart as SVG text or as PNG pixels, from the same shapes.

use std::fmt::Write;

use ab_glyph::{Font, FontRef, OutlineCurve, ScaleFont};
use tiny_skia::{FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, StrokeDash, Transform};

use crate::chart::{Anchor, Chart, Colour, Shape};

/// Pixels for one unit of the chart: sharp on good screens.
const SCALE: f32 = 2.0;
const DASH: [f32; 2] = [6.0, 3.0];

pub(crate) fn svg(chart: &Chart) -> String {
    let (width, height) = (chart.width, chart.height);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" font-family=\"DejaVu Sans, Verdana, Helvetica, Arial, sans-serif\">\n<title>{}</title>\n",
        escaped(&chart.title)
    );
    for shape in &chart.shapes {
        // Writing to a String cannot fail.
        let _ = match shape {
            Shape::Box { left, top, width, height, fill } => writeln!(
                text,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"#{fill:06x}\"/>"
            ),
            Shape::Line { points, colour, width, dashed } => {
                let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                let dash =
                    if *dashed { format!(" stroke-dasharray=\"{} {}\"", DASH[0], DASH[1]) } else { String::new() };
                writeln!(
                    text,
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"#{colour:06x}\" stroke-width=\"{width}\" \
                     stroke-linejoin=\"round\"{dash}/>",
                    points.join(" ")
                )
            }
            Shape::Text { x, y, size, anchor, colour, bold, text: words } => {
                let anchor = match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                let weight = if *bold { " font-weight=\"bold\"" } else { "" };
                writeln!(
                    text,
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" \
                     fill=\"#{colour:06x}\"{weight}>{}</text>",
                    escaped(words)
                )
            }
        };
    }
    text + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

pub(crate) fn png(chart: &Chart) -> Result<Vec<u8>, String> {
    let trouble = |what: &str| format!("the plot cannot be painted ({what}); write it as .svg instead");
    let fonts = [dejavu::sans::regular(), dejavu::sans::bold()].map(FontRef::try_from_slice);
    let [Ok(regular), Ok(bold)] = fonts else { return Err(trouble("its font is broken")) };
    let size = |length: f32| (length * SCALE).round() as u32;
    let mut pixels = Pixmap::new(size(chart.width), size(chart.height)).ok_or_else(|| trouble("no memory"))?;
    let scaled = Transform::from_scale(SCALE, SCALE);
    for shape in &chart.shapes {
        match shape {
            Shape::Box { left, top, width, height, fill } => {
                if let Some(area) = Rect::from_xywh(*left, *top, *width, *height) {
                    pixels.fill_rect(area, &paint(*fill), scaled, None);
                }
            }
            Shape::Line { points, colour, width, dashed } => {
                let Some(path) = polyline(points) else { continue };
                let stroke = Stroke {
                    width: *width,
                    line_join: LineJoin::Round,
                    line_cap: if *dashed { LineCap::Butt } else { LineCap::Round },
                    dash: if *dashed { StrokeDash::new(DASH.into(), 0.0) } else { None },
                    ..Stroke::default()
                };
                pixels.stroke_path(&path, &paint(*colour), &stroke, scaled, None);
            }
            Shape::Text { x, y, size, anchor, colour, bold: is_bold, text } => {
                let font = if *is_bold { &bold } else { &regular };
                if let Some(path) = lettering(font, text, (*x, *y), *size, *anchor) {
                    pixels.fill_path(&path, &paint(*colour), FillRule::Winding, scaled, None);
                }
            }
        }
    }
    pixels.encode_png().map_err(|error| trouble(&error.to_string()))
}

fn paint(colour: Colour) -> Paint<'static> {
    let [_, red, green, blue] = colour.to_be_bytes();
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(red, green, blue, 255);
    paint
}

fn polyline(points: &[(f32, f32)]) -> Option<Path> {
    let (first, rest) = points.split_first()?;
    let mut path = PathBuilder::new();
    path.move_to(first.0, first.1);
    if rest.is_empty() {
        path.line_to(first.0 + 0.1, first.1);
    }
    rest.iter().for_each(|(x, y)| path.line_to(*x, *y));
    path.finish()
}

/// The outlines of a line of text that stands on `y`.
fn lettering(font: &FontRef<'_>, text: &str, (x, y): (f32, f32), size: f32, anchor: Anchor) -> Option<Path> {
    // ab_glyph's scale is ascent to descent, a font size is the em.
    let units = font.units_per_em()?;
    let scaled = font.as_scaled(size * font.height_unscaled() / units);
    let width: f32 = text.chars().map(|letter| scaled.h_advance(scaled.glyph_id(letter))).sum();
    let mut pen = match anchor {
        Anchor::Start => x,
        Anchor::Middle => x - width / 2.0,
        Anchor::End => x - width,
    };
    let unit = size / units;
    let mut path = PathBuilder::new();
    for letter in text.chars() {
        let glyph = scaled.glyph_id(letter);
        let place = |point: ab_glyph::Point| (pen + point.x * unit, y - point.y * unit);
        let mut end = None;
        for curve in font.outline(glyph).into_iter().flat_map(|outline| outline.curves) {
            let (from, to) = match curve {
                OutlineCurve::Line(from, to)
                | OutlineCurve::Quad(from, _, to)
                | OutlineCurve::Cubic(from, _, _, to) => (place(from), place(to)),
            };
            if end != Some(from) {
                path.move_to(from.0, from.1);
            }
            match curve {
                OutlineCurve::Line(..) => path.line_to(to.0, to.1),
                OutlineCurve::Quad(_, by, _) => path.quad_to(place(by).0, place(by).1, to.0, to.1),
                OutlineCurve::Cubic(_, by, and, _) => {
                    path.cubic_to(place(by).0, place(by).1, place(and).0, place(and).1, to.0, to.1);
                }
            }
            end = Some(to);
        }
        pen += scaled.h_advance(glyph);
    }
    path.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let text = "a < b & c".to_owned();
        let (x, y, size, anchor, colour, bold) = (50.0, 20.0, 12.0, Anchor::Middle, 0x00_00_00, true);
        Chart {
            width: 100.0,
            height: 40.0,
            title: "R & D".into(),
            shapes: vec![
                Shape::Box { left: 0.0, top: 0.0, width: 100.0, height: 40.0, fill: 0xff_ff_ff },
                Shape::Line { points: vec![(0.0, 30.0), (100.0, 30.0)], colour: 0xff_00_00, width: 2.0, dashed: false },
                Shape::Text { x, y, size, anchor, colour, bold, text },
            ],
        }
    }

    #[test]
    fn the_svg_has_every_shape_and_no_loose_markup() {
        let svg = svg(&chart());
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("<rect ") && svg.contains("<polyline ") && svg.contains(">a &lt; b &amp; c</text>"));
        assert!(svg.contains("<title>R &amp; D</title>"));
    }

    #[test]
    fn the_png_shows_the_same_letters_included() {
        let pixels = Pixmap::decode_png(&png(&chart()).unwrap()).unwrap();
        assert_eq!((pixels.width(), pixels.height()), (200, 80));
        let colour = |x, y| pixels.pixel(x, y).map(|it| (it.red(), it.green(), it.blue()));
        assert_eq!(colour(100, 60), Some((255, 0, 0)));
        assert_eq!(colour(2, 2), Some((255, 255, 255)));
        let dark = pixels.pixels().iter().filter(|it| it.red() < 60 && it.green() < 60).count();
        assert!(dark > 100, "{dark} dark pixels are no lettering");
    }
}
