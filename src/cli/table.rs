//! Text for human eyes: tables and durations.

/// Columns under their heads, two spaces apart, numbers to the right.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
    };
    let is_number = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column)).filter(|cell| !cell.is_empty()).peekable();
        cells.peek().is_some() && cells.all(|cell| cell.bytes().all(|octet| octet.is_ascii_digit()))
    };
    let layout: Vec<(usize, bool)> = (0..heads.len()).map(|column| (width(column), is_number(column))).collect();

    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    let mut text = String::new();
    for row in [heads].iter().chain(&rows) {
        let cells = row.iter().zip(&layout).map(|(cell, (width, is_number))| match is_number {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Such as `3d 4h` or `12s`: the two largest units.
pub(super) fn duration(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", secs % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// What a peer has sent must not steer the operator's terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_aligns_text_left_and_numbers_right() {
        let rows = vec![vec!["alice".to_owned(), "7".to_owned()], vec!["bob\x1b[2J".to_owned(), "123".to_owned()]];
        assert_eq!(table(&["user", "count"], &rows), "user     count\nalice        7\nbob\u{fffd}[2J    123\n");
    }

    #[test]
    fn a_duration_shows_its_two_largest_units() {
        assert_eq!([12, 61, 3_700, 273_601].map(duration), ["12s", "1m 1s", "1h 1m", "3d 4h"]);
    }
}
