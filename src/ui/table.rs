//! Plain tables: a heading in capitals, columns two spaces apart.

use console::{Term, measure_text_width, style};

/// Between columns.
const GAP: &str = "  ";
/// A column that is narrower isn't worth breaking lines for.
const LEAST_ROOM: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

#[derive(Debug)]
pub(crate) struct Table {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: impl IntoIterator<Item = (impl Into<String>, Align)>) -> Self {
        let (names, aligns) = columns.into_iter().map(|(name, align)| (name.into(), align)).unzip();
        Self { aligns, rows: vec![names] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The table's lines, each ended, for stdout.
    pub(crate) fn render(&self) -> String {
        let terminal = Term::stdout();
        self.render_within(terminal.size_checked().map(|(_, columns)| columns.into()))
    }

    /// Text of the last column that doesn't fit goes on below itself.
    fn render_within(&self, columns: Option<usize>) -> String {
        let width = |column: usize| self.rows.iter().map(|row| measure_text_width(&row[column])).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.aligns.len()).map(width).collect();
        let before: usize = widths.iter().rev().skip(1).map(|width| width + GAP.len()).sum();
        let is_text = self.aligns.last() == Some(&Align::Left);
        let room = columns.map(|columns| columns.saturating_sub(before)).filter(|room| is_text && *room >= LEAST_ROOM);
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let mut cells: Vec<String> = row.iter().zip(&widths).zip(&self.aligns).map(padded).collect();
            if let Some((room, last)) = room.zip(cells.last_mut()) {
                *last = textwrap::wrap(last.trim_end(), room).join(&format!("\n{}", " ".repeat(before)));
            }
            let line = cells.join(GAP);
            let line = line.trim_end();
            text += &if number == 0 { style(line).bold().to_string() } else { line.to_owned() };
            text.push('\n');
        }
        text
    }
}

fn padded(((cell, width), align): ((&String, &usize), &Align)) -> String {
    let gap = " ".repeat(width - measure_text_width(cell));
    if *align == Align::Left { format!("{cell}{gap}") } else { format!("{gap}{cell}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new([("TASK", Align::Left), ("Δ", Align::Right)]);
        table.row(["rte", "+4.3"]);
        table.row(["acceptability", "-10.0"]);
        console::set_colors_enabled(false);
        assert_eq!(table.render_within(None), "TASK               Δ\nrte             +4.3\nacceptability  -10.0\n");
    }

    #[test]
    fn long_text_goes_on_below_itself() {
        let mut table = Table::new([("STAGE", Align::Left), ("WHY", Align::Left)]);
        table.row(["student", "waits on predictions@rte; cached if the bytes stay the same"]);
        table.row(["onnx", "waits"]);
        console::set_colors_enabled(false);
        let narrow = "STAGE    WHY\nstudent  waits on predictions@rte;\n         cached if the bytes stay\n         the same\nonnx     waits\n";
        assert_eq!(table.render_within(Some(34)), narrow);
        assert_eq!(table.render_within(Some(20)).lines().count(), 3);
    }
}
