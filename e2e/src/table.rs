//! A plain table for terminals: columns as wide as their longest cell, repeated leading cells left blank.

/// Renders rows under a header. In the first `grouped` columns a cell that equals the one above it is left out, as long as everything to its left
/// is equal too.
#[must_use]
pub fn render(header: &[&str], rows: &[Vec<String>], grouped: usize) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(header[column].chars().count())
    };
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let line = |cells: &[&str]| {
        let padded: Vec<_> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("  {}\n", padded.join("  ").trim_end())
    };
    let mut text = line(header);
    let rule: Vec<_> = widths.iter().map(|width| "─".repeat(*width)).collect();
    text += &line(&rule.iter().map(String::as_str).collect::<Vec<_>>());
    let mut above: &[String] = &[];
    for row in rows {
        let same = row.iter().zip(above).take(grouped).take_while(|(cell, above)| cell == above).count();
        let cells: Vec<_> =
            row.iter().enumerate().map(|(at, cell)| if at < same { "" } else { cell }).collect();
        text += &line(&cells);
        above = row;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn repeated_leading_cells_are_left_out() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [
            row(["n1", "e0", "p1"]),
            row(["n1", "e0", "p2"]),
            row(["n1", "e1", "p2"]),
            row(["n2", "e1", "p2"]),
        ];
        let expected = "  NODE  ENI  POD\n  ────  ───  ───\n  n1    e0   p1\n             p2\n        e1   p2\n  n2    e1   p2\n";
        assert_eq!(render(&["NODE", "ENI", "POD"], &rows, 2), expected);
    }
}
