//! The panes, in the order of their keys.

use clap::ValueEnum;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Pane {
    /// All in all, with what has become of it lately.
    Overview,
    /// Listeners, which plane serves each, and why.
    Listeners,
    /// Services: requests, errors, durations, endpoints.
    Clusters,
    /// Endpoints: health, and flows of the kernel plane.
    Endpoints,
    /// Routes, as they are in force.
    Routes,
    /// Flows in the kernel and connections in user space.
    Flows,
    /// What is wrong with documents, listeners and certificates.
    Findings,
}

impl Pane {
    /// All of them.
    pub(super) const ALL: [Self; 7] = [
        Self::Overview,
        Self::Listeners,
        Self::Clusters,
        Self::Endpoints,
        Self::Routes,
        Self::Flows,
        Self::Findings,
    ];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Listeners => "listeners",
            Self::Clusters => "clusters",
            Self::Endpoints => "endpoints",
            Self::Routes => "routes",
            Self::Flows => "flows",
            Self::Findings => "findings",
        }
    }

    /// Its place among all.
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// The one so many places further on, beginning anew behind the last.
    pub(super) fn after(self, places: usize) -> Self {
        Self::ALL[(self.index() + places) % Self::ALL.len()]
    }

    /// The one of a key.
    pub(super) fn of_key(key: char) -> Option<Self> {
        let number = key.to_digit(10)?.checked_sub(1)?;
        Self::ALL.get(number as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_go_round_and_have_a_key_each() {
        for (at, pane) in Pane::ALL.into_iter().enumerate() {
            assert_eq!(pane.index(), at);
            assert_eq!(Pane::of_key(char::from(b'1' + at as u8)), Some(pane));
        }
        assert_eq!(Pane::Findings.after(1), Pane::Overview);
        assert_eq!(Pane::Overview.after(6), Pane::Findings);
        assert_eq!([Pane::of_key('0'), Pane::of_key('8'), Pane::of_key('x')], [None; 3]);
    }
}
