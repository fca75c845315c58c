//! Plain tables: a heading in capitals, columns two spaces apart.

use console::{measure_text_width, style};

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
        let width = |column: usize| self.rows.iter().map(|row| measure_text_width(&row[column])).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.aligns.len()).map(width).collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).zip(&self.aligns).map(|((cell, width), align)| {
                let gap = " ".repeat(width - measure_text_width(cell));
                if *align == Align::Left { format!("{cell}{gap}") } else { format!("{gap}{cell}") }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            let line = line.trim_end();
            text += &if number == 0 { style(line).bold().to_string() } else { line.to_owned() };
            text.push('\n');
        }
        text
    }
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
        assert_eq!(table.render(), "TASK               Δ\nrte             +4.3\nacceptability  -10.0\n");
    }
}
