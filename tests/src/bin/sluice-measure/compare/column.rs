//! A column of the table, which is a member of the JSON and, if asked for, a panel of the plot.

/// One figure of each contender in each round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Name in the JSON.
    pub(crate) key: &'static str,
    /// Head in the table.
    pub(crate) head: &'static str,
    /// Title of its panel in the plot, if it has one.
    pub(crate) panel: Option<&'static str>,
    /// Digits behind the point.
    pub(crate) digits: usize,
    /// Whether the ratio to the routed way means something.
    pub(crate) ratio: bool,
}

/// One without ratio and panel.
pub(crate) const fn column(key: &'static str, head: &'static str, digits: usize) -> Column {
    Column { key, head, panel: None, digits, ratio: false }
}

impl Column {
    /// With a panel.
    pub(crate) const fn panel(mut self, title: &'static str) -> Self {
        self.panel = Some(title);
        self
    }

    /// With the ratio to the routed way.
    pub(crate) const fn ratio(mut self) -> Self {
        self.ratio = true;
        self
    }

    /// A figure as people read it.
    pub(crate) fn write(&self, value: f64) -> String {
        format!("{value:.*}", self.digits)
    }
}
