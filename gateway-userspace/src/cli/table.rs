//! Tables and text on stdout.

use std::io::{self, Write};
use std::ops::ControlFlow;

/// Gap between columns, as istioctl's.
const GAP: usize = 3;

/// Left-aligned columns under their headings.
pub(super) fn render<'a>(columns: &[&str], rows: impl Iterator<Item = &'a [String]> + Clone) -> String {
    let mut widths: Vec<usize> = columns.iter().map(|heading| heading.chars().count()).collect();
    for row in rows.clone() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            // What clients and documents say must not move the cursor.
            text.extend(cell.chars().map(|character| if character.is_control() { '?' } else { character }));
            text.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count()));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(&mut columns.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    out
}

/// A line on stderr. Nobody is left to be told where it cannot be written.
pub(super) fn warn(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes to stdout; a reader that has seen enough (`| head`) is no error.
pub(super) fn print(text: &str) -> io::Result<()> {
    print_on(text).map(drop)
}

/// Writes to stdout, for one who has more to say: breaks off when the reader has seen enough.
pub(super) fn print_on(text: &str) -> io::Result<ControlFlow<()>> {
    print_bytes(text.as_bytes())
}

/// The same with what need not end where a character does.
pub(super) fn print_bytes(bytes: &[u8]) -> io::Result<ControlFlow<()>> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_cannot_write_on_the_terminal_by_itself() {
        let rows = [vec!["a\x1b[2J\nb".to_owned()]];
        assert_eq!(render(&["NAME"], rows.iter().map(Vec::as_slice)), "NAME\na?[2J?b\n");
    }

    #[test]
    fn columns_line_up_and_lines_do_not_end_in_spaces() {
        let rows = [vec!["a".to_owned(), String::new()], vec!["long cell".to_owned(), "x".to_owned()]];
        let text = render(&["NAME", "PORT"], rows.iter().map(Vec::as_slice));
        assert_eq!(text, "NAME        PORT\na\nlong cell   x\n");
    }
}
