//! A part of a list, with how much there is of it.

use serde::Serialize;

use super::query::Query;

/// See the module.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<T> {
    /// Rows that the filter leaves.
    pub(super) total: usize,
    /// Rows before the first one here.
    pub(super) offset: usize,
    /// At most as many as were asked for.
    pub(super) rows: Vec<T>,
}

impl<T> Page<T> {
    /// Of rows that are wanted; only those on the page are made.
    pub(super) fn of<R>(query: &Query, wanted: impl Iterator<Item = R>, make: impl Fn(R) -> T) -> Self {
        let mut page = Self { total: 0, offset: query.offset, rows: Vec::new() };
        for row in wanted {
            if page.total >= query.offset && page.rows.len() < query.limit {
                page.rows.push(make(row));
            }
            page.total += 1;
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_rows_and_counts_the_others() {
        for (offset, limit, want) in [(0, 2, vec![0, 1]), (3, 2, vec![3, 4]), (4, 2, vec![4]), (9, 2, vec![])]
        {
            let query = Query { offset, limit, ..Query::default() };
            let page = Page::of(&query, 0..5, |row| row);
            assert_eq!((page.total, page.rows), (5, want), "{offset}");
        }
    }
}
